"""The stream channel: blocks as UDP packets, at the link's pace, kept a while for hosts that lack some."""

from __future__ import annotations

import socket
import threading
import time
from collections import OrderedDict, defaultdict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.gige.datagrams import put
from labctl_sim_devices.wires.gige.gvcp import Resend, Status
from labctl_sim_devices.wires.gige.gvsp import OVERHEAD, Block, unavailable
from labctl_sim_devices.wires.gige.loss import PacketLoss, WireCount

PACKET_SIZES = (576, 9000)  # with IP and UDP headers
KEPT_BYTES = 64 << 20
AHEAD_S = 1e-3  # how far a burst may run ahead of the link's pace


class StreamChannel:
    """Sends blocks to one destination. Injected losses are counted, one by one, in `count`."""

    def __init__(self, address: str, loss: PacketLoss | None, faults: FaultLayer | None = None) -> None:
        self._address, self._loss, self._faults = address, loss, faults
        self._socket: socket.socket | None = None
        self._guard = threading.Lock()
        self._kept: OrderedDict[int, tuple[int, Block]] = OrderedDict()
        self._attempts: defaultdict[tuple[int, int], int] = defaultdict(int)
        self._begun = 0
        self.count = WireCount()
        self.destination = ("0.0.0.0", 0)
        self.packet_size = PACKET_SIZES[1]
        self.delay_ns = 0
        self.bytes_per_s = 1e8

    def open(self) -> None:
        """Take a port of this address."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self._address, 0))

    def close(self) -> None:
        """Let go of the port."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self.forget()

    @property
    def port(self) -> int:
        """The port that packets come from."""
        return 0 if self._socket is None else int(self._socket.getsockname()[1])

    @property
    def step(self) -> int:
        """Payload bytes of a packet."""
        return self.packet_size - OVERHEAD

    def resize(self, size: int) -> None:
        """Take the nearest packet size that there is."""
        self.packet_size = min(max(size & ~3, PACKET_SIZES[0]), PACKET_SIZES[1])

    def send(self, block: Block, stop: threading.Event) -> None:
        """All packets of the block, some lost on the way; breaks off where `stop` is set."""
        with self._guard:
            index, self._begun = self._begun, self._begun + 1
            lost = self._lost(index, block.packets)
            self._kept[block.number] = (index, block)
            while len(self._kept) > 1 and sum(len(b.payload) for _, b in self._kept.values()) > KEPT_BYTES:
                self._forget_one()
        begun, sent = time.monotonic(), 0
        for place in range(block.packets + 2):
            if stop.is_set():
                with self._guard:
                    self._add(broken_off_blocks=1)
                return
            header, content = block.packet(place)
            if not (0 < place <= block.packets and lost[place - 1]):
                self._put(header, content)
            sent += len(content) + OVERHEAD
            ahead = max(sent / self.bytes_per_s, place * self.delay_ns * 1e-9) - (time.monotonic() - begun)
            if ahead > AHEAD_S:
                time.sleep(ahead)
        with self._guard:
            missing, damaged = int(lost.sum()), int(lost.any())
            self._add(blocks=1, packets=block.packets + 2, lost_packets=missing, damaged_blocks=damaged)

    def resend(self, wanted: Resend) -> None:
        """Send packets again, or say that they are not kept."""
        with self._guard:
            self._add(resends_asked=1)
            kept = self._kept.get(wanted.block_id)
            if kept is None:
                self._add(unavailable_packets=1)
                self._put(unavailable(wanted.block_id, wanted.first), b"")
                return
            index, block = kept
            for place in range(wanted.first, min(wanted.last, block.packets + 1) + 1):
                self._attempts[index, place] += 1
                payload = 0 < place <= block.packets
                if payload and self._lost(index, block.packets, self._attempts[index, place])[place - 1]:
                    self._add(lost_packets=1)
                    continue
                self._add(resent_packets=1)
                self._put(*block.packet(place, Status.RESENT))

    def fire_test_packet(self) -> None:
        """One packet of the size in force, which says to a host that such packets arrive."""
        self._put(b"", bytes(self.packet_size - 28))

    def forget(self) -> None:
        """Blocks of an acquisition that is over."""
        with self._guard:
            while self._kept:
                self._forget_one()

    def _forget_one(self) -> None:
        _, (index, block) = self._kept.popitem(last=False)
        for place in range(block.packets + 2):
            self._attempts.pop((index, place), None)

    def _lost(self, index: int, packets: int, attempt: int = 0) -> NDArray[np.bool_]:
        if self._loss is None:
            return np.zeros(packets, np.bool_)
        return self._loss.lost(index, packets, attempt)

    def _add(self, **more: int) -> None:
        now = {name: getattr(self.count, name) + extra for name, extra in more.items()}
        self.count = replace(self.count, **now)

    def _put(self, header: bytes, content: memoryview | bytes) -> None:
        stream = self._socket
        if stream is None or not self.destination[1]:
            return
        if self._faults is None:
            stream.sendmsg([header, content], [], 0, self.destination)
        else:
            packet = header + bytes(content)
            put(self._faults, packet, lambda data: stream.sendto(data, self.destination), self.forget)
