"""A bench on local wires: the real drivers give, bit for bit, what the twins give in process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl import load_protocol, run
from labctl.config_files import parse_toml, toml_text
from labctl.devices import ConfigError, DeviceUnavailable, LoopElectronics
from labctl.rig import Rig, ServedRig, load_rig, open_rig

SMALL = {"samples": 12, "audit": 0, "reference": 50}


@pytest.fixture(scope="module")
def wired(tmp_path_factory):
    """optical-twin on wires: its rig file."""
    served = ServedRig(load_rig("optical-twin"))
    served.start()
    path = tmp_path_factory.mktemp("wired") / "wired.toml"
    path.write_text(served.rig_file())
    yield str(path)
    served.stop()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"audit": 4}, marks=pytest.mark.slow),
        pytest.param({"stepping": "chain"}, marks=pytest.mark.slow),
        pytest.param({"noise_scale": 3.0, "seed": 4, "steps": 2}, marks=pytest.mark.slow),
    ],
    ids=["host", "audited", "chain", "noisy"],
)
def test_a_recipe_comes_out_bit_for_bit(wired, tmp_path, settings) -> None:
    protocol = load_protocol("sample_moons", {**SMALL, **settings})
    results = []
    for rig_name in ("optical-twin", wired, wired):  # and again: it begins anew
        with open_rig(rig_name) as rig:
            assert rig.simulated
            results.append((run(protocol, rig, out=tmp_path), rig.world.now_us))
    (here, clock), *there = results
    for result, wired_clock in there:
        np.testing.assert_array_equal(here.samples, result.samples)
        assert clock == wired_clock
        assert_same_run(here.file, result.file)


OF_THE_HOST = re.compile(
    r".*/(start_time|end_time|date|entry_identifier_uuid|header/data|rig/data|host/\w+_s)"
)


def assert_same_run(one, other) -> None:
    """Every state, outcome and metric of two run files: all but the rig's file and the host's own times."""
    compared = []
    with h5py.File(one) as a, h5py.File(other) as b:

        def compare(name, item):
            if isinstance(item, h5py.Dataset) and not OF_THE_HOST.fullmatch(name):
                np.testing.assert_array_equal(item[()], b[name][()], err_msg=name)
                compared.append(name)

        a.visititems(compare)
    assert {"entry/steps/state", "entry/steps/outcome", "entry/metrics/value"} <= set(compared)


def test_two_hands_on_one_bench_are_one_too_many(wired) -> None:
    with open_rig(wired), pytest.raises(DeviceUnavailable, match=rf"in use by process {os.getpid()} \("):
        open_rig(wired)


def test_a_bench_that_begins_anew_is_another_one_behind_the_same_wires() -> None:
    served = ServedRig(load_rig("optical-twin"))
    config = served.start()
    try:
        benches = []
        for _ in range(2):
            with open_rig(config) as rig:
                rig.device(LoopElectronics).temperature_c()
                benches.append(dict(served._rig.devices))
        (one, other) = benches
        assert one.keys() == other.keys()
        assert not any(one[name] is other[name] for name in one)
        assert not any(device.is_open for device in one.values())  # left safe when the next one came
    finally:
        served.stop()


def test_raw_devices_are_the_twins(wired) -> None:
    with open_rig("optical-twin") as here, open_rig(wired) as there:
        one, other = here.device(LoopElectronics), there.device(LoopElectronics)
        assert one.spec == other.spec
        assert here.identities == there.identities
        assert one.snapshot() == other.snapshot()
        assert there.world.terms == here.world.terms


def test_faults_of_the_twin_are_reached(wired) -> None:
    with open_rig(wired) as rig:
        with pytest.raises(ConfigError, match="term"):
            rig.scale_faults(["no such term"], 1.0)
        rig.world.unplug()
        with pytest.raises(DeviceUnavailable, match="301, Bench not connected"):
            rig.device(LoopElectronics).temperature_c()


def test_another_world_is_not_mistaken_for_it(wired, tmp_path) -> None:
    config = load_rig(wired)
    other = config.model_copy(update={"world": config.world.model_copy(update={"seed": 9})})
    with pytest.raises(ConfigError, match=r"another world is served at .*: its seed differ"):
        open_rig(other)


def test_a_bench_that_is_no_longer_served_says_so(tmp_path) -> None:
    served = ServedRig(load_rig("optical-twin"))
    config = served.start()
    served.stop()
    served.stop()
    with pytest.raises(DeviceUnavailable, match=r"nobody serves a bench .*: start `labctl twin serve` again"):
        open_rig(config)


def test_what_cannot_be_served_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="rig digital cannot be served: nothing here is simulated"):
        ServedRig(load_rig("digital"))


def test_a_twin_cannot_live_in_a_served_world(wired, tmp_path) -> None:
    document = parse_toml(Path(wired).read_text(), "wired")
    document["device"][0] = {"name": "panel", "driver": "twin.lcos-panel"}
    path = tmp_path / "mixed.toml"
    path.write_text(toml_text(document))
    with pytest.raises(ConfigError, match=r"twin\.lcos-panel needs its world in this process"):
        load_rig(path)


def test_every_device_of_a_bench_gets_a_wire(wired) -> None:
    assert [d.name for d in load_rig(wired).device] == ["panel", "emitters", "electronics", "camera"]


def test_a_bench_is_safe_after_its_process_was_told_to_end(tmp_path) -> None:
    """The command itself, in a process of its own, ended by SIGTERM while a rig is open on it."""
    path = tmp_path / "wired.toml"
    code = "from labctl.cli import main; main()"
    command = [sys.executable, "-c", code, "twin", "serve", "optical-twin", "--out", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(120, process.kill)
        timer.start()
        try:
            for line in process.stderr:
                if "Ctrl-C here ends it" in line:
                    break
            path.write_text(path.read_text().replace("{timeout_s", "{attempts = 1, timeout_s"))
            rig = Rig(load_rig(path)).open()
            rig.device(LoopElectronics).temperature_c()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
            with pytest.raises(DeviceUnavailable):
                rig.device(LoopElectronics).temperature_c()
            with contextlib.suppress(DeviceUnavailable):
                rig.close()
        finally:
            timer.cancel()
            process.kill()
