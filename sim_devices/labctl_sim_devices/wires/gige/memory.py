"""The camera's memory: bootstrap registers, the features' registers and the XML, as one space of bytes."""

from __future__ import annotations

import ipaddress
import struct
from bisect import bisect_right

from labctl.devices import Identity, Scalar
from labctl_sim_devices.wires.gige.channel import StreamChannel
from labctl_sim_devices.wires.gige.features import FEATURES, Feature
from labctl_sim_devices.wires.gige.gvcp import (
    CAPABILITY,
    FIRE_TEST_PACKET,
    LATCH_TIMESTAMP,
    STRINGS,
    Bootstrap,
    Refusal,
    Status,
)
from labctl_sim_devices.wires.gige.model import CameraModel
from labctl_sim_devices.wires.gige.xml import Described, description

FEATURES_AT, XML_AT = 0x2000, 0x10000
TICKS_HZ = 1_000_000_000
HEARTBEAT_MS = (500, 600_000)


class CameraMemory:
    """Reads and writes by address. `heartbeat_ms` and the stream's registers act as the standard says."""

    def __init__(self, model: CameraModel, identity: Identity, channel: StreamChannel, address: str) -> None:
        self._model, self._channel = model, channel
        self.heartbeat_ms = 3000
        self._by_address: dict[int, Feature] = {}
        addresses: dict[str, int] = {}
        place = FEATURES_AT
        for feature in FEATURES:
            if feature.at is not None:
                addresses[feature.name] = feature.at
                continue
            addresses[feature.name] = place
            self._by_address[place] = feature
            place += -(-feature.size // 16) * 16
        self._starts = sorted(self._by_address)
        self.xml = description(Described(addresses, model.limits, model.entries)).encode("utf-8")
        self._bytes = bytearray(Bootstrap.END)
        self._lay_out(identity, address)

    def read(self, address: int, length: int) -> bytes:
        """Bytes at an address. Raises Refusal."""
        if address + length <= Bootstrap.END:
            self._refresh()
            return bytes(self._bytes[address : address + length])
        if address >= XML_AT:
            end = address - XML_AT + length
            if end > -(-len(self.xml) // 4) * 4:
                raise Refusal(Status.INVALID_ADDRESS)
            return self.xml[address - XML_AT : end].ljust(length, b"\0")
        feature, offset = self._feature(address, length)
        return self._encoded(feature)[offset : offset + length]

    def write(self, address: int, data: bytes) -> Feature | None:
        """Write at an address; a command is not executed but given back. Raises Refusal."""
        if address < Bootstrap.END:
            self._write_bootstrap(address, data)
            return None
        if address >= XML_AT:
            raise Refusal(Status.WRITE_PROTECTED)
        feature, offset = self._feature(address, len(data))
        if feature.access == "RO":
            raise Refusal(Status.WRITE_PROTECTED)
        if offset or len(data) != feature.size:
            raise Refusal(Status.BAD_ALIGNMENT)
        if feature.kind == "Command":
            return feature
        self._model.write(feature.name, self._decoded(feature, data))
        return None

    def discovery(self) -> bytes:
        """What the answer to a discovery carries."""
        return bytes(self._bytes[: Bootstrap.DISCOVERY_END])

    def _lay_out(self, who: Identity, address: str) -> None:
        ip = int(ipaddress.IPv4Address(address))
        mac = 0x02_00_00_00_00_00 | ip  # locally administered
        words = {
            Bootstrap.VERSION: 1 << 16 | 2,
            Bootstrap.DEVICE_MODE: 1 << 31 | 1,  # big-endian, UTF-8
            Bootstrap.MAC_HIGH: mac >> 32,
            Bootstrap.MAC_LOW: mac & 0xFFFFFFFF,
            Bootstrap.SUPPORTED_IP: 1 << 0,
            Bootstrap.CURRENT_IP: 1 << 0,
            Bootstrap.IP_ADDRESS: ip,
            Bootstrap.SUBNET_MASK: 0xFF000000,
            Bootstrap.NETWORK_INTERFACES: 1,
            Bootstrap.STREAM_CHANNELS: 1,
            Bootstrap.GVCP_CAPABILITY: CAPABILITY,
            Bootstrap.TICKS_LOW: TICKS_HZ,
        }
        for place, word in words.items():
            self._put(place, word)
        strings = {
            Bootstrap.MANUFACTURER: who.vendor,
            Bootstrap.MODEL: who.model,
            Bootstrap.DEVICE_VERSION: who.firmware,
            Bootstrap.MANUFACTURER_INFO: "simulated" if who.simulated else "",
            Bootstrap.SERIAL: who.serial[-15:].lstrip("-"),
        }
        for start, text in strings.items():
            self._text(start, text, STRINGS[start])
        self._text(Bootstrap.FIRST_URL, f"Local:labctl_camera.xml;{XML_AT:X};{len(self.xml):X}", 512)

    def _text(self, start: int, text: str, length: int) -> None:
        raw = text.encode("utf-8")[: length - 1]
        self._bytes[start : start + length] = raw.ljust(length, b"\0")

    def _put(self, place: int, word: int) -> None:
        struct.pack_into(">I", self._bytes, place, word)

    def _refresh(self) -> None:
        """Registers that live elsewhere."""
        channel = self._channel
        self._put(Bootstrap.HEARTBEAT_MS, self.heartbeat_ms)
        self._put(Bootstrap.STREAM_PORT, channel.destination[1])
        self._put(Bootstrap.STREAM_ADDRESS, int(ipaddress.IPv4Address(channel.destination[0])))
        self._put(Bootstrap.STREAM_PACKET_SIZE, channel.packet_size)
        self._put(Bootstrap.STREAM_PACKET_DELAY, channel.delay_ns)
        self._put(Bootstrap.STREAM_SOURCE_PORT, channel.port)

    def set_privilege(self, value: int) -> None:
        """What the privilege register reads."""
        self._put(Bootstrap.PRIVILEGE, value)

    def _write_bootstrap(self, address: int, data: bytes) -> None:
        if address >= Bootstrap.USER_NAME and address + len(data) <= Bootstrap.DISCOVERY_END:
            self._bytes[address : address + len(data)] = data
            return
        if len(data) != 4:
            raise Refusal(Status.WRITE_PROTECTED)
        (word,) = struct.unpack(">I", data)
        channel = self._channel
        if address == Bootstrap.HEARTBEAT_MS:
            self.heartbeat_ms = min(max(word, HEARTBEAT_MS[0]), HEARTBEAT_MS[1])
        elif address == Bootstrap.STREAM_PORT:
            channel.destination = (channel.destination[0], word & 0xFFFF)
        elif address == Bootstrap.STREAM_ADDRESS:
            if word and word >> 24 != 127:
                raise Refusal(Status.INVALID_PARAMETER)  # frames leave this machine for nobody
            channel.destination = (str(ipaddress.IPv4Address(word)), channel.destination[1])
        elif address == Bootstrap.STREAM_PACKET_SIZE:
            channel.resize(word & 0xFFFF)
            if word & FIRE_TEST_PACKET:
                channel.fire_test_packet()
        elif address == Bootstrap.STREAM_PACKET_DELAY:
            channel.delay_ns = word
        elif address == Bootstrap.TIMESTAMP_CONTROL:
            if word & LATCH_TIMESTAMP:
                self._put(Bootstrap.TIMESTAMP_HIGH, self._model.last_ns >> 32)
                self._put(Bootstrap.TIMESTAMP_LOW, self._model.last_ns & 0xFFFFFFFF)
        else:
            raise Refusal(Status.WRITE_PROTECTED)

    def _feature(self, address: int, length: int) -> tuple[Feature, int]:
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            raise Refusal(Status.INVALID_ADDRESS)
        start = self._starts[place]
        feature = self._by_address[start]
        if address + length > start + feature.size:
            raise Refusal(Status.INVALID_ADDRESS)
        return feature, address - start

    def _encoded(self, feature: Feature) -> bytes:
        if feature.access == "WO":
            raise Refusal(Status.ACCESS_DENIED)
        value = self._model.read(feature.name)
        if feature.kind == "String":
            return str(value).encode("utf-8")[: feature.size - 1].ljust(feature.size, b"\0")
        if feature.kind == "Float":
            return struct.pack(">d", value)
        if feature.kind == "Enumeration":
            return struct.pack(">I", self._model.entries[feature.name][str(value)])
        return int(value).to_bytes(feature.size, "big")

    def _decoded(self, feature: Feature, data: bytes) -> Scalar:
        if feature.kind == "Float":
            return float(struct.unpack(">d", data)[0])
        number = int.from_bytes(data, "big")
        if feature.kind == "Boolean":
            return bool(number)
        if feature.kind == "Enumeration":
            for entry, code in self._model.entries[feature.name].items():
                if code == number:
                    return entry
            raise Refusal(Status.INVALID_PARAMETER)
        return number
