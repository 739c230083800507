"""A DLPC900 whose wire misbehaves: what the driver does is stated, and the mirrors end dark."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from labctl_drivers.dlpc900.dmd import Dlpc900DMD
from labctl_sim_devices import DmdTwin, OpticalBench, load_profile
from labctl_sim_devices.wires.dlpc900 import Dlpc900Face
from labctl_sim_devices.wires.faults import MISBEHAVIOURS, FaultLayer

from labctl.devices import DeviceError, DeviceFault, DeviceTimeout, DeviceUnavailable

# waited for to the end where nothing comes; a twin takes its time, too, and more on a busy machine
WAITED = ("late", "silent", "truncated", "busy")
HURRY = {"timeout_s": 1.5, "open_timeout_s": 4.5, "lock_wait_s": 0.2}
PATIENT = {"timeout_s": 8.0, "open_timeout_s": 24.0, "lock_wait_s": 0.2}
LATE_S = 1.8  # longer than the driver in a hurry waits
DARK_S = 10.0  # for what was commanded and not waited for
# days side by side: where nothing comes any more, a day is waiting and hardly anything else
AT_WORK, AT_WAITING = 2, 10
WITHIN = 20  # of so many answers one is hit: opening and both frames are among them
# where reports do otherwise than the table asks of any wire
BY_PROTOCOL = {
    # each report out brings one back, and more than one on the way is out of step with the questions
    ("duplicate", "lasting"): (DeviceFault,),
    ("garbage", "lasting"): (DeviceFault,),
    # nothing comes back, three times: on a line that has no word for busy that is silence
    ("busy", "once"): (DeviceTimeout,),
    # a report has no checksum of its own (on USB every packet has): the answer's data may be damaged
    ("corrupted", "lasting"): (DeviceFault, DeviceTimeout, DeviceUnavailable, "answered"),
    # at the first opening nobody was there before; the tag's number tells the boxes apart from then on
    ("other-box", "once"): (DeviceUnavailable, "answered"),
    ("other-box", "lasting"): (DeviceUnavailable, "answered"),
}


@pytest.fixture(scope="module")
def bench():
    """Mirrors that all faces take in turn."""
    return OpticalBench(load_profile("dmd"))


@pytest.fixture(scope="module")
def side_by_side():
    """Plays days at once, each on mirrors of its own: (play(bench, case), cases, how many)."""
    benches = [OpticalBench(load_profile("dmd")) for _ in range(AT_WAITING)]

    def played(day, cases, at_once):
        free = queue.SimpleQueue()
        for bench in benches[:at_once]:
            free.put(bench)

        def one(case):
            bench = free.get()
            try:
                return day(bench, case)
            finally:
                free.put(bench)

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(one, cases))

    return played


def frames(shape):
    first = np.zeros(shape, np.uint16)
    first[: shape[0] // 2] = 1
    return first, 1 - first


def play(bench, fault, seed, *, lasting):
    """(outcome, the fault layer, seconds): "answered", or the kind of error that ended the day."""
    layer = FaultLayer(fault, seed=seed, lasting=lasting, within=WITHIN, late_s=LATE_S)
    twin = DmdTwin("mirrors", bench)
    face = Dlpc900Face(twin, threading.RLock(), faults=layer)
    wire = face.start()
    driver = Dlpc900DMD("dmd", wire.address, **{**wire.settings, **(HURRY if fault in WAITED else PATIENT)})
    outcome, failed, notes, begun = "answered", None, "", time.monotonic()
    try:
        driver.open()
        for frame in frames(twin.spec.shape_px):
            driver.show(frame)
            np.testing.assert_array_equal(twin.shown(), frame)
            np.testing.assert_array_equal(driver.shown(), frame)
    except DeviceError as error:
        outcome, failed = type(error), error
    if failed is not None:
        assert str(failed).startswith("dmd: ")
        assert driver.address in str(failed)
        assert failed.wire is not None
    try:
        driver.close()
    except DeviceError as error:
        outcome = type(error) if outcome == "answered" else outcome
        notes = " ".join(getattr(error, "__notes__", ()))
        until_s = time.monotonic() + DARK_S
        while fault != "other-box" and twin.shown().any() and time.monotonic() < until_s:
            time.sleep(0.05)
    took_s = time.monotonic() - begun
    assert not driver.is_open
    assert not notes or "its safe state was commanded, without an answer" in notes
    assert not (notes and fault == "other-box"), "another box was driven"
    face.stop()
    if outcome == "answered" or fault != "other-box":  # another box is left alone
        assert not twin.shown().any()
    twin.close()
    return outcome, layer, took_s


def check(bench, fault, seed, how):
    row, lasting = MISBEHAVIOURS[fault], how == "lasting"
    allowed = BY_PROTOCOL.get((fault, how), row.lasting if lasting else row.once)
    outcome, layer, took_s = play(bench, fault, seed, lasting=lasting)
    assert outcome in (allowed if layer.struck else ("answered",)), (fault, seed, how)
    assert took_s < 120
    return layer.struck


@pytest.mark.parametrize("fault", [fault for fault in MISBEHAVIOURS if fault not in WAITED])
def test_the_stated_behaviour(bench, fault):
    assert check(bench, fault, 1, "once")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["once", "lasting"])
@pytest.mark.parametrize("fault", MISBEHAVIOURS)
@pytest.mark.timeout(600)
def test_the_stated_behaviour_every_time(side_by_side, fault, how):
    ends_waiting = fault == "busy" or (fault in WAITED and how == "lasting")
    at_once = AT_WAITING if ends_waiting else AT_WORK
    side_by_side(lambda bench, seed: check(bench, fault, seed, how), range(20), at_once)
