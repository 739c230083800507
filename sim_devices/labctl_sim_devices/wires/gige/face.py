"""A camera on a GigE Vision wire, on this machine alone: any client of the standard finds, sets, reads it.

The standard fixes the port (UDP 3956), so every face takes a loopback address of its own (127.x.y.z). It
hears discoveries that are broadcast; and because a client may ask 127.0.0.1 alone, whichever face holds that
address passes such a question on as a broadcast and the answers back.
"""

from __future__ import annotations

import secrets
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from labctl.devices import Camera, DeviceError, DeviceUnavailable
from labctl_sim_devices.wires.face import WireAddress
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.gige import gvcp
from labctl_sim_devices.wires.gige.channel import StreamChannel
from labctl_sim_devices.wires.gige.datagrams import PULLED_S, put
from labctl_sim_devices.wires.gige.gvcp import (
    ACK_HEADER,
    CONTROL,
    EXCLUSIVE,
    PORT,
    Bootstrap,
    Command,
    Refusal,
    Request,
    Status,
)
from labctl_sim_devices.wires.gige.loss import PacketLoss, WireCount
from labctl_sim_devices.wires.gige.memory import CameraMemory
from labctl_sim_devices.wires.gige.model import CameraModel
from labctl_sim_devices.wires.seat import Seat, seat_of

DRIVER = "gige.camera"
TICK_S = 0.1
PATIENCE_S, MORE_TIME_MS = 0.2, 1000  # after so long the host is asked for more time
BROADCASTS = ("127.255.255.255", "255.255.255.255")
RELAY = "127.0.0.1"

Peer = tuple[str, int]


