"""Records in a folder: what went in comes out, what changed is refused, the newest is in use."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from labctl_calibration.closed_loop import Rows
from labctl_calibration.rows_record import curve_of, rows_record, trims_of
from labctl_calibration.store import NAME_LENGTH, RecordStore

from labctl.devices import CalibrationMissing, CalibrationRecord, DataError, Identity
from labctl.physics import FittedCurve

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
NAMES = st.text("abcdefghijklmnop_", min_size=1, max_size=8).filter(lambda name: name != "file")
ARRAYS = st.one_of(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=4)),
    hnp.arrays(np.int64, hnp.array_shapes(max_dims=2, max_side=4)),
    hnp.arrays(np.bool_, hnp.array_shapes(max_dims=1, max_side=4)),
)
SETTINGS = st.dictionaries(NAMES, st.one_of(st.booleans(), st.integers(-(2**40), 2**40), WORDS), max_size=3)


def record(kind="panel", serial="A1", taken_at="2026-01-02T03:04:05+00:00", value=1.0, **more):
    return CalibrationRecord(
        kind=kind, device_serial=serial, taken_at=taken_at, arrays={"x": np.full(3, value)}, **more
    )


def assert_same(ours, theirs):
    for name in ("kind", "device_serial", "taken_at", "upstream"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert dict(ours.settings) == dict(theirs.settings)
    assert set(ours.arrays) == set(theirs.arrays)
    for name, value in theirs.arrays.items():
        assert ours.arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(ours.arrays[name], value)


@given(
    kind=WORDS, serial=WORDS, arrays=st.dictionaries(NAMES, ARRAYS, max_size=3), settings=SETTINGS,
    upstream=st.lists(WORDS, max_size=2),
)  # fmt: skip
def test_a_record_comes_back_as_it_was_put(tmp_path_factory, kind, serial, arrays, settings, upstream):
    put = CalibrationRecord(
        kind=kind, device_serial=serial, taken_at="2026-01-02T03:04:05+00:00", arrays=arrays,
        settings=settings, upstream=tuple(upstream),
    )  # fmt: skip
    store = RecordStore(tmp_path_factory.mktemp("records"))
    name = store.put(put)
    again = RecordStore(store.folder)
    assert_same(again.get(name).record, put)
    assert again.get(name).id == name
    found = again.newest(kind, serial)
    assert found is not None
    assert found.id == name


def test_a_record_is_kept_once(tmp_path):
    store = RecordStore(tmp_path / "new" / "folder")
    assert store.put(record()) == store.put(record())
    assert len([path for path in store.folder.iterdir() if not path.name.startswith(".")]) == 2
    assert store.put(record(value=2.0)) != store.put(record())


def test_the_newest_of_a_kind_and_a_device_is_in_use(tmp_path):
    store = RecordStore(tmp_path)
    assert store.newest("panel", "A1") is None
    times = ["2026-01-02T03:04:05+00:00", "2026-03-01T00:00:00+00:00", "2025-12-31T23:59:59+00:00"]
    names = [store.put(record(taken_at=time)) for time in times]
    store.put(record(serial="B2", taken_at="2027-01-01T00:00:00+00:00"))
    store.put(record(kind="rows", taken_at="2027-01-01T00:00:00+00:00"))
    found = store.newest("panel", "A1")
    assert found is not None
    assert found.id == names[1]
    assert store.newest("panel", "C3") is None
    assert RecordStore(tmp_path / "nowhere").newest("panel", "A1") is None


def test_a_record_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(CalibrationMissing, match="has no calibration record ffff"):
        RecordStore(tmp_path).get("f" * 64)


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_a_changed_file_is_refused(tmp_path, suffix):
    store = RecordStore(tmp_path)
    name = store.put(record())
    path = tmp_path / f"{name[:NAME_LENGTH]}.{suffix}"
    if suffix == "json":
        path.write_text(path.read_text().replace('"A1"', '"A2"'))
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=path.name):
        store.get(name)
    if suffix == "npz":
        with pytest.raises(DataError, match="sha256 differs"):
            store.newest("panel", "A1")
    else:
        with pytest.raises(DataError, match="not the record it was stored as"):
            store.newest("panel", "A2")


def test_a_record_without_its_arrays_is_refused(tmp_path):
    store = RecordStore(tmp_path)
    name = store.put(record())
    (tmp_path / f"{name[:NAME_LENGTH]}.npz").unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        store.get(name)


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_what_is_no_record_is_named(tmp_path, text):
    (tmp_path / "other.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"other\.json: is not a calibration record"):
        RecordStore(tmp_path).newest("panel", "A1")


def test_a_format_of_later_days_is_refused(tmp_path):
    store = RecordStore(tmp_path)
    path = tmp_path / f"{store.put(record())[:NAME_LENGTH]}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    with pytest.raises(DataError, match="format is 9; allowed: 1, 2"):
        store.newest("panel", "A1")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        RecordStore(tmp_path / "file" / "records").put(record())


def drawn_rows(n=6):
    rng = np.random.default_rng(0)
    vectors = [torch.from_numpy(rng.uniform(0.9, 1.1, n)) for _ in range(4)]
    curve = FittedCurve(*vectors, torch.tensor(2.7).double(), torch.tensor(0.4).double())
    return Rows(*(rng.normal(size=n) for _ in range(5)), curve, rng.uniform(size=n))


def test_rows_go_through_a_record_and_a_store(tmp_path):
    rows = drawn_rows()
    identity = Identity("vendor", "electronics", "E7", "1.0", True)
    made = rows_record(identity, rows, upstream=("abc",))
    store = RecordStore(tmp_path)
    kept = store.get(store.put(made)).record
    assert_same(kept, made)
    assert (kept.device_serial, kept.upstream) == ("E7", ("abc",))
    trims, curve = trims_of(kept), curve_of(kept)
    for ours, theirs in (
        (trims.leak_scale, rows.leak_scale), (trims.leak_offset, rows.leak_offset),
        (trims.gain_scale, rows.gain_scale), (trims.offset_units, rows.offset_units),
        (trims.light_offset_units, rows.light_offset),
    ):  # fmt: skip
        np.testing.assert_array_equal(ours, theirs)
    for name in ("reach", "scale", "shift", "slope", "knee", "mix"):
        ours, theirs = getattr(curve, name), getattr(rows.curve, name)
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_array_equal(kept.array("fit_residual_units"), rows.residual)
