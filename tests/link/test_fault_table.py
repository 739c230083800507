"""The table of wire faults holds: stated behaviour, safe state, no limit exceeded, nothing damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from inspect import isabstract

import numpy as np
import pytest
from fault_cases import (
    PLACES,
    SEEDS,
    BoardStand,
    CameraStand,
    DriveStand,
    ScreenStand,
    board_image,
    cases,
    play,
    problems,
    side_by_side,
)
from labctl_sim_devices import DmdTwin, OpticalBench, load_profile
from labctl_sim_devices.damage import BOARD_RATED_C
from labctl_sim_devices.instruments import GeneratorTwin, InstrumentBench, LaserTwin
from labctl_sim_devices.wires.faults import MISBEHAVIOURS
from labctl_sim_devices.wires.stated import HOWS, WIRES

from labctl.devices import RunCodes
from labctl.devices.instruments import Wave
from labctl.devices.limits import LimitValues

QUICK = ("corrupted", "previous", "duplicate", "empty-error", "believed")  # for ever, and soon over


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("pyvisa", reason="pyvisa is not installed")
    pytest.importorskip("serial", reason="pyserial is not installed")
    pytest.importorskip("viva_genicam", reason="viva-genicam is not installed")


def judged(played):
    """What was otherwise than stated, in a list of lines."""
    found = side_by_side(play, played)
    return [
        f"{case}: {problem}"
        for case, seen in zip(played, found, strict=True)
        for problem in problems(*case[:3], seen)
    ]


def test_every_wire_states_every_fault():
    assert set(PLACES) == set(WIRES)
    assert not [stand for stand in (DriveStand, BoardStand, CameraStand, ScreenStand) if isabstract(stand)]
    for wire, row in WIRES.items():
        assert set(row.because) <= {fault for fault, _ in row.otherwise}
        assert set(row.not_here) <= set(MISBEHAVIOURS)
        assert not {fault for fault, _ in row.otherwise} & set(row.not_here)
        assert {fault for fault, _ in cases(wire)} >= set(MISBEHAVIOURS) - set(row.not_here)
        assert bool(row.believed) != bool(row.unbelieved)
        for fault in row.faults():
            assert all(row.stated(fault, how) for how in HOWS)


@pytest.mark.parametrize("wire", PLACES)
def test_once_and_where_it_is_soon_over_for_ever(wire):
    rows = [row for row in cases(wire) if row[0] != "host-dies" and (row[1] == "once" or row[0] in QUICK)]
    if wire == "GigE control":  # each of hundreds of registers waits for the client's time-out
        rows = [row for row in rows if row != ("previous", "lasting")]
    assert judged([(wire, fault, how, 1) for fault, how in rows]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wire", "fault", "how"), [(wire, fault, how) for wire in PLACES for fault, how in cases(wire)]
)
@pytest.mark.timeout(1200)
def test_the_stated_behaviour_every_time(wire, fault, how):
    assert judged([(wire, fault, how, seed) for seed in SEEDS]) == []


# the counters count


def test_an_order_to_another_box_is_noticed(monkeypatch):
    """A driver that takes whoever answers: here it does."""
    monkeypatch.setattr("labctl_drivers.link.wired.require_same", lambda found, before: None)
    found = [play("SCPI socket", "other-box", "once", seed) for seed in (1, 2)]
    assert any(seen.driven for seen in found)
    assert any(
        "driven" in problem
        for seen in found
        for problem in problems("SCPI socket", "other-box", "once", seen)
    )


def test_what_comes_below_the_guard_is_counted(no_damage):
    """More than the limits allow, given to the emitters themselves: no guard and no driver in between."""
    stand = DriveStand("socket", None)
    twin = stand.twin
    twin.open()
    codes = np.full((1, 48), 500)  # 2.44 mA a channel, limits 2 mA and 90 mA in total
    twin.drive(codes)
    stand.stop()
    assert [event.quantity for event in stand.damage.violations] == ["channel_ma", "total_ma"]
    assert stand.damage.violations[0].value == pytest.approx(500 * 20 / 4095)
    assert not no_damage  # a limit lies below what breaks


@pytest.mark.parametrize("stand", [lambda: DriveStand("socket", None), lambda: BoardStand(None)])
def test_the_wrong_number_would_be_dangerous(stand):
    """What `believed` sends would exceed a limit, if the driver believed it: here it does."""
    made = stand()
    driver = made.driver
    driver.open()
    if isinstance(made, DriveStand):
        spec = driver.spec
        wrong = driver._described.spec.__class__(**{**vars(spec), "full_scale_ma": 2.00})
        object.__setattr__(driver._described, "spec", wrong)
    else:
        driver._do_temperature_c = lambda: BoardStand.COOL_C
    made.risk()
    driver.close()
    made.stop()
    assert made.damage.violations


@pytest.mark.damages
def test_parts_that_are_too_hot_or_driven_too_hard_break(no_damage):
    bench = OpticalBench(load_profile("adm", {"temperature_c": 90.0}))
    bench.strain("drive", np.full((1, 48), 0.5))
    board = BoardStand(None)
    twin = board._twin
    twin.open()
    twin.load(board_image(twin.spec))
    twin._bench.temperature_c = lambda: BOARD_RATED_C + 1
    twin.run(RunCodes(np.arange(1)))
    board.stop()
    instruments = InstrumentBench()
    laser, generator = LaserTwin("laser", instruments), GeneratorTwin("generator", instruments)
    laser.open()
    generator.open()
    laser._do_set_power_mw(31.0)
    laser.emit(True)
    generator._do_set_wave(1, Wave("sine", 1e3, 16.0, 0.0))
    generator.output(1, True)
    quantities = ["temperature (°C)", "temperature (°C)", "power (mW)", "voltage (V)"]
    assert [event.quantity for event in no_damage] == quantities
    assert bench.damage.alive.sum() == 47


def test_mirrors_that_are_on_too_much_are_counted():
    bench = OpticalBench(load_profile("dmd"))
    bench.damage.limits = LimitValues(mirror_duty=0.5)
    mirrors = DmdTwin("mirrors", bench)
    mirrors.open()
    shape = bench.profile.panel_shape_px
    mirrors.show(np.ones(shape, np.uint16))
    mirrors.show_sequence(np.stack([np.ones(shape, np.uint16), np.zeros(shape, np.uint16)]), [330.0, 110.0])
    assert [event.value for event in bench.damage.violations] == [1.0, 0.75]


def test_a_program_that_ends_without_closing_leaves_a_dark_bench():
    """pyvisa closes its connections when the interpreter ends: the safe state comes before that."""
    stand = DriveStand("socket", None)
    code = (
        "import numpy as np\n"
        "from labctl_drivers.scpi.input_drive import ScpiInputDrive\n"
        f"drive = ScpiInputDrive('drive', {stand.address!r})\n"
        "drive.open()\n"
        "drive.drive(np.full((1, 48), 100))\n"
        "print(drive.snapshot()['total_current_ma'])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    stand.stop()
    assert float(told.stdout) > 20
    assert told.stderr == ""
    assert stand.safe()
