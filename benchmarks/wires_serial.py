"""Figures of the serial oscillator board: python benchmarks/wires_serial.py

A large program over a line of 921,600 baud against what the line can carry; a question through the driver against the
same bytes by pyserial alone. Run on a quiet machine; it prints and keeps nothing.
"""

from __future__ import annotations

import statistics
import threading
import time

import numpy as np
import serial
from labctl_drivers.serial_board import SerialOscillatorBoard
from labctl_sim_devices import OscillatorBench, OscillatorBoardTwin, load_oscillator_profile
from labctl_sim_devices.wires.serial_board import SerialBoardFace

from labctl.devices import BoardImage
from labctl.devices.oscillator_wire import blocks, messages
from labctl.devices.oscillator_wire.frames import Frame, FrameReader

BAUD = 921_600
WANTED_BYTES = 19_200
QUESTIONS = 1000


def behind_a_line(profile: str, baud: int | None, **overrides: object) -> SerialBoardFace:
    """A twin of that profile on a pty, paced at so many baud (None: as fast as it goes)."""
    twin = OscillatorBoardTwin("board", OscillatorBench(load_oscillator_profile(profile, overrides), seed=1))
    return SerialBoardFace(twin, threading.RLock(), baud=baud)


def upload_share() -> tuple[int, float]:
    """(bytes, share of the line's limit) of one segment of about WANTED_BYTES, median of five loads."""
    face = behind_a_line("board50", BAUD, rows=28, columns=28, radius=3)
    shares = []
    with SerialOscillatorBoard("board", face.start().address, baud=BAUD) as board:
        spec = board.spec
        rng = np.random.default_rng(0)
        for _ in range(5):
            tables = {
                name: rng.integers(1, 2 ** (table.bits - 1), table.shape)
                if table.bits < 32
                else np.ones(table.shape, np.int64)
                for name, table in blocks.image_tables(spec, 1).items()
            }
            image = BoardImage(spec.topology.hash, **tables)
            size = len(blocks.encode_image(spec, image))
            begun = time.perf_counter()
            board.load(image)
            shares.append(size * 10 / BAUD / (time.perf_counter() - begun))
    face.stop()
    return size, statistics.median(shares)


def question_us() -> tuple[float, float]:
    """Medians (driver, pyserial alone) of one temperature, asked in turns on an unpaced line, us."""
    face = behind_a_line("board50", None)
    times: dict[str, list[float]] = {"driver": [], "bare": []}
    with SerialOscillatorBoard("board", face.start().address) as board:
        session = board._session
        if session is None:
            raise RuntimeError("no session")
        with serial.Serial(board.address, timeout=1) as port:
            port.reset_input_buffer()
            frame = Frame(1, messages.Temperature.KIND, session.id, 0).encode()
            length = len(Frame(1, messages.Warmth.KIND, session.id, 0, bytes(8)).encode())
            for _ in range(QUESTIONS):
                begun = time.perf_counter()
                board.temperature_c()
                times["driver"].append(time.perf_counter() - begun)
                begun = time.perf_counter()
                port.write(frame)
                answer = port.read(length)
                times["bare"].append(time.perf_counter() - begun)
                answer += port.read(port.in_waiting)
                if len(FrameReader().feed(answer)) != 1:
                    raise RuntimeError("the bare call did not get its answer")
    face.stop()
    return statistics.median(times["driver"]) * 1e6, statistics.median(times["bare"]) * 1e6


def main() -> None:
    """Print both figures with their bars."""
    size, share = upload_share()
    print(f"one segment of {size} bytes over {BAUD} baud: {share:.1%} of the line's limit (bar: 90% or more)")
    driver_us, bare_us = question_us()
    print(
        f"a temperature: {driver_us:.0f} us by the driver, {bare_us:.0f} us by pyserial alone, "
        f"{driver_us / bare_us:.2f}x (bar: 1.5x or less)"
    )


if __name__ == "__main__":
    main()
