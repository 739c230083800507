"""Runs on a board with records: compensated, the records named, the codes kept; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration.oscillators.fitted import KINDS
from labctl_calibration.store import RecordStore

from labctl import load_protocol, open_rig, run
from labctl.devices import CalibrationRecord, ConfigError, DataError
from labctl.procedures import replay
from labctl.runlog import RunReader


def protocol(model, **settings):
    return load_protocol("generate_digits", {"model": str(model), "samples": 40, **settings})


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A folder with records that say of `oscillator-rough` what is true, as no procedure could."""
    folder = tmp_path_factory.mktemp("calibrations")
    with open_rig("oscillator-rough") as rig:
        unit, n = rig.world.unit, rig.oscillators.spec.n
        serial = rig.identities["board"].serial
        arrays = (
            {
                "detuning_units": unit.detuning, "trim_gain": np.ones(n), "alive": np.ones(n),
                "trim_codes": np.zeros(n), "trimmed_units": unit.detuning,
            },
            {
                "skew_rad": unit.read_skew_rad, "skew_rad_sd": np.zeros(n),
                "bow_sine_rad": unit.read_bow_rad[:, 0], "bow_cosine_rad": unit.read_bow_rad[:, 1],
                "read_noise_rad": np.zeros(n), "reference_noise_rad": np.zeros(()),
            },
            {
                "gain": 1 + unit.injection_gain, "gain_sd": np.zeros(n),
                "phase_rad": unit.injection_phase_rad, "phase_rad_sd": np.zeros(n),
            },
            {
                "gain": unit.coupling_gain, "offset_units": unit.coupling_offset, "bow_even": unit.bow_even,
                "bow_odd": unit.bow_odd, "dead": unit.dead, "lag_rad": unit.lag_rad, "supply": unit.supply,
            },
        )  # fmt: skip
    store = RecordStore(folder)
    for kind, content in zip(KINDS, arrays, strict=True):
        store.put(CalibrationRecord(kind, serial, "2026-11-23T00:00:00.000+00:00", content))
    return folder


def test_a_calibrated_board_is_nearer_to_what_its_program_means(generator_file, records, tmp_path) -> None:
    made, named = {}, {}
    for name, how in (("raw", {"compensated": False}), ("calibrated", {})):
        with open_rig("oscillator-rough", records=records, **how) as rig:
            result = run(protocol(generator_file, noise_scale=0), rig, out=tmp_path)
            made[name] = result.samples
            with RunReader(result.file) as reader:
                named[name] = str(reader.header.numerics.get("records", ""))
            file = result.file
    with open_rig("oscillator-ideal") as rig:
        wanted = run(protocol(generator_file, noise_scale=0), rig, out=tmp_path).samples
    raw, calibrated = (np.sqrt(np.mean((made[name] - wanted) ** 2)) for name in ("raw", "calibrated"))
    assert calibrated < raw / 2
    assert named["raw"] == ""
    assert len(named["calibrated"].split()) == 4
    assert len(list(records.glob("compensated-*.npz"))) == 1
    replay(file, out=tmp_path / "again", records=records)  # raises where it comes out otherwise


def test_other_boards_than_the_one_on_record_are_refused(generator_file, records, tmp_path) -> None:
    for key, value in (("board", 3), ("mismatch", 0.5)):
        with (
            open_rig("oscillator-rough", records=records) as rig,
            pytest.raises(ConfigError, match=f"{key} is .* or no compensation"),
        ):
            run(protocol(generator_file, **{key: value}), rig, out=tmp_path)


def test_a_kept_program_that_is_none_is_refused(generator_file, records, tmp_path) -> None:
    with open_rig("oscillator-rough", records=records) as rig:
        run(protocol(generator_file), rig, out=tmp_path)
    kept = next(records.glob("compensated-*.npz"))
    whole = kept.read_bytes()
    kept.write_bytes(b"no archive")
    with (
        open_rig("oscillator-rough", records=records) as rig,
        pytest.raises(DataError, match="is no compensated program"),
    ):
        run(protocol(generator_file), rig, out=tmp_path)
    kept.write_bytes(whole)
