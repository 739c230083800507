"""Small helpers that put NeXus groups, attributes and arrays into an HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from labctl.devices import RunLogError, Scalar
from labctl.runlog.columns import create_growing, text_type

PACKED: Mapping[str, Any] = {"shuffle": True, "compression": "gzip", "compression_opts": 1}
METRIC_NAME_BYTES = 80
METRIC_TEXT_BYTES = 240
_PACK_FROM = 64  # smaller arrays are not worth a chunk index


def add_group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    """A group of a NeXus class; `signal`, `axes` and `default` go in as attributes."""
    group = parent.create_group(name)
    add_attributes(group, {"NX_class": nx_class, **attributes})
    return group


def add_attributes(target: Any, attributes: Mapping[str, Any]) -> None:
    """Set attributes, leaving out empty text."""
    for name, value in attributes.items():
        if not (isinstance(value, str) and value == ""):
            target.attrs[name] = value


def add_settings(group: h5py.Group, name: str, settings: Mapping[str, Scalar]) -> None:
    """A group whose attributes are the settings; none where there are no settings."""
    if settings:
        add_attributes(add_group(group, name, "NXcollection"), dict(settings))


def read_settings(group: h5py.Group, name: str = "settings") -> dict[str, Scalar]:
    """What `add_settings` wrote under that name."""
    if name not in group:
        return {}
    attributes = group[name].attrs
    return {str(key): _plain(attributes[key]) for key in attributes if key != "NX_class"}


def _plain(value: Any) -> Scalar:
    plain = value.item() if isinstance(value, np.generic) else value
    return decoded(plain) if isinstance(plain, bytes) else plain


def add_note(parent: h5py.Group, name: str, text: str, media: str, description: str) -> None:
    """An NXnote: a text with its media type."""
    note = add_group(parent, name, "NXnote")
    note["type"] = media
    note["description"] = description
    note["data"] = text


def add_array(group: h5py.Group, name: str, values: Any, shape: Sequence[int]) -> h5py.Dataset:
    """A fixed array of the expected shape; floats as float64, large arrays packed."""
    array = np.asarray(values)
    if array.shape != tuple(shape):
        raise RunLogError(f"run plan: {group.name}/{name} has shape {array.shape}; expected {tuple(shape)}")
    if array.dtype.kind == "f":
        array = array.astype("<f8")
    packing = PACKED if array.size > _PACK_FROM else {}
    return group.create_dataset(name, data=array, **packing)


def add_text_slot(group: h5py.Group, name: str, length: int, text: str = "") -> None:
    """A text of fixed length that can be rewritten while others read."""
    group.create_dataset(name, data=np.bytes_(text.encode()), dtype=text_type(length))


def add_metrics(entry: h5py.Group) -> None:
    """An empty table of metrics: name, value (NaN for a text), text."""
    metrics = add_group(entry, "metrics", "NXcollection")
    create_growing(metrics, "name", (), text_type(METRIC_NAME_BYTES), b"")
    create_growing(metrics, "value", (), np.dtype("<f8"), float("nan"))
    create_growing(metrics, "text", (), text_type(METRIC_TEXT_BYTES), b"")


def decoded(value: Any) -> str:
    """Text from whatever HDF5 returned."""
    return value.decode() if isinstance(value, bytes) else str(value)


def fresh(dataset: h5py.Dataset) -> h5py.Dataset:
    """The dataset as its writer last flushed it."""
    dataset.id.refresh()
    return dataset


def read_metrics(entry: h5py.Group) -> dict[str, Scalar]:
    """The metrics of an entry as name -> number or text."""
    group = entry["metrics"]
    names, values, texts = (fresh(group[name])[...] for name in ("name", "value", "text"))
    found: dict[str, Scalar] = {}
    for name, value, text in zip(names, values, texts, strict=False):
        found[decoded(name)] = _as_scalar(float(value), decoded(text))
    return found


def _as_scalar(value: float, text: str) -> Scalar:
    if text in ("True", "False"):
        return text == "True"
    if text.removeprefix("-").isdecimal() and value == float(int(text)):
        return int(text)
    return text if np.isnan(value) and text != "nan" else value
