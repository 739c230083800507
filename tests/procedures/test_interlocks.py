"""Interlocks and overrides in a run: looked at before, during and after, and kept in the file."""

from __future__ import annotations

import numpy as np
import pytest

from labctl import load_protocol, run
from labctl.devices import InputDrive, InterlockTripped, LimitExceeded, Limits
from labctl.procedures import Watcher
from labctl.rig import Rig, load_rig
from labctl.rig import interlocks as looking
from labctl.rig.interlocks import InterlockConfig
from labctl.runlog import RunReader

SMALL = {"samples": 12, "audit": 0, "reference": 50}
LIGHT = {"ma_per_unit": 4.0, "pedestal_units": 1.1}
COOL = InterlockConfig(
    name="cool", device="emitters", reading="temperature_c", low=5.0, high=45.0, frozen_s=0.0
)


@pytest.fixture
def protocol():
    return load_protocol("sample_moons", SMALL)


def bench(**tables: object):
    return load_rig("optical-twin").model_copy(update={"interlock": (COOL,), **tables})


def heat(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emitters' thermometer reads 60 degrees from now on."""
    monkeypatch.setattr(rig.device(InputDrive), "_do_temperature_c", lambda: 60.0)


class Heating(Watcher):
    """Heats the bench after a settle, or once a panel is done."""

    def __init__(self, rig, monkeypatch, settle: int | None) -> None:
        self.rig, self.monkeypatch, self.settle = rig, monkeypatch, settle

    def settled(self, report) -> None:
        if report.index == self.settle:
            heat(self.rig, self.monkeypatch)

    def panel_done(self, panel) -> None:
        if self.settle is None:
            heat(self.rig, self.monkeypatch)


def test_before_a_run_nothing_is_written(protocol, tmp_path, monkeypatch) -> None:
    rig = Rig(bench()).open()
    heat(rig, monkeypatch)
    with pytest.raises(
        InterlockTripped, match=r"before the run: interlock cool: .* is 60\.0; allowed: 5 to 45"
    ):
        run(protocol, rig, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    assert rig.devices == {}, "closed"


@pytest.mark.parametrize(("settle", "moment"), [(1, "during the run"), (None, "after the run")])
def test_during_and_after_a_run_the_file_says_so_and_the_rig_is_safe(
    protocol, tmp_path, monkeypatch, settle, moment
) -> None:
    monkeypatch.setattr(looking, "INTERVAL_S", 0.0 if settle is not None else 1e9)
    rig = Rig(bench()).open()
    with pytest.raises(InterlockTripped, match=moment):
        run(protocol, rig, out=tmp_path, watcher=Heating(rig, monkeypatch, settle))
    assert rig.devices == {}
    assert not rig.world.emitted_units.any(), "dark"
    (file,) = tmp_path.iterdir()
    with RunReader(file) as made:
        assert made.status == "failed"
        assert "interlock cool" in made.exit_reason
        if settle is not None:
            assert settle < made.panel().n_steps < 5


def test_an_override_is_named_in_the_file_with_what_it_let_pass(protocol, tmp_path) -> None:
    limited = bench(limits=Limits(total_ma=400.0, light=LIGHT))
    with pytest.raises(LimitExceeded, match="total_ma"), Rig(limited) as rig:
        run(protocol, rig, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with Rig(limited, overrides=["total_ma: the supply was changed"]) as rig:
        made = run(protocol, rig, out=tmp_path)
    with RunReader(made.file) as file:
        assert file.header.overrides == {"total_ma": "the supply was changed"}
        assert file.metrics["passed_total_ma"] == "up to 403.2"


def test_limits_that_are_kept_change_no_bit(protocol, tmp_path) -> None:
    limited = bench(limits=Limits(total_ma=500.0, temperature_c=45.0, light=LIGHT))
    samples = []
    for config in (load_rig("optical-twin"), limited):
        with Rig(config) as rig:
            samples.append(run(protocol, rig, out=tmp_path).samples)
    np.testing.assert_array_equal(*samples)
