"""Signals wait while a file is written, and act afterwards."""

from __future__ import annotations

import signal
import threading

import pytest

from labctl.procedures.interrupts import uninterrupted


@pytest.fixture(autouse=True)
def stops():
    """SIGINT and SIGTERM raise KeyboardInterrupt here, as on the command line."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_acts_after_the_block(number) -> None:
    finished = []

    def write() -> None:
        with uninterrupted():
            signal.raise_signal(number)
            signal.raise_signal(number)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert finished


def test_an_error_in_the_block_wins_over_a_signal() -> None:
    def write() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        write()


def test_handlers_are_put_back_and_blocks_may_nest() -> None:
    before = signal.getsignal(signal.SIGINT)
    finished = []

    def write() -> None:
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert finished
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_without_a_handler_keeps_its_meaning() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_are_not_bothered() -> None:
    seen = []
    thread = threading.Thread(target=lambda: seen.append(_inside()))
    thread.start()
    thread.join()
    assert seen == [True]


def _inside() -> bool:
    before = signal.getsignal(signal.SIGINT)
    with uninterrupted():
        return signal.getsignal(signal.SIGINT) is before
