"""The board's side of the oscillator board's protocol, in front of any OscillatorBoard.

Sessions, blocks and what was answered are kept here; everything else is the device's own public interface.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from labctl.devices import (
    DeviceError,
    DeviceFault,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
    OscillatorBoard,
    UnsupportedFeature,
)
from labctl.devices.oscillator_wire import blocks, messages
from labctl.devices.oscillator_wire.frames import FormatError, Frame
from labctl.devices.oscillator_wire.messages import ErrorCode, Message, Region
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.seat import Seat, seat_of

MAX_PAYLOAD = 8192  # as much as the protocol lets a frame have
MAX_BLOCK = 1 << 28
CODES: dict[type[DeviceError], ErrorCode] = {
    DeviceValueError: ErrorCode.VALUE,
    DeviceStateError: ErrorCode.STATE,
    DeviceUnavailable: ErrorCode.UNAVAILABLE,
    DeviceTimeout: ErrorCode.TIMEOUT,
    DeviceFault: ErrorCode.FAULT,
    UnsupportedFeature: ErrorCode.UNSUPPORTED,
}


class Refusal(Exception):
    """What is answered instead."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.error = messages.Error(code, text)


@dataclass
class _Block:
    """A block on its way in, or ready to be read."""

    total: int
    crc: int
    data: bytearray = field(default_factory=bytearray)

    def whole(self) -> bytes:
        """All of it; Refusal where it is not what was announced."""
        data = bytes(self.data)
        if len(data) != self.total or zlib.crc32(data) != self.crc:
            raise Refusal(ErrorCode.INTEGRITY, f"{len(data)} bytes of {self.total} are here, or others")
        return data


