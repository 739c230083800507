"""Clients that we did not write find, set and read the camera: viva-genicam (PyPI) and Aravis (Debian)."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from labctl_sim_devices.wires.gige import PacketLoss

viva = pytest.importorskip("viva_genicam", reason="viva-genicam is not installed")
PEER = Path(find_spec("aravis_peer").origin)  # run by Debian's Python, not imported
TYPELIBS = tuple(Path("/usr/lib").glob("*/girepository-1.0/Aravis-0.8.typelib"))
aravis = pytest.mark.skipif(
    shutil.which("arv-tool-0.8") is None or not TYPELIBS, reason="Debian's Aravis is not installed"
)
SPOTS = {"Width": 576, "Height": 24, "OffsetX": 680, "OffsetY": 596}


def found(address):
    """The camera at this address, as a discovery has it."""
    for _ in range(5):
        for info in viva.discover(timeout_ms=200, all=True):
            if info.ip == address:
                return info
    raise AssertionError(f"nobody answers at {address}")


def setting(camera, **features):
    for name, value in features.items():
        camera.set(name, str(value))


def test_a_discovery_says_who_it_is(bench, served):
    _, wire = served(bench().twin)
    info = found(wire.address)
    assert (info.manufacturer, info.model) == ("labctl", "simulated camera")


def test_two_cameras_on_one_machine_are_both_found(bench, served):
    wires = {served(bench(seed=seed).twin)[1].address for seed in (1, 2)}
    assert len(wires) == 2
    assert {info.ip for info in (found(address) for address in wires)} == wires


def test_every_feature_of_the_description_is_understood_and_read(bench, served):
    _, wire = served(bench().twin)
    with viva.connect_gige(found(wire.address)) as camera:
        assert camera.skipped() == []
        for name in camera.nodes():
            state = camera.feature_state(name)
            if name.startswith("Chunk") and name not in ("ChunkModeActive", "ChunkSelector", "ChunkEnable"):
                continue  # there is no frame yet
            if state.access in ("RO", "RW") and state.kind != "Category":
                assert state.value is not None, name


def test_exposure_and_gain_are_real(bench, served):
    _, wire = served(bench(noise_scale=0.0).twin)
    means = {}
    with viva.connect_gige(found(wire.address)) as camera:
        setting(camera, **SPOTS, AcquisitionMode="SingleFrame")
        for exposure_us, gain_db in ((5, 0), (20, 0), (20, 6)):
            setting(camera, ExposureTime=exposure_us, Gain=gain_db)
            with camera.stream() as frames:
                means[exposure_us, gain_db] = frames.next_frame(5000).to_numpy().mean() - 64
    assert means[20, 0] / means[5, 0] == pytest.approx(4, rel=0.02)
    assert means[20, 6] / means[20, 0] == pytest.approx(10 ** (6 / 20), rel=0.02)


@pytest.mark.parametrize(("name", "bits"), [("Mono8", 8), ("Mono12", 12), ("Mono16", 16)])
def test_every_pixel_format_shows_the_same_light(bench, served, name, bits):
    _, wire = served(bench(noise_scale=0.0).twin)
    reference = bench(noise_scale=0.0).twin
    reference.open()
    reference.configure({**SPOTS, "ExposureTime": 20.0})
    counts = reference.acquire(1).counts[0]
    with viva.connect_gige(found(wire.address)) as camera:
        setting(camera, **SPOTS, ExposureTime=20, PixelFormat=name, AcquisitionMode="SingleFrame")
        with camera.stream() as frames:
            frame = frames.next_frame(5000)
    assert frame.pixel_format == name
    shifted = counts >> 4 if bits == 8 else counts << (bits - 12)
    np.testing.assert_array_equal(frame.to_numpy(), shifted)


def test_software_triggers_take_a_frame_each(bench, served):
    _, wire = served(bench().twin)
    with viva.connect_gige(found(wire.address)) as camera:
        setting(camera, Width=32, Height=16, TriggerSource="Software", TriggerMode="On")
        with camera.stream() as frames:
            for block in (1, 2, 3):
                with pytest.raises(viva.TransportError, match="timeout"):
                    frames.next_frame(60)
                camera.trigger_software()
                assert frames.next_frame(3000).block_id == block


def test_hardware_triggers_with_automatic_transfer(bench, served):
    made = bench()
    _, wire = served(made.twin)
    with viva.connect_gige(found(wire.address)) as camera:
        setting(camera, **SPOTS, ExposureTime=20, TriggerMode="On")
        with camera.stream() as frames:
            made.electronics.probe(np.full((2, 48), 100), at="emitter", hold=_hold(made.twin))
            assert [frames.next_frame(5000).block_id for _ in range(2)] == [1, 2]


def _hold(twin):
    from labctl.devices import Hold

    return Hold(25.0, twin.spec.period_us(20.0, 24))


def test_lost_packets_are_sent_again(bench, served):
    face, wire = served(bench(noise_scale=0.0).twin, faults=PacketLoss(0.02, seed=3))
    with viva.connect_gige(found(wire.address)) as camera:
        setting(camera, Width=256, Height=256, AcquisitionFrameRate=50)
        with camera.stream(packet_size=1500, deliver_incomplete=True) as frames:
            complete = [frames.next_frame(5000).is_complete for _ in range(40)]
            stats = frames.stats()
    assert all(complete)
    assert stats.resend_recovered > 0
    assert face.count.resent_packets >= stats.resend_recovered


def test_injected_losses_are_counted_exactly(bench, served):
    face, wire = served(bench(noise_scale=0.0).twin, faults=PacketLoss(0.01, seed=3))
    with viva.connect_gige(found(wire.address)) as camera:
        setting(camera, Width=256, Height=256, AcquisitionMode="MultiFrame", AcquisitionFrameCount=30)
        setting(camera, DeviceLinkThroughputLimit=10_000_000)
        with camera.stream(packet_size=1500, resend=False, deliver_incomplete=True) as frames:
            complete = [frames.next_frame(5000).is_complete for _ in range(30)]
            stats = frames.stats()
    count = face.count
    assert count.lost_packets > 0
    assert stats.packets_missing == count.lost_packets
    assert stats.frames_incomplete == complete.count(False) == count.damaged_blocks


def test_control_is_one_hosts_alone_and_ends_with_its_heartbeat(bench, served):
    face, wire = served(bench().twin)
    info = found(wire.address)
    with viva.connect_gige(info):
        with pytest.raises(viva.TransportError, match="ACCESS_DENIED"):
            viva.connect_gige(info)
        with viva.connect_gige(info, monitor=True) as second:
            assert second.get("DeviceVendorName") == "labctl"
    viva.connect_gige(info).close()  # given back at once
    assert face.count.blocks == 0


@aravis
def test_aravis_finds_and_sets_the_camera(bench, served):
    _, wire = served(bench().twin)
    # Aravis waits a moment for answers to its one broadcast: a camera on a busy core may miss it, not thrice
    listed = [_aravis("arv-tool-0.8") for _ in range(3)]
    assert any(f"({wire.address})" in one for one in listed)
    said = _aravis(
        "arv-tool-0.8", "-a", wire.address, "control", "Width=512", "ExposureTime=1000", "PixelFormat=Mono16",
        "DeviceSerialNumber", "Gain",
    )  # fmt: skip
    assert "Width = 512 min:1 max:1936" in said
    assert "ExposureTime = 1000 us min:5 max:1e+06" in said
    assert "PixelFormat = Mono16" in said
    assert "DeviceSerialNumber = SIM-CAM-5-" in said


@aravis
def test_aravis_receives_the_twins_frames_bit_for_bit(bench, served):
    plain = bench()
    plain.twin.open()
    plain.twin.configure({**SPOTS, "ExposureTime": 20.0})
    counts = plain.twin.acquire(20).counts
    face, wire = served(bench().twin, faults=PacketLoss(0.01, seed=8))
    said = stream(wire.address, 20)
    assert face.count.lost_packets > 0
    assert said["resent"] > 0
    assert said["statuses"] == {"success": 20}
    assert said["sha256"] == hashlib.sha256(counts.astype("<u2").tobytes()).hexdigest()


@aravis
def test_aravis_counts_injected_losses_exactly(bench, served):
    face, wire = served(bench(noise_scale=0.0).twin, faults=PacketLoss(0.04, seed=8))
    said = stream(wire.address, 30, "--no-resend")
    damaged = face.count.damaged_blocks
    assert 1 < damaged < 29
    assert said["statuses"]["success"] == 30 - damaged
    assert sum(said["statuses"].values()) == 30


def _aravis(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def stream(address, frames, *options):
    features = json.dumps({**SPOTS, "ExposureTime": 20.0})
    return json.loads(_aravis("/usr/bin/python3", str(PEER), address, str(frames), features, *options))
