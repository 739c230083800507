"""A serial line that misbehaves: what the driver does is stated, and a wrong value is never believed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from labctl_drivers.serial_board import SerialOscillatorBoard
from labctl_sim_devices import OscillatorBench, OscillatorBoardTwin, load_oscillator_profile
from labctl_sim_devices.wires.faults import MISBEHAVIOURS, FaultLayer
from labctl_sim_devices.wires.serial_board import SerialBoardFace

from labctl.devices import BoardImage, DeviceError, DeviceTimeout, DeviceUnavailable, RunCodes
from labctl.devices.oscillator_wire import blocks

SETTINGS = {"timeout_s": 0.4, "open_timeout_s": 3.0, "longest_s": 3.0, "lock_wait_s": 0.2}
LATE_S = 0.7  # longer than the driver waits in silence
WITHIN = 24  # of so many answers one is hit: opening, upload, run and result are among them
BY_PROTOCOL = {  # where sequence numbers do better than the table asks of any wire
    # the question is repeated, and the answer before is the right one; each takes a little longer
    ("previous", "lasting"): ("answered", DeviceTimeout),
    ("garbage", "lasting"): ("answered",),  # every frame begins with a zero, which ends whatever came before
    ("duplicate", "lasting"): ("answered",),
}


def twin():
    profile = load_oscillator_profile("board50", {"rows": 4, "columns": 4})
    return OscillatorBoardTwin("board", OscillatorBench(profile, seed=2))


def image(spec):
    tables = {name: np.zeros(t.shape, np.int64) for name, t in blocks.image_tables(spec, 2).items()}
    tables["in_phase"] += 40
    tables["ticks"] += 90
    tables["start_amplitude"] += 200
    return BoardImage(spec.topology.hash, **tables)


def day_at(board):
    """Results of a short day, each compared with the twin's beside."""
    yield board.open()
    yield board.load(image(board.spec)).crc
    yield board.run(RunCodes(np.arange(3))).codes
    yield board.temperature_c()
    yield board.loaded().crc
    yield board.run(RunCodes(np.arange(3), 1)).codes
    yield board.temperature_c()


RIGHT = list(day_at(twin()))


def play(fault, seed, *, lasting):
    """(outcome, the fault layer, the twin behind, seconds): "answered", or the error that ended the day."""
    layer = FaultLayer(fault, seed=seed, lasting=lasting, within=WITHIN, late_s=LATE_S)
    behind = twin()
    face = SerialBoardFace(behind, threading.RLock(), faults=layer)
    serial = RIGHT[0].serial  # of the rig file: else another box could be there from the first moment on
    board = SerialOscillatorBoard("board", face.start().address, serial=serial, **SETTINGS)
    outcome, failed, begun = "answered", None, time.monotonic()
    try:
        for got, right in zip(day_at(board), RIGHT, strict=True):
            assert np.array_equal(got, right)
    except DeviceError as error:
        outcome, failed = type(error), error
    took_s = time.monotonic() - begun
    if failed is not None:
        assert str(failed).startswith("board: ")
        assert board.address in str(failed)
        assert failed.wire
    try:
        board.close()
    except DeviceError as error:
        outcome = type(error) if outcome == "answered" else outcome
    assert not board.is_open
    face.stop()
    return outcome, layer, behind, took_s


def check(fault, seed, how):
    row, lasting = MISBEHAVIOURS[fault], how == "lasting"
    allowed = BY_PROTOCOL.get((fault, how), row.lasting if lasting else row.once)
    outcome, layer, behind, took_s = play(fault, seed, lasting=lasting)
    if layer.struck:
        assert outcome in allowed, (fault, seed, how)
    else:
        assert outcome == "answered"
    if outcome == "answered":
        assert not behind.is_open  # closed: couplings and injections are off
        assert behind._memory is None
    assert took_s < 30
    return layer.struck


@pytest.mark.parametrize("how", ["once", "lasting"])
@pytest.mark.parametrize("fault", MISBEHAVIOURS)
def test_the_stated_behaviour(fault, how):
    assert sum(check(fault, seed, how) for seed in ((0, 1) if how == "once" else (0,)))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["once", "lasting"])
@pytest.mark.parametrize("fault", MISBEHAVIOURS)
def test_the_stated_behaviour_every_time(fault, how):
    for seed in range(20):
        check(fault, seed, how)


def test_a_repeated_order_is_not_carried_out_twice():
    """The answer to every order is lost once: the twin's clock says that nothing ran twice."""
    beside = twin()
    list(day_at(beside))
    for seed in range(3):
        outcome, layer, behind, _ = play("silent", seed, lasting=False)
        assert outcome == "answered"
        assert layer.struck == 1
        assert behind._bench.now_us == beside._bench.now_us


def test_errors_of_a_dead_line_are_time_outs_or_losses():
    assert play("silent", 0, lasting=True)[0] is DeviceTimeout
    assert play("disconnect", 0, lasting=True)[0] is DeviceUnavailable
