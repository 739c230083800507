"""The driver `gige.camera` at a wire that loses packets, falls silent or belongs to another."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from labctl_drivers.genicam.gige import GenICamCamera, discover
from labctl_sim_devices.wires.faults import FaultLayer
from labctl_sim_devices.wires.gige import PacketLoss

from labctl.devices import (
    ConfigError,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
)

pytest.importorskip("viva_genicam", reason="viva-genicam is not installed")
WINDOW = {"Width": 576, "Height": 24, "OffsetX": 680, "OffsetY": 596, "ExposureTime": 20.0}


@pytest.fixture
def driven(served):
    """Factory: the driver, open, on a served camera; (driver, face)."""
    drivers = []

    def build(device, *, faults=None, control=None, **settings):
        face, wire = served(device, faults=faults, control=control)
        quick = {"discovery_s": 0.2, "open_timeout_s": 2.0, **settings}
        driver = GenICamCamera("camera", wire.address, **{**wire.settings, **quick})
        driver.open()
        drivers.append(driver)
        return driver, face

    yield build
    for driver in drivers:
        driver.close()


def equal(one, other):
    """Frames are the same, bit for bit."""
    for field in ("counts", "frame_id", "trigger_us", "timestamp_us", "saturated_px"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)
    assert (one.dropped, one.exposure_us, one.gain_db) == (other.dropped, other.exposure_us, other.gain_db)


def stepped(bench, camera, *, faults=None, every=1.0):
    """The same work on any camera of a bench: a free run, two queues of triggers, a free run."""
    camera.configure({**WINDOW, "Gain": 3.0})
    done = [camera.acquire(3)]
    camera.configure({"TriggerMode": "On", "TriggerDelay": 1.5})
    for queue in range(2):
        bench.world.camera_faults = dict(faults or {})
        done.append(bench.film(camera, 12, queue=queue, every=every))
    camera.configure({"TriggerMode": "Off"})
    return [*done, camera.acquire(2)]


@pytest.mark.parametrize(
    ("options", "faults"),
    [({}, None), ({"every": 0.4}, None), ({"faults": {2: "dropped", 5: "stale"}}, None),
     ({}, PacketLoss(0.05, seed=3))],
    ids=["plain", "triggers-missed", "frames-dropped-and-stale", "packets-lost"],
)  # fmt: skip
def test_stepped_frames_are_the_twins_bit_for_bit(bench, driven, options, faults):
    plain, wired = bench(), bench()
    plain.twin.open()
    driver, face = driven(wired.twin, faults=faults, packet_size=1500)
    for one, other in zip(
        stepped(plain, plain.twin, **options), stepped(wired, driver, **options), strict=True
    ):
        equal(one, other)
    assert plain.world.now_us == wired.world.now_us
    if faults is not None:
        assert face.count.lost_packets > 10


def test_frames_that_stay_incomplete_are_counted_and_never_used(bench, driven):
    plain, wired = bench(), bench()
    plain.twin.open()
    driver, face = driven(wired.twin, faults=PacketLoss(0.02, seed=3), resend=False, packet_size=1500)
    reference, got = (b.film(prepared(camera), 40) for b, camera in ((plain, plain.twin), (wired, driver)))
    lost = face.count.damaged_blocks
    assert lost > 0
    assert (len(got.counts), got.dropped) == (40 - lost, lost)
    np.testing.assert_array_equal(got.counts, reference.counts[got.frame_id])
    assert len(set(got.frame_id.tolist())) == 40 - lost


def prepared(camera):
    camera.configure({**WINDOW, "TriggerMode": "On"})
    return camera


def test_triggers_are_seen_before_the_frames_are_fetched(bench, driven):
    made = bench()
    driver, _ = driven(made.twin)
    prepared(driver)
    assert driver.triggers_seen() == 0
    driver.arm(5)
    assert driver.triggers_seen() == 0
    made.electronics.probe(np.full((5, 48), 100), at="emitter", hold=hold_of(driver))
    assert driver.triggers_seen() == 5
    assert driver.acquire(5).frame_id.tolist() == [0, 1, 2, 3, 4]


def hold_of(camera):
    from labctl.devices import Hold

    return Hold(25.0, camera.spec.period_us(20.0, 24))


def test_too_few_triggers_are_told(bench, driven):
    made = bench()
    driver, _ = driven(made.twin)
    prepared(driver)
    driver.arm(5)
    made.electronics.probe(np.full((3, 48), 100), at="emitter", hold=hold_of(driver))
    with pytest.raises(DeviceTimeout, match="5 frames were asked for, 3 triggers came"):
        driver.acquire(5)
    driver.arm(1)  # and the next acquisition starts afresh
    made.electronics.probe(np.full((1, 48), 100), at="emitter", hold=hold_of(driver))
    assert len(driver.acquire(1).counts) == 1


def test_a_second_host_is_told_that_the_camera_is_taken(bench, served):
    _, wire = served(bench().twin)
    viva = pytest.importorskip("viva_genicam")
    info = next(i for _ in range(5) for i in viva.discover(timeout_ms=200, all=True) if i.ip == wire.address)
    driver = GenICamCamera("camera", wire.address, **wire.settings)
    with viva.connect_gige(info), pytest.raises(DeviceUnavailable, match="another application controls"):
        driver.open()
    with driver:
        assert driver.is_open


def test_the_same_camera_twice_in_two_drivers_names_the_holder(bench, driven, served):
    driver, _ = driven(bench().twin)
    with pytest.raises(DeviceUnavailable, match=r"camera: open: .* is in use by process \d+"):
        GenICamCamera("camera", driver.address, **SHEET).open()


SHEET = {"full_well_e": 32e3, "quantum_efficiency": 0.7, "read_noise_e": 7.0, "line_us": 5.2}


def test_nobody_at_the_address_names_those_who_are_there(bench, driven):
    driven(bench().twin)
    with pytest.raises(DeviceUnavailable, match=r"no camera answers at 127\.9\.9\.9; .*simulated camera"):
        GenICamCamera("camera", "127.9.9.9", discovery_s=0.2, open_timeout_s=0.5, **SHEET).open()


def test_a_camera_that_falls_silent_is_named_and_can_be_put_away(bench, driven):
    driver, face = driven(bench().twin)
    prepared(driver)
    driver.arm(2)
    face.unplug()
    with pytest.raises(DeviceUnavailable, match=r"^camera: acquire: .*answers nothing any more"):
        driver.acquire(2)
    with pytest.raises(DeviceUnavailable, match=r"^camera: snapshot: no camera answers at"):
        driver.snapshot()
    driver.close()
    assert not driver.is_open


def test_a_camera_that_comes_back_is_set_as_before_and_must_be_armed_again(bench, driven):
    made = bench()
    driver, face = driven(made.twin, open_timeout_s=8.0)
    prepared(driver)
    driver.arm(2)
    face.unplug()
    with pytest.raises(DeviceUnavailable, match="answers nothing any more"):
        driver.snapshot()
    face.plug_in()
    assert driver.settings.features()["Width"] == 576
    with pytest.raises(DeviceStateError, match=r"call arm\(\)"):
        driver.acquire(2)
    assert len(made.film(driver, 4).counts) == 4


class AtCommand(FaultLayer):
    """Strikes the answer to the first command of this name."""

    def __init__(self, fault, command):
        super().__init__(fault, after=10**9)
        self._command, self._strikes_next = command, False

    def watch(self, model, monkeypatch):
        carry_out = model.execute

        def execute(name):
            self._strikes_next = name == self._command and not self.struck
            return carry_out(name)

        monkeypatch.setattr(model, "execute", execute)

    def sending(self, answer):
        if not self._strikes_next:
            return super().sending(answer)
        self._strikes_next, self.struck = False, 1
        return self._misbehaved(answer, b"")


@pytest.mark.parametrize("triggered", [True, False], ids=["triggered", "free-run"])
@pytest.mark.parametrize("command", ["AcquisitionStart", "TransferStart"])
def test_a_start_whose_answer_is_damaged_is_not_given_again(bench, driven, monkeypatch, command, triggered):
    plain, wired = bench(), bench()
    plain.twin.open()
    layer = AtCommand("truncated", command)
    driver, face = driven(wired.twin, control=layer)
    layer.watch(face._model, monkeypatch)
    for camera in (plain.twin, driver):
        camera.configure({**WINDOW, "TriggerMode": "On" if triggered else "Off"})
    if triggered:
        equal(plain.film(plain.twin, 5), wired.film(driver, 5))
    else:
        equal(plain.twin.acquire(5), driver.acquire(5))
    assert layer.struck == 1


def test_a_free_run_that_a_cable_ends_begins_anew(bench, driven, monkeypatch):
    plain, wired = bench(), bench()
    plain.twin.open()
    layer = AtCommand("disconnect", "AcquisitionStart")
    driver, face = driven(wired.twin, control=layer, attempts=2, open_timeout_s=4.0)
    layer.watch(face._model, monkeypatch)
    for camera in (plain.twin, driver):
        camera.configure(WINDOW)
    plain.twin.acquire(5)  # that one went with the cable
    equal(plain.twin.acquire(5), driver.acquire(5))


def test_control_that_this_program_has_left_is_waited_for(bench, served):
    _, wire = served(bench().twin)
    viva = pytest.importorskip("viva_genicam")
    info = next(i for _ in range(5) for i in viva.discover(timeout_ms=200, all=True) if i.ip == wire.address)
    driver = GenICamCamera("camera", wire.address, **{**wire.settings, "discovery_s": 0.2})
    left = viva.connect_gige(info)  # as a connection that ended without the camera's word
    driver._hold.ended(given_back=False)
    timer = threading.Timer(0.5, left.close)
    timer.start()
    with driver:
        assert driver.is_open
    timer.join()
    assert driver._hold.left_s == 0.0  # given back


def test_what_the_camera_refuses_is_told_and_nothing_changes(bench, driven, monkeypatch):
    made = bench()
    driver, _ = driven(made.twin)
    before = driver.settings
    taken = made.twin.configure

    def refuse(features):
        if "Gain" in features and features["Gain"] > 0:
            from labctl.devices import DeviceValueError

            raise DeviceValueError("not today", device="camera", operation="configure")
        return taken(features)

    monkeypatch.setattr(made.twin, "configure", refuse)
    with pytest.raises(DeviceValueError, match=r"the camera refuses: .*INVALID_PARAMETER"):
        driver.configure({"Width": 100, "ExposureTime": 33.0, "Gain": 3.0})
    assert driver.settings == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"line_us": 0.0}, "line_us"), ({"quantum_efficiency": 1.5}, "quantum_efficiency"),
     ({"shutter": "half"}, "shutter"), ({"timeout_s": 0}, "timeout_s"), ({"colour": 5}, "colour")],
)  # fmt: skip
def test_a_wrong_setting_of_the_link_is_named(settings, words):
    with pytest.raises(ConfigError, match=rf"device 'camera': settings.*{words}"):
        GenICamCamera("camera", "127.0.0.1", **{**SHEET, **settings})


def test_the_spec_is_the_cameras_own(bench, driven):
    made = bench()
    driver, _ = driven(made.twin)
    assert driver.spec == made.twin.spec
    assert driver.open() == made.twin.open()


def test_a_discovery_lists_the_camera(bench, driven):
    driver, _ = driven(bench().twin)
    found = {camera.address: camera.model for camera in discover(0.3)}
    assert found[driver.address] == "simulated camera"
