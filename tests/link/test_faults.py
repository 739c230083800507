"""The table of misbehaviours: the layer itself, and what a driver does about each row."""

from __future__ import annotations

import os
import threading
import time
import tty

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labctl_sim_devices.wires.faults import MISBEHAVIOURS, FaultLayer, HangUp, Send

from labctl.devices import ConfigError, DeviceError, Identity

ANSWERS = st.lists(st.binary(max_size=64), max_size=30)
SEEDS = st.integers(0, 2**32 - 1)
WHO = Identity("a", "b", "c", "1.2", simulated=True)


def on_the_wire(layer: FaultLayer, answers: list[bytes]) -> list:
    return [layer.sending(answer) for answer in answers]


@given(ANSWERS, SEEDS)
def test_without_a_fault_no_byte_is_changed(answers, seed) -> None:
    layer = FaultLayer(seed=seed)
    assert on_the_wire(layer, answers) == [(Send(answer),) for answer in answers]
    assert {layer.question() for _ in range(40)} == {"do"}
    assert layer.identity(WHO) == WHO
    assert layer.struck == 0


@given(st.sampled_from(sorted(MISBEHAVIOURS)), ANSWERS, SEEDS, st.booleans())
def test_the_same_seed_misbehaves_the_same_way(fault, answers, seed, lasting) -> None:
    one, other = (FaultLayer(fault, seed=seed, lasting=lasting) for _ in range(2))
    for answer in answers:
        assert one.question() == other.question()
        assert one.sending(answer) == other.sending(answer)
        assert one.identity(WHO) == other.identity(WHO)


@given(st.sampled_from(sorted(MISBEHAVIOURS)), SEEDS, st.integers(1, 9), st.integers(0, 9))
def test_each_strikes_once_where_it_was_told_to(fault, seed, within, after) -> None:
    layer = FaultLayer(fault, seed=seed, within=within, after=after)
    struck = []
    for number in range(after + within + 4):
        before = layer.struck
        layer.question()
        pieces = layer.sending(b"answer %d" % number)
        struck += [number] * (layer.struck > before)
        if layer.struck == before:
            assert pieces == (Send(b"answer %d" % number),)
    if fault == "old-firmware":
        assert layer.identity(WHO).firmware == "0.1"
    elif fault == "busy":
        assert struck == list(range(struck[0], struck[0] + 3))
    else:
        assert len(struck) == 1
        assert after <= struck[0] < max(after + within, 2)


@given(ANSWERS, SEEDS)
def test_damage_is_bounded(answers, seed) -> None:
    """A truncated answer is a true beginning of it; a corrupted one differs in one byte; and so on."""
    for fault in ("truncated", "corrupted", "garbage", "duplicate", "disconnect"):
        layer = FaultLayer(fault, seed=seed, lasting=True, within=1)
        for answer in filter(None, answers):
            first, *rest = layer.sending(answer)
            data = first.data
            match fault:
                case "truncated":
                    assert answer.startswith(data)
                    assert len(data) < len(answer)
                case "corrupted":
                    assert len(data) == len(answer)
                    assert sum(a != b for a, b in zip(data, answer, strict=True)) == 1
                case "garbage":
                    assert data.endswith(answer)
                    assert 1 <= len(data) - len(answer) <= 24
                case "duplicate":
                    assert data == answer + answer
                case "disconnect":
                    assert answer.startswith(data)
                    assert rest == [HangUp()]


def test_a_name_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'slow' is not known; allowed: late, silent"):
        FaultLayer("slow")
    with pytest.raises(ConfigError, match="within is 0"):
        FaultLayer("late", within=0)


def test_the_layer_on_a_pty() -> None:
    """The same bytes through a terminal's two ends."""
    near, far = os.openpty()
    try:
        tty.setraw(near)
        tty.setraw(far)
        layer = FaultLayer("duplicate", seed=1, lasting=True, within=1)
        layer.send(b"frame\x00", lambda data: os.write(near, data), lambda: os.close(near))
        assert os.read(far, 100) == b"frame\x00frame\x00"
    finally:
        os.close(near)
        os.close(far)


def outcome(lamp, fault: str, seed: int, lasting: bool):
    """How twelve drives with their read-back end, the server, and its last error."""
    made = lamp(FaultLayer(fault, seed=seed, lasting=lasting, within=20, after=3, late_s=0.4))
    driver, server = made.driver, made.server
    error, end = None, "answered"
    try:
        driver.open()
        for code in range(1, 13):
            driver.drive([[code, 2, 3, 4]])
            assert driver.snapshot()["total_current_ma"] == pytest.approx(0.1 * (code + 9)), "a wrong value"
    except DeviceError as caught:
        error, end = caught, type(caught)
    try:
        driver.close()
    except DeviceError as caught:
        error = error or caught
    return end, server, error


def check(lamp, fault: str, seed: int, lasting: bool) -> None:
    row = MISBEHAVIOURS[fault]
    began = time.monotonic()
    end, server, error = outcome(lamp, fault, seed, lasting)
    assert end in (row.lasting if lasting else row.once), f"{fault}: {end}: {error}"
    assert time.monotonic() - began < 20, "bounded"
    if error is not None:
        assert error.device == "lamp"
        assert error.operation
        assert error.wire
        assert server.address in str(error) or fault == "empty-error"
    if fault == "other-box":  # the first one is out of reach, and the other is left alone
        assert "OFF" not in server.asked
        return
    for _ in range(100):  # what was commanded without an answer is on its way
        if sum(server.current_ma) == 0:
            break
        time.sleep(0.01)
    assert sum(server.current_ma) == 0, "the safe state"


@pytest.mark.parametrize("fault", sorted(MISBEHAVIOURS))
@pytest.mark.parametrize("seed", range(2))
def test_once(lamp, fault, seed) -> None:
    check(lamp, fault, seed, lasting=False)


@pytest.mark.parametrize(
    "fault",
    [
        "disconnect",
        "corrupted",
        "duplicate",
        "busy",
        "empty-error",
        pytest.param("silent", marks=pytest.mark.slow),
    ],
)
def test_for_ever(lamp, fault) -> None:
    check(lamp, fault, 0, lasting=True)


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("fault", sorted(MISBEHAVIOURS))
@pytest.mark.parametrize("seed", range(20))
def test_every_row_by_twenty_seeds(lamp, fault, seed, lasting) -> None:
    check(lamp, fault, seed, lasting)


def test_an_error_without_a_text_is_still_told(lamp) -> None:
    end, _, error = outcome(lamp, "empty-error", 0, lasting=False)
    assert end is not str
    assert "-200" in str(error)


def test_another_box_is_named_and_not_driven(lamp) -> None:
    _, server, error = outcome(lamp, "other-box", 3, lasting=False)
    assert "another box answers: serial is 'L-1-OTHER', was 'L-1'" in str(error)
    drives = [asked for asked in server.asked if asked.startswith("DRIVE")]
    assert server.asked.index(drives[-1]) < max(i for i, asked in enumerate(server.asked) if asked == "IDN")


def test_threads_share_a_layer() -> None:
    layer = FaultLayer("silent", seed=0, within=50)
    sent: list = []
    threads = [
        threading.Thread(target=lambda: sent.extend(layer.sending(b"x") for _ in range(100)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sent.count(()) == 1
    assert len(sent) == 400
