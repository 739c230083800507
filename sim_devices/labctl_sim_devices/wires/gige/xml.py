"""The GenICam description of the camera: GenApi XML (schema 1.1), made from the table of features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from labctl_sim_devices.wires.gige.features import CATEGORIES, CHUNKS, FEATURES, Chunk, Feature

_LOCK = "TLParamsLocked"
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<RegisterDescription ModelName="SimulatedCamera" VendorName="labctl" ToolTip="Simulated camera"
 StandardNameSpace="GEV" SchemaMajorVersion="1" SchemaMinorVersion="1" SchemaSubMinorVersion="0"
 MajorVersion="1" MinorVersion="0" SubMinorVersion="0" ProductGuid="0b2f5d0e-5f0c-4b57-9d3a-6b6a53c1d001"
 VersionGuid="0b2f5d0e-5f0c-4b57-9d3a-6b6a53c1d002" xmlns="http://www.genicam.org/GenApi/Version_1_1"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:schemaLocation="http://www.genicam.org/GenApi/Version_1_1 GenApiSchema_Version_1_1.xsd">"""


@dataclass(frozen=True)
class Described:
    """What one camera adds to the table: addresses, limits and entries (name to value) of its features."""

    addresses: Mapping[str, int]
    limits: Mapping[str, tuple[float, float]]
    entries: Mapping[str, Mapping[str, int]]


def description(camera: Described) -> str:
    """The whole document."""
    parts = [_HEAD, _category("Root", CATEGORIES)]
    chunk_names = tuple(chunk.name for chunk in CHUNKS)
    for category in CATEGORIES:
        names = tuple(f.name for f in FEATURES if f.category == category)
        more = {"ChunkDataControl": chunk_names, "TransportLayerControl": (_LOCK,)}.get(category, ())
        parts.append(_category(category, names + more))
    parts.append(_node("Integer", _LOCK, "<Visibility>Invisible</Visibility><Value>0</Value>"))
    for feature in FEATURES:
        parts += [_feature(feature, camera), _register(feature, camera.addresses[feature.name])]
    for chunk in CHUNKS:
        parts += _chunk(chunk)
    parts.append('<Port Name="Device" NameSpace="Standard"/>')
    return "\n".join([*parts, "</RegisterDescription>", ""])


def _node(tag: str, name: str, body: str) -> str:
    return f'<{tag} Name="{name}" NameSpace="Standard">{body}</{tag}>'


def _category(name: str, features: tuple[str, ...]) -> str:
    return _node("Category", name, "".join(f"<pFeature>{feature}</pFeature>" for feature in features))


def _feature(feature: Feature, camera: Described) -> str:
    f = feature
    body = f"<Description>{escape(f.about)}</Description>" if f.about else ""
    body += f"<pIsLocked>{_LOCK}</pIsLocked>" if f.locked else ""
    if f.kind == "String":
        return ""  # its register is the feature
    value = f"<pValue>{f.name}Reg</pValue>"
    if f.kind == "Command":
        return _node("Command", f.name, f"{body}{value}<CommandValue>{_order(f)}</CommandValue>")
    if f.kind == "Boolean":
        return _node("Boolean", f.name, f"{body}{value}<OnValue>1</OnValue><OffValue>0</OffValue>")
    if f.kind == "Enumeration":
        entries = "".join(
            f'<EnumEntry Name="{entry}" NameSpace="Standard"><Value>{number}</Value></EnumEntry>'
            for entry, number in camera.entries[f.name].items()
        )
        selected = "".join(f"<pSelected>{name}</pSelected>" for name in f.selects)
        return _node("Enumeration", f.name, body + entries + value + selected)
    low, high = camera.limits.get(f.name, (f.low, f.high))
    limits = "" if low is None else f"<Min>{_number(f, low)}</Min>"
    limits += "" if high is None else f"<Max>{_number(f, high)}</Max>"
    unit = f"<Unit>{f.unit}</Unit>" if f.unit else ""
    return _node(f.kind, f.name, body + value + limits + unit)


def _order(feature: Feature) -> int:
    return 2 if feature.name == "GevTimestampControlLatch" else 1


def _number(feature: Feature | Chunk, value: float) -> str:
    return str(int(value)) if feature.kind == "Integer" else repr(float(value))


def _register(feature: Feature, address: int) -> str:
    f = feature
    about = f"<Description>{escape(f.about)}</Description>" if f.about and f.kind == "String" else ""
    body = f"{about}<Address>0x{address:X}</Address><Length>{f.size}</Length>"
    body += f"<AccessMode>{f.access}</AccessMode><pPort>Device</pPort>"
    if f.kind == "String":
        return _node("StringReg", f.name, body)
    body += "<Cachable>NoCache</Cachable>"
    return _number_register(f.name + "Reg", "FloatReg" if f.kind == "Float" else "IntReg", body)


def _number_register(name: str, tag: str, body: str) -> str:
    sign = "<Sign>Unsigned</Sign>" if tag == "IntReg" else ""
    return f'<{tag} Name="{name}">{body}{sign}<Endianess>BigEndian</Endianess></{tag}>'


def _chunk(chunk: Chunk) -> list[str]:
    port, register = f"{chunk.name}Port", f"{chunk.name}Reg"
    unit = f"<Unit>{chunk.unit}</Unit>" if chunk.unit else ""
    about = f"<Description>{escape(chunk.about)}</Description>"
    body = f"<Address>0x0</Address><Length>8</Length><AccessMode>RO</AccessMode><pPort>{port}</pPort>"
    return [
        _node(chunk.kind, chunk.name, f"{about}<pValue>{register}</pValue>{unit}"),
        _number_register(register, "FloatReg" if chunk.kind == "Float" else "IntReg", body),
        f'<Port Name="{port}"><ChunkID>{chunk.code:X}</ChunkID></Port>',
    ]
