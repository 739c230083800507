"""The camera twin over GigE Vision on this machine's loopback, 512 x 512 Mono12 at 50 frames a second.

Each client that we did not write in turn: viva-genicam here, Aravis (Debian) by aravis_peer.py. The twin serves
from a process of its own, its pixel noise off (a Philox normal for each of 262,144 pixels is the twin's price,
not the wire's).

    python benchmarks/wires_camera.py [frames]
"""

from __future__ import annotations

import json
import multiprocessing as mp
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import common  # noqa: F401 - sets one thread before torch loads
import numpy as np
from labctl_sim_devices import CameraTwin, OpticalBench, load_profile
from labctl_sim_devices.wires.gige import GigeFace, PacketLoss
from labctl_sim_devices.wires.gige.gvsp import OVERHEAD

SIZE, RATE_HZ, PACKET_BYTES = 512, 50.0, 8000
LOSS = PacketLoss(0.001, seed=6)
FEATURES = {"Width": SIZE, "Height": SIZE, "PixelFormat": "Mono12", "AcquisitionFrameRate": RATE_HZ}
PACKETS = -(-SIZE * SIZE * 2 // (PACKET_BYTES - OVERHEAD))


@dataclass(frozen=True)
class Row:
    """What one client received of `frames`; injected: frames of those that a lost packet damaged."""

    client: str
    what: str
    frames: int
    complete: int
    incomplete: int
    injected: int
    frames_per_s: float

    @property
    def met(self) -> bool:
        """Whether nothing was lost; without resend, whether the injected losses were counted exactly."""
        expected = self.injected if self.what == "losses, no resend" else 0
        return self.complete == self.frames - expected and self.incomplete == expected


def serve(pipe: Connection, loss: PacketLoss | None) -> None:
    """A camera twin behind its face until the pipe says stop."""
    bench = OpticalBench(load_profile("adm"), noise_scale=0.0)
    bench.emitted_units = np.full((1, bench.profile.n_channels), 0.02)
    face = GigeFace(CameraTwin("camera", bench), threading.RLock(), faults=loss)
    pipe.send(face.start().address)
    pipe.recv()
    face.stop()


@contextmanager
def camera(loss: PacketLoss | None) -> Iterator[str]:
    """The address of a camera that is served meanwhile."""
    ours, theirs = mp.Pipe()
    process = mp.get_context("spawn").Process(target=serve, args=(theirs, loss))
    process.start()
    try:
        yield str(ours.recv())
    finally:
        ours.send("stop")
        process.join()


def damaged(loss: PacketLoss | None, frames: int) -> int:
    """Of the first `frames`, those that lose a packet."""
    return 0 if loss is None else sum(bool(loss.lost(k, PACKETS).any()) for k in range(frames))


def viva(address: str, frames: int, resend: bool) -> tuple[int, int, float]:
    """Complete and incomplete frames that viva-genicam received, and how long that took (s)."""
    import viva_genicam as vg

    info = next(c for c in vg.discover(timeout_ms=500, all=True) if c.ip == address)
    with vg.connect_gige(info) as device:
        for name, value in FEATURES.items():
            device.set(name, str(value))
        stream = device.stream(packet_size=PACKET_BYTES, resend=resend, deliver_incomplete=True)
        with stream:
            began = time.perf_counter()
            complete = sum(stream.next_frame(5000).is_complete for _ in range(frames))
            return complete, frames - complete, time.perf_counter() - began


def aravis(address: str, frames: int, resend: bool) -> tuple[int, int, float]:
    """The same with Aravis."""
    peer = str(Path(__file__).parent / "aravis_peer.py")
    command = ["/usr/bin/python3", peer, address, str(frames), json.dumps(FEATURES)]
    command += ["--packet-size", str(PACKET_BYTES)] + ([] if resend else ["--no-resend"])
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    complete = said["statuses"].get("success", 0)
    return complete, sum(said["statuses"].values()) - complete, said["seconds"]


CASES = (("no losses", None, True), ("losses, resent", LOSS, True), ("losses, no resend", LOSS, False))


def measure(frames: int = 1000) -> list[Row]:
    """Every client that is installed, every case."""
    clients = {"viva-genicam": viva}
    if shutil.which("arv-tool-0.8") is not None:
        clients["Aravis"] = aravis
    rows = []
    for client, receive in clients.items():
        for what, loss, resend in CASES:
            with camera(loss) as address:
                complete, incomplete, seconds = receive(address, frames, resend)
            injected = damaged(loss, frames)
            rows.append(Row(client, what, frames, complete, incomplete, injected, frames / seconds))
    return rows


def main() -> None:
    """Print a row for each client and wire."""
    print("| client | wire | frames | complete | incomplete | damaged by injection | frames/s | met |")
    print("|---|---|---|---|---|---|---|---|")
    for r in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
        print(
            f"| {r.client} | {r.what} | {r.frames} | {r.complete} | {r.incomplete} | {r.injected} "
            f"| {r.frames_per_s:.1f} | {'yes' if r.met else 'no'} |"
        )


if __name__ == "__main__":
    main()
