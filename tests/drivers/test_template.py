"""The driver to copy, and a test to copy with it: what goes over the wire, and every fault by name."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest
from labctl_drivers.lines import Row
from labctl_drivers.template import TemplateLaser
from labctl_sim_devices.instruments import InstrumentBench, LaserTwin
from labctl_sim_devices.wires.faults import MISBEHAVIOURS, FaultLayer
from labctl_sim_devices.wires.template import TemplateFace

from labctl.devices import DeviceError, DeviceFault, DeviceTimeout, DeviceUnavailable

HURRY = {"timeout_s": 0.4, "open_timeout_s": 3.0, "lock_wait_s": 0.2}
LATE_S = 0.6  # longer than the driver waits
# lines without checksum or number: an old answer is believed where it fits the question, a damaged digit, too
IN_BARE_TEXT = {
    "previous": ("answered", DeviceFault),
    "corrupted": ("answered", DeviceFault, DeviceTimeout, DeviceUnavailable),
    "duplicate": ("answered", DeviceFault),
    "garbage": ("answered", DeviceFault, DeviceTimeout, DeviceUnavailable),
}
BELIEVED = ("previous", "corrupted")  # whose values cannot be vouched for


@pytest.fixture
def bench():
    return InstrumentBench(seed=0, noise_scale=0.0)


@pytest.fixture
def served(bench):
    """Factory: the driver, unopened, of a laser behind these faults."""
    faces = []

    def make(faults=None, **settings):
        face = TemplateFace(LaserTwin("laser", bench), threading.RLock(), faults=faults)
        faces.append(face)
        return TemplateLaser("laser", face.start().address, **{**HURRY, **settings})

    yield make
    for face in faces:
        face.stop()


# of a driver in the table: @pytest.mark.dialogue("NAME", source="the manual, its edition and pages")
def test_what_goes_over_the_wire(served):
    laser = served()
    with laser:
        laser.set_power_mw(7.5)
        laser.emit(True)
        assert laser.emitting()
    exchanged = laser.wire_log.last()
    for line in (b"> POW 7.5000\n", b"< OK\n", b"> OUT 1\n", b"> OUT?\n", b"< 1\n", b"> OUT 0\n"):
        assert line in exchanged


def test_the_instruments_own_errors_are_told(served):
    laser = served(max_power_mw=50.0)  # the data sheet was copied wrongly
    with laser, pytest.raises(DeviceFault, match=r"it answers 2 .*allowed: 0 to 20"):
        laser.set_power_mw(30.0)


def play(served, bench, fault, *, lasting):
    layer = FaultLayer(fault, seed=1, lasting=lasting, within=6, late_s=LATE_S)
    laser = served(layer)
    outcome, failed = "answered", None
    try:
        laser.open()
        for power_mw in (5.0, 7.5, 2.25):
            laser.set_power_mw(power_mw)
            laser.emit(True)
            assert laser.power_mw() == power_mw or fault in BELIEVED
        assert bench.laser_mw == 2.25
    except DeviceError as error:
        outcome, failed = type(error), error
    if failed is not None:
        assert re.match(r"laser: (open|set_power_mw|emit|power_mw): ", str(failed))
        assert laser.address in str(failed)
    try:
        laser.close()
    except DeviceError as error:
        outcome = type(error) if outcome == "answered" else outcome
        time.sleep(0.1)  # off was commanded, and not waited for
    # another box is left alone, and so is one whose name comes damaged every time: it looks the same
    assert bench.laser_mw == 0.0 or fault == "other-box" or (fault == "corrupted" and lasting)
    return outcome, layer


CASES = [
    pytest.param(fault, how, marks=[pytest.mark.slow] if how == "lasting" else [])
    for fault in MISBEHAVIOURS
    for how in ("once", "lasting")
]


@pytest.mark.parametrize(("fault", "how"), CASES)
def test_each_fault_ends_as_stated(served, bench, fault, how):
    row = MISBEHAVIOURS[fault]
    allowed = IN_BARE_TEXT.get(fault, row.lasting if how == "lasting" else row.once)
    outcome, layer = play(served, bench, fault, lasting=how == "lasting")
    assert layer.struck
    assert outcome in allowed


def test_a_command_without_an_answer_is_not_waited_for(served):
    with served() as laser:
        ask = laser._exchange
        assert ask("set", lambda wire, deadline: wire.ask(Row("POW?"), deadline)) == ()
        time.sleep(0.1)  # its answer comes all the same: that is noticed, and the line put in order
        assert laser.power_mw() == 0.0
        with pytest.raises(DeviceFault, match=r"'0\.0000' is no answer to 'POW\?'"):
            ask("read", lambda wire, deadline: wire.ask(Row("POW?", "[a-z]+"), deadline))


def test_the_page_copies_files_that_are_there():
    root = Path(__file__).parents[2]
    page = (root / "docs/how-to/write-a-driver.md").read_text("utf-8")
    copied = re.findall(r"^cp (\S+) +(\S+)$", page, re.MULTILINE)
    assert len(copied) == 3
    for source, copy in copied:
        assert (root / source).is_file()
        assert (root / copy).parent == (root / source).parent
