"""An SCPI instrument on HiSLIP (IVI-6.1): a channel for messages, one for status and device clear.

Synchronous mode. Locks are always granted, service requests are not sent; a message that is no part of this
is answered with Error "unrecognized message type".
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from enum import IntEnum

from labctl_sim_devices.wires.faults import HangUp, Pause, Send
from labctl_sim_devices.wires.listener import Listener, hang_up
from labctl_sim_devices.wires.scpi.instrument import ScpiInstrument
from labctl_sim_devices.wires.scpi.sockets import MAX_MESSAGE_BYTES

HEADER = struct.Struct("!2sBBIQ")  # "HS", type, control code, parameter, length of the payload
VERSION = 0x0100  # 1.0
VENDOR = 0x4C43  # "LC", not registered with the IVI Foundation
SMALLEST_MESSAGE_BYTES = 256


class Type(IntEnum):
    """Message types (IVI-6.1, table 4) that are spoken here."""

    INITIALIZE = 0
    INITIALIZE_RESPONSE = 1
    FATAL_ERROR = 2
    ERROR = 3
    ASYNC_LOCK = 4
    ASYNC_LOCK_RESPONSE = 5
    DATA = 6
    DATA_END = 7
    DEVICE_CLEAR_COMPLETE = 8
    DEVICE_CLEAR_ACKNOWLEDGE = 9
    ASYNC_REMOTE_LOCAL = 10
    ASYNC_REMOTE_LOCAL_RESPONSE = 11
    TRIGGER = 12
    ASYNC_MAX_SIZE = 15
    ASYNC_MAX_SIZE_RESPONSE = 16
    ASYNC_INITIALIZE = 17
    ASYNC_INITIALIZE_RESPONSE = 18
    ASYNC_DEVICE_CLEAR = 19
    ASYNC_STATUS_QUERY = 21
    ASYNC_STATUS_RESPONSE = 22
    ASYNC_DEVICE_CLEAR_ACKNOWLEDGE = 23
    ASYNC_LOCK_INFO = 24
    ASYNC_LOCK_INFO_RESPONSE = 25


@dataclass
class _Session:
    """What the two channels of one client share."""

    max_size: int = 1 << 20
    answer_waiting: bool = False
    cleared: int = 0  # device clears so far: an answer of before one is not sent
    incoming: bytearray = field(default_factory=bytearray)


class HislipWire(Listener):
    """Messages in, answers out. `latency_s` passes before each answer."""

    def __init__(self, instrument: ScpiInstrument, *, latency_s: float = 0.0) -> None:
        super().__init__()
        self._instrument, self._latency_s = instrument, latency_s
        self._sessions: dict[int, _Session] = {}
        self._numbers = itertools.count(1)
        self._table = threading.Lock()

    def serve(self, connection: socket.socket) -> None:
        """One channel: its first message says which."""
        kind, _, parameter, _ = _receive(connection)
        if kind == Type.INITIALIZE:
            with self._table:
                number = next(self._numbers) & 0xFFFF
                session = self._sessions[number] = _Session()
            _send(connection, Type.INITIALIZE_RESPONSE, 0, VERSION << 16 | number)
            try:
                self._serve_messages(connection, session)
            finally:
                with self._table:
                    del self._sessions[number]
        elif kind == Type.ASYNC_INITIALIZE and parameter in self._sessions:
            _send(connection, Type.ASYNC_INITIALIZE_RESPONSE, 0, VENDOR)
            self._serve_status(connection, self._sessions[parameter])
        else:
            _send(connection, Type.FATAL_ERROR, 3, 0, b"Invalid Initialization sequence")

    def _serve_messages(self, connection: socket.socket, session: _Session) -> None:
        while True:
            kind, _, message_id, payload = _receive(connection)
            if kind in (Type.DATA, Type.DATA_END):
                session.answer_waiting = False
                session.incoming += payload
                if len(session.incoming) > MAX_MESSAGE_BYTES:
                    self._instrument.overrun(f"{len(session.incoming)} bytes without an end")
                    session.incoming.clear()
                if kind == Type.DATA_END:
                    message, session.incoming = bytes(session.incoming), bytearray()
                    self._answer(connection, session, message, message_id)
            elif kind == Type.DEVICE_CLEAR_COMPLETE:
                session.incoming.clear()
                session.answer_waiting = False
                _send(connection, Type.DEVICE_CLEAR_ACKNOWLEDGE, 0, 0)
            elif kind != Type.TRIGGER:  # nothing here waits for one
                _send(connection, Type.ERROR, 1, 0, b"Unrecognized Message Type")

    def _serve_status(self, connection: socket.socket, session: _Session) -> None:
        while True:
            kind, control, _, payload = _receive(connection)
            match kind:
                case Type.ASYNC_MAX_SIZE if len(payload) == 8:
                    wanted = int.from_bytes(payload, "big")
                    session.max_size = max(SMALLEST_MESSAGE_BYTES, min(wanted, MAX_MESSAGE_BYTES))
                    answer = session.max_size.to_bytes(8, "big")
                    _send(connection, Type.ASYNC_MAX_SIZE_RESPONSE, 0, 0, answer)
                case Type.ASYNC_STATUS_QUERY:
                    if control & 1:  # the answer has been read to its end
                        session.answer_waiting = False
                    byte = self._instrument.status.byte(session.answer_waiting)
                    _send(connection, Type.ASYNC_STATUS_RESPONSE, byte, 0)
                case Type.ASYNC_DEVICE_CLEAR:
                    session.cleared += 1
                    _send(connection, Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE, 0, 0)
                case Type.ASYNC_LOCK:
                    _send(connection, Type.ASYNC_LOCK_RESPONSE, 1, 0)
                case Type.ASYNC_LOCK_INFO:
                    _send(connection, Type.ASYNC_LOCK_INFO_RESPONSE, 0, 0)
                case Type.ASYNC_REMOTE_LOCAL:
                    _send(connection, Type.ASYNC_REMOTE_LOCAL_RESPONSE, 0, 0)
                case _:
                    _send(connection, Type.ERROR, 1, 0, b"Unrecognized Message Type")

    def _answer(self, connection: socket.socket, session: _Session, message: bytes, message_id: int) -> None:
        cleared = session.cleared
        answer = self._instrument.answer(message)
        if not answer:
            return
        if self._latency_s:
            time.sleep(self._latency_s)
        if session.cleared != cleared:
            return
        session.answer_waiting = True

        pieces = self._instrument.faults.sending(answer)
        cut = any(isinstance(piece, HangUp) for piece in pieces)
        for piece in pieces:
            match piece:
                case Send(data):
                    frames = _frames(answer if cut else data, session.max_size, message_id)
                    connection.sendall(frames[: HEADER.size + len(data)] if cut else frames)
                case Pause(seconds):
                    time.sleep(seconds)
                case HangUp():
                    hang_up(connection)


def _frames(data: bytes, max_size: int, message_id: int) -> bytes:
    """An answer as one message, or several where it is larger than the client takes."""
    size = max_size - HEADER.size
    parts = [data[first : first + size] for first in range(0, len(data), size)] or [b""]
    kinds = [*[Type.DATA] * (len(parts) - 1), Type.DATA_END]
    return b"".join(
        HEADER.pack(b"HS", kind, 0, message_id, len(part)) + part
        for kind, part in zip(kinds, parts, strict=True)
    )


def _send(connection: socket.socket, kind: Type, control: int, parameter: int, payload: bytes = b"") -> None:
    connection.sendall(HEADER.pack(b"HS", kind, control, parameter, len(payload)) + payload)


def _receive(connection: socket.socket) -> tuple[int, int, int, bytes]:
    """Type, control code, parameter, payload. OSError where the other end is gone, or speaks no HiSLIP."""
    prologue, kind, control, parameter, length = HEADER.unpack(_exactly(connection, HEADER.size))
    if prologue != b"HS" or length > MAX_MESSAGE_BYTES:
        raise OSError("no HiSLIP message")
    return kind, control, parameter, _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise OSError("the other end is gone")
        view = view[got:]
    return bytes(data)
