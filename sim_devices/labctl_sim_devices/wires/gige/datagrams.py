"""Misbehaviour of a wire of datagrams: a packet comes whole or not at all, so each fault is one of packets.

What a checksum of the network would drop (Ethernet's, UDP's) never arrives here: there is no fault
"corrupted" on such a wire but the loss of the packet.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from labctl_sim_devices.wires.faults import FaultLayer, HangUp, Pause, Send

PULLED_S = 0.3  # that a cable is out which comes back


def put(
    layer: FaultLayer, packet: bytes, send: Callable[[bytes], object], pull: Callable[[], object]
) -> None:
    """One packet through the layer: "duplicate" sends it twice, "garbage" another one before it; what ends a
    connection pulls the cable.
    """
    for piece in layer.sending(packet):
        match piece:
            case Pause(seconds):
                time.sleep(seconds)
            case HangUp():
                pull()
            case Send(data) if layer.fault in ("duplicate", "garbage") and len(data) > len(packet):
                send(data[: len(data) - len(packet)])
                send(packet)
            case Send(data) if layer.fault not in ("disconnect", "other-box") or data == packet:
                send(data)  # the beginning of a packet that was cut off with the cable never arrives
