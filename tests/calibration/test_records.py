"""The store beyond putting and getting: what records say, locks, collection, archives, clocks."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import subprocess
import sys
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labctl_calibration.procedure import Quantity
from labctl_calibration.store import NAME_LENGTH, About, DriftEvent, RecordStore
from labctl_calibration.store.archive import export_records, import_records
from labctl_calibration.store.collecting import collect, collectable, raw_policy

from labctl.devices import CalibrationRecord, ConfigError, DataError, Identity

ANY = st.floats(allow_nan=True, allow_infinity=True)
LIMIT = st.none() | st.floats(allow_nan=False)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=9)
QUANTITIES = st.builds(Quantity, WORDS, ANY, ANY, WORDS, LIMIT, LIMIT, WORDS)
ABOUTS = st.builds(
    About,
    rig=WORDS, identity=st.none() | st.builds(Identity, WORDS, WORDS, WORDS, WORDS, st.booleans()),
    code_version=WORDS, temperature_c=st.none() | st.floats(-50, 90), operator=WORDS,
    valid_s=st.floats(0, allow_infinity=True), quantities=st.lists(QUANTITIES, max_size=3).map(tuple),
    findings=st.lists(WORDS, max_size=2).map(tuple), overrides=st.dictionaries(WORDS, WORDS, max_size=2),
    residuals=st.dictionaries(st.sampled_from("abc"), st.just(np.arange(3.0)), max_size=2),
)  # fmt: skip


def record(kind="panel", serial="A1", second=5, value=1.0, upstream=()):
    return CalibrationRecord(
        kind=kind, device_serial=serial, taken_at=f"2026-01-02T03:04:{second:02d}+00:00",
        arrays={"x": np.full(3, value)}, upstream=tuple(upstream),
    )  # fmt: skip


def same(ours, theirs):
    return ours == theirs or (ours != ours and theirs != theirs)


@given(about=ABOUTS, raw=st.booleans())
def test_all_that_a_record_says_comes_back(tmp_path_factory, about, raw):
    store = RecordStore(tmp_path_factory.mktemp("records"))
    readings = {"frames": np.arange(4, dtype=np.uint16)} if raw else {}
    name = store.put(record(), about, readings, keep_raw="all")
    again = RecordStore(store.folder).get(name).about
    for field in ("rig", "identity", "code_version", "temperature_c", "operator", "valid_s", "findings"):
        assert getattr(again, field) == getattr(about, field)
    assert again.overrides == about.overrides
    assert set(again.residuals) == set(about.residuals)
    for ours, theirs in zip(again.quantities, about.quantities, strict=True):
        for field in ("name", "value", "sd", "unit", "low", "high", "words"):
            assert same(getattr(ours, field), getattr(theirs, field))
        assert ours.accepted == theirs.accepted
    kept = store.raw(name)
    assert (kept is not None) == raw
    assert json.loads(store.head_path(name).read_text(), parse_constant=lambda _: pytest.fail("no JSON"))


@given(st.data())
def test_any_changed_byte_is_found(tmp_path_factory, data):
    store = RecordStore(tmp_path_factory.mktemp("records"))
    about = About(quantities=(Quantity("q", 1.0, 0.1),), residuals={"r": np.ones(2)})
    name = store.put(record(), about, {"frames": np.arange(4)}, keep_raw="all")
    path = data.draw(st.sampled_from([store.head_path(name), store.arrays_path(name), store.raw_path(name)]))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=path.name.replace(".", r"\.")):
        store.raw(name)


def test_raw_readings_can_go_and_the_id_stays(tmp_path):
    with_raw, without = RecordStore(tmp_path / "a"), RecordStore(tmp_path / "b")
    frames = {"frames": np.arange(9)}
    name = with_raw.put(record(), None, frames, keep_raw="last")
    assert without.put(record(), None, frames, keep_raw="none") == name
    np.testing.assert_array_equal(with_raw.raw(name)["frames"], np.arange(9))
    assert without.raw(name) is None
    collect(with_raw, collectable(with_raw, raw="none"))
    assert with_raw.raw(name) is None
    assert with_raw.get(name).about.raw_sha256


def test_a_record_of_format_1_is_read(tmp_path):
    store = RecordStore(tmp_path)
    name = store.put(record())
    head = json.loads(store.head_path(name).read_text())
    del head["about"]
    text = json.dumps({**head, "format": 1}, indent=1, sort_keys=True)
    store.head_path(name).unlink()
    old = hashlib.sha256(text.encode()).hexdigest()
    store.head_path(old).write_text(text)
    store.arrays_path(name).rename(store.arrays_path(old))
    found = store.newest("panel", "A1")
    assert found.id == old
    assert found.about.identity is None
    assert math.isinf(found.about.valid_s)


def test_a_beginning_is_enough_for_one_record(tmp_path):
    store = RecordStore(tmp_path)
    names = [store.put(record(value=float(k))) for k in range(40)]
    assert store.get(names[0][:12]).id == names[0]
    first = max({name[0] for name in names}, key=lambda c: sum(name[0] == c for name in names))
    with pytest.raises(DataError, match=f"records begin with '{first}'"):
        store.get(first)


def test_what_rests_on_a_later_record_is_refused(tmp_path):
    store = RecordStore(tmp_path)
    below = store.put(record(second=9))
    with pytest.raises(DataError, match="was the clock set back"):
        store.put(record(kind="rows", second=8, upstream=[below]))
    store.put(record(kind="rows", second=9, upstream=[below]))


@pytest.mark.parametrize("name", ["a/b", "file", ""])
def test_a_name_that_no_file_holds_is_refused(tmp_path, name):
    wrong = CalibrationRecord("k", "s", "2026-01-02T03:04:05+00:00", {name: np.ones(1)})
    with pytest.raises(ConfigError, match="allowed: a name"):
        RecordStore(tmp_path).put(wrong)


def test_a_read_only_store_is_one_error_and_leaves_nothing_half(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    store = RecordStore(tmp_path)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match="cannot be written: Read-only file system"):
        store.put(record())
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


def test_who_holds_the_store_is_named(tmp_path):
    store = RecordStore(tmp_path)
    code = (
        "import sys; from pathlib import Path; from labctl.holding import Holding\n"
        f"stem = str(Path({str(tmp_path)!r}) / '.calibrating-x')\n"
        "held = Holding(Path(stem + '.lock'), Path(stem + '.holder')); held.acquire(1)\n"
        "print('in', flush=True); sys.stdin.read(); held.release()"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as other:  # fmt: skip
        assert other.stdout.readline() == "in\n"
        with (
            pytest.raises(DataError, match=rf"(?s)in use by process {other.pid} \(.*\) since 20"),
            store.turn(0.0, what="calibrating-x"),
        ):
            pass
        store.put(record())  # writing is another right
        other.communicate("")


def test_what_is_needed_stays(tmp_path):
    """In use, upstream of that, and what runs name; oldest things first to go."""
    store = RecordStore(tmp_path)
    panels = [store.put(record(second=k), None, {"f": np.ones(k + 1)}, keep_raw="all") for k in range(4)]
    rows = store.put(record(kind="rows", second=10, upstream=[panels[1]]))
    what = collectable(store)
    assert [one.id for one in what.records] == [panels[0], panels[2]]
    assert [one.id for one in what.raw] == [panels[1]]
    assert what.kept == 3
    assert [one.id for one in collectable(store, referenced=[panels[0]]).records] == [panels[2]]
    (tmp_path / "x.npz.12.part").write_bytes(b"half")
    before = {path.name for path in tmp_path.iterdir()}
    what = collectable(store)
    assert {path.name for path in tmp_path.iterdir()} == before
    collect(store, what)
    assert {one.id for one in store.all()} == {panels[1], panels[3], rows}
    assert not list(tmp_path.glob("*.part"))
    assert what.bytes > 0
    with pytest.raises(ConfigError, match="allowed: none, last, all"):
        raw_policy("some")


def test_records_go_elsewhere_and_come_back(tmp_path):
    here, there = RecordStore(tmp_path / "here"), RecordStore(tmp_path / "there")
    panel = here.put(record(second=1), None, {"f": np.arange(3)}, keep_raw="all")
    rows = here.put(record(kind="rows", second=2, upstream=[panel]))
    here.put(record(kind="else", second=3))
    file = tmp_path / "two.zip"
    assert [one.id for one in export_records(here, [rows], file)] == [panel, rows]
    with pytest.raises(DataError, match="is there already"):
        export_records(here, [rows], file)
    with pytest.raises(DataError, match="is of A1; allowed: devices of this rig, Z9"):
        import_records(there, file, {"Z9"})
    assert not there.folder.exists()
    assert [one.id for one in import_records(there, file, {"A1"})] == [panel, rows]
    assert import_records(there, file, None) == ()
    np.testing.assert_array_equal(there.raw(panel)["f"], np.arange(3))
    assert there.get(rows).record.upstream == (panel,)


def test_an_archive_that_was_changed_brings_nothing_in(tmp_path):
    here, there = RecordStore(tmp_path / "here"), RecordStore(tmp_path / "there")
    name = here.put(record(), None, {"f": np.arange(3)}, keep_raw="all")
    export_records(here, [name], tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as good:
        content = {info: good.read(info) for info in good.namelist()}
    for changed in content:
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
            for info, data in content.items():
                bad.writestr(info, data.replace(b"A1", b"A2") if info.endswith("json") else data)
                if info == changed and not info.endswith("json"):
                    bad.writestr("stray", b"")
        with pytest.raises(DataError, match=r"bad\.zip"):
            import_records(there, tmp_path / "bad.zip", None)
    without = [info for info in content if info == f"{name[:NAME_LENGTH]}.json"]
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        for info in without:
            bad.writestr(info, content[info])
    with pytest.raises(DataError, match="sha256 differs"):
        import_records(there, tmp_path / "bad.zip", None)
    (tmp_path / "none.zip").write_text("no")
    with pytest.raises(DataError, match="is no archive"):
        import_records(there, tmp_path / "none.zip", None)
    assert not there.folder.exists()


def test_drift_events_are_kept_in_order(tmp_path):
    store = RecordStore(tmp_path)
    events = [DriftEvent("rows", "A1", datetime(2026, 1, k, tzinfo=UTC).isoformat(), "moved") for k in (1, 2)]
    for event in events:
        store.note_drift(event)
    assert store.drift_events() == tuple(events)
    with (tmp_path / "drift.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(DataError, match="line 3 is no event"):
        store.drift_events()