class BoardServer:
    """Answers requests one at a time. `faults`: what misbehaves about the answers."""

    def __init__(self, device: OscillatorBoard | Seat[OscillatorBoard], faults: FaultLayer) -> None:
        self._seat, self._faults = seat_of(device), faults
        self._session: int | None = None
        self._closed: int | None = None  # the last session that was closed
        self._version = 0
        self._blocks: dict[int, _Block] = {}
        self._remembered: tuple[tuple[int, int], Message] | None = None  # the last order and its answer
        self._do: dict[type[Message], Callable[[Message], Message]] = {
            messages.Hello: self._hello,
            messages.Open: self._open,
            messages.Close: self._close,
            messages.Begin: self._begin,
            messages.Write: self._write,
            messages.Read: self._read,
            messages.Load: self._load,
            messages.Recall: self._recall,
            messages.Run: self._run,
            messages.Count: self._count,
            messages.Temperature: self._temperature,
            messages.Snapshot: self._snapshot,
        }

    def answer(self, frame: Frame) -> tuple[int, Message]:
        """(kind, message) that answers a request; what changes the board is done once for each number."""
        # the way to the safe state is open also when all else is refused
        told = "do" if frame.kind == messages.Close.KIND else self._faults.question()
        if told == "busy":
            return _error(ErrorCode.BUSY, "at work")
        if told == "fail":
            return _error(ErrorCode.FAULT, "")
        try:
            request = self._understood(frame)
            number = (frame.session, frame.sequence)
            if self._remembered is not None and self._remembered[0] == number:
                answer = self._remembered[1]
            else:
                answer = self._do[type(request)](request)
                if isinstance(request, messages.Load | messages.Run | messages.Count):
                    self._remembered = (number, answer)
        except Refusal as refusal:
            return messages.Error.KIND, refusal.error
        except FormatError as error:
            return _error(ErrorCode.PROTOCOL, str(error))
        except DeviceError as error:
            code = next((c for kind, c in CODES.items() if isinstance(error, kind)), ErrorCode.FAULT)
            return _error(code, str(error).removeprefix(f"{error.device}: {error.operation}: "))
        return frame.kind | messages.ANSWER, answer

    def _understood(self, frame: Frame) -> Message:
        kind = messages.REQUEST_OF.get(frame.kind)
        if kind is None or kind not in self._do:
            raise Refusal(ErrorCode.PROTOCOL, f"request 0x{frame.kind:02x} is not known")
        if kind is messages.Hello:
            self._session, self._closed = frame.session, None
        elif kind is messages.Close and frame.session == self._closed:
            pass  # the answer did not arrive
        elif frame.session != self._session:
            raise Refusal(ErrorCode.SESSION, "no such session")
        elif frame.version != self._version:
            raise Refusal(ErrorCode.VERSION, f"a frame of version {frame.version} in one of {self._version}")
        return messages.decode(kind, frame.payload)

    def _hello(self, request: Message) -> Message:
        hello = _as(messages.Hello, request)
        oldest, newest = messages.VERSIONS
        self._version = min(newest, hello.newest)
        if not max(oldest, hello.oldest) <= self._version:
            self._session = None
            raise Refusal(
                ErrorCode.VERSION,
                f"the host speaks versions {hello.oldest} to {hello.newest}, the board {oldest} to {newest}; "
                "update the older one",
            )
        self._blocks.clear()
        self._remembered = None
        return messages.Welcome(self._version, MAX_PAYLOAD)

    def _open(self, request: Message) -> Message:
        identity = self._faults.identity(self._seat.device.open())
        sheet = self._offer(Region.SPEC, blocks.encode_spec(self._seat.device.spec))
        return messages.Opened(sheet.total, sheet.crc, blocks.encode_identity(identity))

    def _close(self, request: Message) -> Message:
        self._seat.device.close()
        self._blocks.clear()
        self._remembered = None
        self._closed, self._session = self._session or self._closed, None
        return messages.Empty()

    def _begin(self, request: Message) -> Message:
        begin = _as(messages.Begin, request)
        if begin.region not in (Region.IMAGE, Region.QUEUE):
            raise Refusal(ErrorCode.VALUE, f"region is {begin.region}; allowed: 1 (image), 2 (queue)")
        if begin.total > MAX_BLOCK:
            raise Refusal(ErrorCode.VALUE, f"a block of {begin.total} bytes; allowed: up to {MAX_BLOCK}")
        held = self._blocks.get(begin.region)
        if held is None or (held.total, held.crc) != (begin.total, begin.crc):
            held = self._blocks[begin.region] = _Block(begin.total, begin.crc)
        elif len(held.data) == held.total and zlib.crc32(held.data) != held.crc:
            held.data.clear()  # all there and not what was announced: from the beginning
        return messages.Offset(len(held.data))

    def _write(self, request: Message) -> Message:
        write = _as(messages.Write, request)
        held = self._blocks.get(write.region)
        if held is None:
            raise Refusal(ErrorCode.INTEGRITY, "no block was begun")
        if write.offset + len(write.data) > held.total:
            raise Refusal(ErrorCode.VALUE, f"bytes behind the end of {held.total}; allowed: inside the block")
        if write.offset == len(held.data):  # what is here already, or leaves a gap, is not taken
            held.data += write.data
        return messages.Written(len(held.data))

    def _read(self, request: Message) -> Message:
        read = _as(messages.Read, request)
        held = self._blocks.get(read.region)
        if held is None:
            raise Refusal(ErrorCode.INTEGRITY, "there is no such block to read")
        if read.length > MAX_PAYLOAD:
            raise Refusal(ErrorCode.VALUE, f"length is {read.length}; allowed: up to {MAX_PAYLOAD}")
        return messages.Data(bytes(held.data[read.offset : read.offset + read.length]))

    def _load(self, request: Message) -> Message:
        load, spec = _as(messages.Load, request), self._seat.device.spec
        if load.topology != int(spec.topology.hash[:8], 16):
            raise Refusal(ErrorCode.VALUE, f"topology {load.topology:08x}; allowed: {spec.topology.summary}")
        image = blocks.decode_image(spec, load.segments, self._written(Region.IMAGE))
        receipt = self._seat.device.load(image)
        return messages.Held(
            int(receipt.crc, 16), receipt.n_bytes, int(receipt.read_back), receipt.duration_us
        )

    def _recall(self, request: Message) -> Message:
        try:
            image = self._seat.device.loaded()
        except DeviceStateError:
            if not self._seat.device.is_open:
                raise
            return messages.Recalled(0, 0, 0)
        block = self._offer(Region.IMAGE, blocks.encode_image(self._seat.device.spec, image))
        return messages.Recalled(image.segments, block.total, block.crc)

    def _run(self, request: Message) -> Message:
        spec = self._seat.device.spec
        queue = blocks.decode_queue(spec, self._written(Region.QUEUE))
        phases = self._seat.device.run(queue.codes, read_at_us=(queue.read_ticks * spec.tick_us).tolist())
        result = self._offer(Region.RESULT, blocks.encode_phases(spec, phases))
        return messages.Ran(result.total, result.crc)

    def _count(self, request: Message) -> Message:
        spec = self._seat.device.spec
        gate_us, detuning = blocks.decode_gate(spec, self._written(Region.QUEUE))
        count = self._seat.device.count_frequency(gate_us, np.asarray(detuning))
        result = self._offer(Region.RESULT, blocks.encode_counts(count))
        return messages.Counted(result.total, result.crc)

    def _temperature(self, request: Message) -> Message:
        return messages.Warmth(self._seat.device.temperature_c())

    def _snapshot(self, request: Message) -> Message:
        return messages.Settings(json.dumps(dict(self._seat.device.snapshot())))

    def _offer(self, region: Region, data: bytes) -> _Block:
        block = self._blocks[region] = _Block(len(data), zlib.crc32(data), bytearray(data))
        return block

    def _written(self, region: Region) -> bytes:
        held = self._blocks.get(region)
        if held is None:
            raise Refusal(ErrorCode.INTEGRITY, "no block was begun")
        return held.whole()


def _as(kind: type[messages.AnyMessage], request: Message) -> messages.AnyMessage:
    if not isinstance(request, kind):
        raise FormatError(f"{type(request).__name__} where {kind.__name__} was expected")
    return request


def _error(code: ErrorCode, text: str) -> tuple[int, Message]:
    return messages.Error.KIND, messages.Error(code, text)