class GigeFace:
    """Serves one camera. `lock` serialises the world; operations on the device happen under it alone.

    A device that is gone answers nothing any more, as a pulled cable would. `loss` drops packets of the
    stream, `control` and `stream` misbehave with the answers and the stream's packets; `count` says what went
    over the wire.
    """

    def __init__(
        self,
        device: Camera | Seat[Camera],
        lock: threading.RLock,
        *,
        faults: PacketLoss | None = None,
        control: FaultLayer | None = None,
        stream: FaultLayer | None = None,
    ) -> None:
        self._seat, self._world, self._loss = seat_of(device), lock, faults
        self._faults, self._stream = control or FaultLayer(), stream
        self._pulled_until = 0.0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._silent = False
        self._owner: Peer | None = None
        self._heard = 0.0
        self._answered: dict[Peer, tuple[bytes, bytes]] = {}
        self._asked: dict[int, Peer] = {}
        self._serving: tuple[Request, Peer] | None = None
        self._relay: socket.socket | None = None

    @property
    def _device(self) -> Camera:
        return self._seat.device

    def start(self) -> WireAddress:
        """Open the device, take an address and listen. Raises DeviceUnavailable where none is free."""
        with self._world:
            identity = self._device.open()
        self._control, self.address = _own_socket(self._device.name)
        self._channel = StreamChannel(self.address, self._loss, self._stream)
        self._channel.open()
        self._model = CameraModel(self._seat, identity, self._held_world(), self._channel, self._faulty)
        self._memory = CameraMemory(self._model, identity, self._channel, self.address)
        self._identity = identity
        self._stop.clear()
        self._silent = False
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._control, selectors.EVENT_READ, self._on_control)
        for broadcast in BROADCASTS:
            self._ready.register(_listener(broadcast), selectors.EVENT_READ, self._on_broadcast)
        self._take_relay()
        self._thread = threading.Thread(target=self._run, name="gige-face", daemon=True)
        self._thread.start()
        return WireAddress(DRIVER, self.address, self._data_sheet())

    def stop(self) -> None:
        """Stop listening and sending; the device is left as it is."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        with suppress(DeviceError):
            self._model.stop()
        self._channel.close()
        for key in list(self._ready.get_map().values()):
            cast(socket.socket, key.fileobj).close()
        self._ready.close()
        self._relay = None

    @property
    def busy(self) -> bool:
        """Whether an acquisition is under way for a host that has control."""
        return self._owner is not None and self._model.running

    @property
    def count(self) -> WireCount:
        """What went over the wire since the start."""
        return self._channel.count

    def unplug(self) -> None:
        """Answer nothing and send nothing from now on."""
        self._silent = True

    def plug_in(self) -> None:
        """Answer again; whoever had control has lost it."""
        self._release()
        self._answered.clear()
        self._silent = False

    def _data_sheet(self) -> dict[str, str | int | float | bool]:
        """What the standard's features do not say of a camera."""
        spec = self._device.spec
        return {
            "full_well_e": spec.full_well_e,
            "quantum_efficiency": spec.quantum_efficiency,
            "read_noise_e": spec.read_noise_e,
            "dark_e_per_s": spec.dark_e_per_s,
            "prnu": spec.prnu,
            "delay_us": spec.delay_us,
            "jitter_us": spec.jitter_us,
            "line_us": spec.line_us,
            "overhead_rows": spec.overhead_rows,
            "max_frames": spec.max_frames,
            "link_latency_us": spec.link.latency_us,
            "link_mbyte_per_s": spec.link.mbyte_per_s,
            "trigger_wait_s": 0.0,
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            self._take_relay()
            events = self._ready.select(TICK_S)
            if self._pulled_until and time.monotonic() > self._pulled_until:
                self._pulled_until = 0.0
                self.plug_in()
            for key, _ in events:
                datagram, peer = cast(socket.socket, key.fileobj).recvfrom(65536)
                own = key.fileobj is not self._relay  # what it passes on for others, it does though silent
                if peer[0].startswith("127.") and not (own and self._silent):
                    key.data(datagram, peer)
            self._check_heartbeat()  # whatever else is asked meanwhile, by anybody

    def _take_relay(self) -> None:
        """Answer for 127.0.0.1, where nobody else does."""
        if self._relay is not None:
            return
        relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            relay.bind((RELAY, PORT))
        except OSError:
            relay.close()
            return
        relay.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._relay = relay
        self._ready.register(relay, selectors.EVENT_READ, self._on_relay)

    def _on_relay(self, datagram: bytes, peer: Peer) -> None:
        """A discovery asked of 127.0.0.1 goes to every face here, and their answers to the one who asked."""
        relay = self._relay
        if relay is None:
            return
        if len(datagram) >= ACK_HEADER.size and datagram[0] != gvcp.KEY:
            _, command, _, number = ACK_HEADER.unpack_from(datagram)
            if command == Command.DISCOVERY + 1 and number in self._asked:
                relay.sendto(datagram, self._asked[number])
            return
        request = gvcp.parse(datagram)
        if request is not None and request.command == Command.DISCOVERY:
            self._asked[request.number] = peer
            relay.sendto(datagram, (BROADCASTS[0], PORT))

    def _on_broadcast(self, datagram: bytes, peer: Peer) -> None:
        request = gvcp.parse(datagram)
        if request is not None and request.command == Command.DISCOVERY:
            self._control.sendto(gvcp.answer(request, self._memory.discovery()), peer)

    def _on_control(self, datagram: bytes, peer: Peer) -> None:
        request = gvcp.parse(datagram)
        if request is None:
            return
        if peer == self._owner:
            self._heard = time.monotonic()
        asked, said = self._answered.get(peer, (b"", b""))
        if asked == datagram:  # asked again: the answer was late or lost
            put(self._faults, said, lambda data: self._control.sendto(data, peer), self._pull)
            return
        self._serving = (request, peer)
        try:
            body, status = self._told(request, peer), Status.SUCCESS
        except Refusal as refusal:
            body, status = b"", refusal.status
        except DeviceUnavailable:
            self._silent = True
            return
        except DeviceError:
            body, status = b"", Status.ERROR
        finally:
            self._serving = None
        if peer == self._owner:
            self._heard = time.monotonic()
        if request.wants_answer:
            said = gvcp.answer(request, body, status)
            self._answered[peer] = (datagram, said)
            put(self._faults, said, lambda data: self._control.sendto(data, peer), self._pull)

    def _pull(self) -> None:
        """The cable is out for a moment; what comes back may be another camera."""
        self._pulled_until = time.monotonic() + PULLED_S
        self._silent = True
        found = self._faults.identity(self._identity)
        self._model.become(found)
        self._memory = CameraMemory(self._model, found, self._channel, self.address)

    def _told(self, request: Request, peer: Peer) -> bytes:
        """The answer, unless the camera says that it is busy, or fails without a word."""
        if request.command in (Command.READ_REGISTER, Command.READ_MEMORY, Command.WRITE_REGISTER):
            told = self._faults.question()
            if told != "do":
                raise Refusal(Status.BUSY if told == "busy" else Status.ERROR)
        return self._answer(request, peer)

    def _answer(self, request: Request, peer: Peer) -> bytes:
        body, memory = request.body, self._memory
        if request.command == Command.DISCOVERY:
            return memory.discovery()
        if request.command == Command.READ_REGISTER:
            return b"".join(self._read(address, 4) for address in gvcp.addresses(body))
        if request.command == Command.READ_MEMORY:
            address, count = gvcp.block(body)
            return struct.pack(">I", address) + self._read(address, count)
        if request.command == Command.WRITE_REGISTER:
            values = gvcp.writes(body)
            for address, value in values:
                self._write(address, value, peer)
            return struct.pack(">HH", 0, len(values))
        if request.command == Command.WRITE_MEMORY:
            address, value = gvcp.written(body)
            self._write(address, value, peer)
            return struct.pack(">HH", 0, len(value))
        if request.command == Command.RESEND:
            self._channel.resend(gvcp.resend(body))
            return b""
        raise Refusal(Status.NOT_IMPLEMENTED)

    def _read(self, address: int, count: int) -> bytes:
        return self._memory.read(address, count)

    def _write(self, address: int, value: bytes, peer: Peer) -> None:
        if address == Bootstrap.PRIVILEGE:
            self._claim(int.from_bytes(value, "big"), peer)
            return
        if peer != self._owner:
            raise Refusal(Status.ACCESS_DENIED)
        command = self._memory.write(address, value)
        if command is None or value != bytes(command.size - 1) + b"\1":
            return
        wait = self._model.execute(command.name)
        while wait is not None and not wait(PATIENCE_S):
            self._ask_for_time()

    def _claim(self, value: int, peer: Peer) -> None:
        """Control goes to one host; giving it up, or falling silent, ends its acquisition."""
        if self._owner not in (None, peer):
            raise Refusal(Status.ACCESS_DENIED)
        if value & (CONTROL | EXCLUSIVE):
            self._owner, self._heard = peer, time.monotonic()
            self._memory.set_privilege(value)
        else:
            self._release()

    def _release(self) -> None:
        self._owner = None
        self._memory.set_privilege(0)
        self._model.stop()
        self._channel.destination = ("0.0.0.0", 0)

    def _check_heartbeat(self) -> None:
        if self._owner is None or time.monotonic() - self._heard < self._memory.heartbeat_ms / 1000:
            return
        try:
            self._release()
        except DeviceUnavailable:
            self._silent = True

    def _faulty(self, error: DeviceError) -> None:
        if isinstance(error, DeviceUnavailable):
            self._silent = True

    def _ask_for_time(self) -> None:
        """PENDING_ACK to the host whose command is being worked on."""
        if self._serving is not None and threading.current_thread() is self._thread:
            request, peer = self._serving
            self._control.sendto(gvcp.pending(request, MORE_TIME_MS), peer)

    def _held_world(self) -> _World:
        return _World(self._world, self._seat, self._ask_for_time)


class _World:
    """The world's lock; whoever waits long for it says so to its host. The device inside is open."""

    def __init__(self, lock: threading.RLock, seat: Seat[Camera], waiting: Callable[[], None]) -> None:
        self._lock, self._seat, self._waiting = lock, seat, waiting

    def __enter__(self) -> None:
        while not self._lock.acquire(timeout=PATIENCE_S):
            self._waiting()
        try:
            self._seat.device.open()  # the world may have begun anew since
        except DeviceError:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _own_socket(device: str) -> tuple[socket.socket, str]:
    """A socket on the standard's port, at a loopback address that nobody has."""
    for _ in range(64):
        raw = secrets.randbelow(250 * 254) + 256  # 127.77.1.x and up
        address = f"127.77.{raw // 254}.{raw % 254 + 1}"
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.bind((address, PORT))
        except OSError as error:
            made.close()
            last = error
        else:
            return made, address
    raise DeviceUnavailable(
        f"no loopback address has UDP port {PORT} free: {last}", device=device, operation="serve"
    )


def _listener(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, PORT))
    return made
