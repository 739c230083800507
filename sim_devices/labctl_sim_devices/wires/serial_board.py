"""A serial face for an oscillator board: its protocol on a pseudo-terminal."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from labctl.devices import OscillatorBoard
from labctl.devices.oscillator_wire import messages
from labctl.devices.oscillator_wire.frames import Frame, FrameReader
from labctl.devices.oscillator_wire.messages import ErrorCode, Message
from labctl_sim_devices.wires.board_server import BoardServer
from labctl_sim_devices.wires.face import WireAddress
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.pty_line import PtyLine
from labctl_sim_devices.wires.seat import Seat, seat_of

BUSY_S = 0.2  # a request that takes longer is answered by Busy so often
LONG = {messages.Load.KIND, messages.Run.KIND, messages.Count.KIND}


class SerialBoardFace:
    """`device` at the end of a serial line, every call under `lock`. baud: pace of the line (None: none)."""

    def __init__(
        self,
        device: OscillatorBoard | Seat[OscillatorBoard],
        lock: threading.RLock,
        *,
        faults: FaultLayer | None = None,
        baud: int | None = None,
    ) -> None:
        self._lock, self._faults, self._baud = lock, faults or FaultLayer(), baud
        self._seat = seat_of(device)
        self._server = BoardServer(self._seat, self._faults)
        self._line: PtyLine | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> WireAddress:
        """Plug the line in, and say where."""
        line = self._line = PtyLine(self._baud)
        self._stopping.clear()
        self._thread = threading.Thread(target=self._serve, args=(line,), name="serial board", daemon=True)
        self._thread.start()
        settings = {} if self._baud is None else {"baud": self._baud}
        return WireAddress("serial.oscillator-board", line.address, settings)

    def stop(self) -> None:
        """Pull the line out; the device is not touched. Twice is harmless."""
        line, self._line = self._line, None
        if line is not None and self._thread is not None:
            self._stopping.set()
            line.wake()
            if self._thread is not threading.current_thread():  # which may be the one that collects garbage
                self._thread.join()
            line.close()

    def replug(self) -> None:
        """The cable is pulled, and put in again at the same address."""
        line = self._line
        if line is not None:
            line.unplug()
            line.plug()

    def restart(self) -> None:
        """The board's controller is switched off and on: no session, no block and no answer is left."""
        with self._lock:
            self._seat.device.close()
            self._server = BoardServer(self._seat, self._faults)

    def _serve(self, line: PtyLine) -> None:
        reader = FrameReader()
        with ThreadPoolExecutor(1, "serial board at work") as worker:
            working: tuple[Frame, Future[tuple[int, Message]]] | None = None
            said_at_s = 0.0
            while not self._stopping.is_set():
                for frame in reader.feed(line.read(BUSY_S if working else None)):
                    if frame.kind == messages.Status.KIND:
                        status = messages.LineStatus(working is not None, reader.accepted, reader.rejected)
                        self._send(line, frame, (frame.kind | messages.ANSWER, status))
                    elif working is None:
                        if frame.kind in LONG:
                            working = frame, worker.submit(self._answer, frame)
                            working[1].add_done_callback(lambda _: line.wake())
                            said_at_s = time.monotonic()
                        else:
                            self._send(line, frame, self._answer(frame))
                    elif _same(frame, working[0]):
                        _still_at_work(line, frame)
                    else:
                        refused = messages.Error(ErrorCode.BUSY, "at work on another request")
                        self._send(line, frame, (messages.Error.KIND, refused))
                if working is not None:
                    if working[1].done():
                        self._send(line, working[0], working[1].result())
                        working = None
                    elif time.monotonic() - said_at_s >= BUSY_S:
                        _still_at_work(line, working[0])
                        said_at_s = time.monotonic()
            if working is not None:
                wait_for([working[1]])

    def _answer(self, frame: Frame) -> tuple[int, Message]:
        with self._lock:
            return self._server.answer(frame)

    def _send(self, line: PtyLine, asked: Frame, answer: tuple[int, Message]) -> None:
        self._faults.send(_framed(asked, *answer), line.write, self.replug)


def _still_at_work(line: PtyLine, asked: Frame) -> None:
    line.write(_framed(asked, messages.Busy.KIND, messages.Busy(0, 0)))  # no answer: nothing befalls it


def _framed(asked: Frame, kind: int, message: Message) -> bytes:
    return Frame(asked.version, kind, asked.session, asked.sequence, message.encode()).encode()


def _same(one: Frame, other: Frame) -> bool:
    return (one.session, one.sequence) == (other.session, other.sequence)
