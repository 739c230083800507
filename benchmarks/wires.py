"""What our drivers cost over bare pyvisa on the same wire, and over bare sockets.

`python benchmarks/wires.py` serves SCPI instruments in a process of their own and prints, for raw sockets
and HiSLIP: a query of one number through the driver against pyvisa's `query`, and queues of 1,024 settles as
blocks against pyvisa's own reading of the same blocks. The instrument answers from memory: no physics.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from labctl_drivers.scpi.loop_electronics import ScpiLoopElectronics
from labctl_sim_devices import ElectronicsTwin, OpticalBench, load_profile
from labctl_sim_devices.wires.scpi.loop import ScpiLoopFace
from numpy.typing import NDArray

from labctl.devices import (
    Hold,
    Identity,
    LoopElectronics,
    LoopReadout,
    LoopSpec,
    ProbeReadout,
    Scalar,
    SettleCodes,
    UnsupportedFeature,
)
from labctl.devices.wire.records import record_bytes
from labctl.devices.wire.scpi_syntax import block

SETTLES, QUERIES, QUEUES, ROUNDS = 1024, 400, 10, 9
MEDIA: tuple[Literal["socket", "hislip"], ...] = ("socket", "hislip")


class FromMemory(LoopElectronics):
    """Loop electronics that answer at once, always the same."""

    def __init__(self, spec: LoopSpec) -> None:
        super().__init__("electronics")
        self._spec = spec
        n, rng = spec.n_channels, np.random.Generator(np.random.Philox(key=0))
        counts = rng.normal(0, 1000, (4, SETTLES, n))
        clipped = np.zeros((SETTLES, n), np.bool_)
        self._readout = LoopReadout(counts[0], counts[1:3], counts[3], clipped, spec.wait_us, spec.window_us)

    @property
    def spec(self) -> LoopSpec:
        return self._spec

    def _do_open(self) -> Identity:
        return Identity("labctl", "electronics from memory", "0", "1", simulated=True)

    def _do_close(self) -> None:
        pass

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        return {}

    def _do_set_offset_null(self, codes: NDArray[np.int64]) -> None:
        pass

    def _do_probe(
        self, codes: NDArray[np.int64], at: Literal["phi", "emitter"], repeats: int, hold: Hold | None
    ) -> ProbeReadout:
        raise UnsupportedFeature("answers settles alone", device=self.name, operation="probe")

    def _do_settle(self, codes: SettleCodes, wait_us: float, trace: bool, hold: Hold | None) -> LoopReadout:
        return self._readout

    def _do_temperature_c(self) -> float:
        return 25.0


def keep_to_core(turn: int) -> None:
    """Client and server each on a core of its own, always: a wake-up within a core costs half of one across,
    and the kernel's choice would decide the ratio.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[turn % len(cores)]})


def serve() -> None:
    """In the other process: say where, stay until stdin ends."""
    keep_to_core(1)
    spec = ElectronicsTwin("electronics", OpticalBench(load_profile("adm"))).spec
    for medium in MEDIA:
        face = ScpiLoopFace(FromMemory(spec), threading.RLock(), medium=medium)
        print(face.start().address, flush=True)
    sys.stdin.read()


def in_turns(ways: Mapping[str, Callable[[], Any]], rounds: int, at_once: int = 1) -> dict[str, float]:
    """Seconds of one by each way, medians over rounds; the ways take turns, `at_once` calls each.

    Many at once find the serving thread awake after the last one, which a question that stands alone does not.
    """
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            began = time.perf_counter()
            for _ in range(at_once):
                work()
            taken[way].append((time.perf_counter() - began) / at_once)
    return {way: statistics.median(rounds) for way, rounds in taken.items()}


def raw_query(wire: socket.socket) -> bytes:
    """The same question over a bare socket."""
    wire.sendall(b"SYST:TEMP?\n")
    return wire.recv(100)


def settle_queue(n: int) -> SettleCodes:
    """SETTLES settles of n channels with random biases, the same every time."""
    rng = np.random.Generator(np.random.Philox(key=1))
    codes = rng.integers(-8000, 8000, (SETTLES, n))
    ones = np.ones((1, n), np.int64)
    return SettleCodes(codes, ones, ones, ones[0], codes, 0, np.arange(SETTLES))


@dataclass(frozen=True)
class Seconds:
    """Of one by each way: a query that stands alone, one of many in a row, a queue and its bytes both ways."""

    query: dict[str, float]
    in_a_row: dict[str, float]
    queue: dict[str, float]
    queue_bytes: int


def measure(address: str) -> Seconds:
    """Queries and queues each way over one wire."""
    import pyvisa

    is_socket = address.endswith("SOCKET")
    resource: Any = pyvisa.ResourceManager("@py").open_resource(address)
    resource.read_termination, resource.write_termination = ("\n" if is_socket else None), "\n"
    resource.timeout = 10_000
    with ScpiLoopElectronics("electronics", address, visa_library="@py") as driver:
        queue = settle_queue(driver.spec.n_channels)
        payload = record_bytes(queue)

        def bare() -> bytes:
            resource.write_raw(b"LOOP:SETT? " + block(payload) + b"\n")
            answer: bytes = resource.read_binary_values(datatype="B", container=bytes)
            return answer

        queries: dict[str, Callable[[], Any]] = {
            "driver": driver.temperature_c,
            "pyvisa": lambda: float(resource.query("SYST:TEMP?")),
        }
        with socket.socket() as wire:
            if is_socket:
                wire.connect(("127.0.0.1", int(address.split("::")[2])))
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                queries["raw"] = lambda: raw_query(wire)
            query, in_a_row = in_turns(queries, QUERIES * ROUNDS), in_turns(queries, ROUNDS, QUERIES)
        settle = in_turns({"driver": lambda: driver.settle(queue), "pyvisa": bare}, QUEUES * ROUNDS)
        n_bytes = len(payload) + len(bare())
    resource.close()
    return Seconds(query, in_a_row, settle, n_bytes)


def main() -> None:
    """Serve in a process of its own, measure from this one, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().serve:
        serve()
        return
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        if other.stdin is None or other.stdout is None:
            raise RuntimeError("no pipes to the serving process")
        keep_to_core(0)
        print("| wire | quantity | driver | bare pyvisa | ratio | bar |")
        print("|---|---|---|---|---|---|")
        for medium in MEDIA:
            found = measure(other.stdout.readline().strip())
            alone, in_a_row = "query, ways in turns", f"query, {QUERIES} in a row"
            for what, query, bar in ((alone, found.query, "<= 1.5"), (in_a_row, found.in_a_row, "")):
                us = {way: f"{1e6 * value:.0f} µs" for way, value in query.items()}
                raw = f" (raw socket {us['raw']})" if "raw" in us else ""
                ratio = query["driver"] / query["pyvisa"]
                print(f"| {medium} | {what} | {us['driver']} | {us['pyvisa']}{raw} | {ratio:.2f} | {bar} |")
            size_mb = found.queue_bytes / 1e6
            speed = {way: f"{size_mb / value:.0f} MB/s" for way, value in found.queue.items()}
            share = found.queue["pyvisa"] / found.queue["driver"]
            what = f"queue of {SETTLES:,} settles, {size_mb:.2f} MB"
            print(f"| {medium} | {what} | {speed['driver']} | {speed['pyvisa']} | {share:.2f} | >= 0.70 |")
        other.stdin.close()


if __name__ == "__main__":
    main()
