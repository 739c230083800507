"""`labctl check` counts triggers: what a camera saw of a known number, and what to do about the missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labctl_sim_devices import CameraTwin

from labctl.devices import DeviceValueError
from labctl.rig import Rig, RigConfig, ServedRig, load_rig
from labctl.rig.trigger_check import SENT, count_triggers, trigger_findings


@pytest.fixture(scope="module")
def benches():
    """The same bench in this process and behind wires: panel, emitters, electronics, camera."""
    served = ServedRig(load_rig("optical-twin"))
    rigs = {"in process": Rig(load_rig("optical-twin")), "on wires": Rig(served.start())}
    for rig in rigs.values():
        rig.open()
    yield {where: rig.devices for where, rig in rigs.items()}
    for rig in rigs.values():
        rig.close()
    served.stop()


@pytest.fixture(params=[pytest.param("in process", marks=pytest.mark.slow), "on wires"])
def bench(request, benches):
    return benches[request.param]


def pulses(monkeypatch, arrive):
    """The trigger line: `arrive(queues so far, pulse numbers)` says which of a queue's pulses arrive."""
    expose, queues = CameraTwin.expose, []

    def passed_on(self, triggers, emitted_us):
        kept = np.array(arrive(len(queues), np.arange(len(triggers.time_us))), np.int64)
        queues.append(len(kept))
        if len(kept):
            time_us = triggers.time_us[kept] + np.where(np.diff(kept, prepend=-1) == 0, 0.5, 0.0)  # an echo
            came = replace(triggers, time_us=time_us, sample=triggers.sample[kept])
            expose(self, came, emitted_us[kept])

    monkeypatch.setattr(CameraTwin, "expose", passed_on)


def found(bench, *names):
    return list(trigger_findings([bench[name] for name in names], [bench["camera"]]))


def test_each_source_of_triggers_is_counted_and_the_camera_left_as_it_was(bench):
    camera = bench["camera"]
    camera.configure({"TriggerMode": "Off", "ExposureTime": 123.0})
    before = camera.settings
    used, other = found(bench, "electronics", "emitters")
    assert (used.device, used.ok, used.note, used.remedy) == ("camera", True, False, "")
    assert used.found == f"{SENT} triggers sent by electronics, {SENT} seen at Line0"
    assert (other.found, other.note) == (f"{SENT} triggers sent by emitters, {SENT} seen at Line0", True)
    assert camera.settings == before


def test_a_cut_cable_is_named_with_its_ends(bench, monkeypatch):
    pulses(monkeypatch, lambda queue, numbers: [])
    (cut,) = found(bench, "electronics")
    assert not cut.ok
    assert cut.found == (
        f"{SENT} triggers sent by electronics, 0 counted at Line0; one at a time, 0 of {SENT} seen"
    )
    for words in (
        "cable from the trigger output of electronics to Line0 of camera", "set TriggerSource (it has Line0)",
        "polarity against TriggerActivation",
    ):  # fmt: skip
        assert words in cut.remedy
    (other,) = found(bench, "emitters")[:1]
    assert not other.ok  # alone on the bench, its triggers are those that count


def test_a_source_that_the_rig_does_not_use_is_only_worth_knowing(bench, monkeypatch):
    pulses(monkeypatch, lambda queue, numbers: numbers if queue == 0 else [])
    used, other = found(bench, "electronics", "emitters")
    assert used.ok
    assert other.note
    assert other.found.endswith("this rig does not use them")


@pytest.mark.parametrize(
    ("arrive", "words", "remedy"),
    [
        (lambda queue, numbers: numbers[1:], "3 counted at Line0; one at a time, 0", "check the cable"),
        (lambda queue, numbers: numbers[queue % 2 :], "4 seen at Line0", ""),
        (lambda queue, numbers: numbers[(queue + 1) % 2 :],
         "3 counted at Line0; one at a time, 2", "a bad contact"),
        (lambda queue, numbers: numbers[::2] if len(numbers) > 1 else numbers,
         "2 counted at Line0; one at a time, 4", "camera is not ready for pulses"),
        (lambda queue, numbers: np.repeat(numbers, 2), "8 seen at Line0", "something else pulses Line0"),
    ],
    ids=["first lost", "whole", "loose", "too fast", "ringing"],
)  # fmt: skip
def test_what_is_missing_says_what_to_do(bench, monkeypatch, arrive, words, remedy):
    pulses(monkeypatch, arrive)
    (finding,) = found(bench, "electronics")
    assert words in finding.found
    assert finding.remedy.startswith(remedy)
    assert finding.ok == (remedy == "")


def test_pulses_that_nobody_sent_are_told(benches, monkeypatch):
    camera = benches["in process"]["camera"]
    seen = CameraTwin._do_triggers_seen
    monkeypatch.setattr(CameraTwin, "_do_triggers_seen", lambda self: seen(self) + 2)
    count = count_triggers(benches["in process"]["electronics"], camera)
    assert (count.early, count.seen, count.ok) == (2, SENT, False)
    assert count.found == "2 triggers came at Line0 before electronics sent any"
    assert count.remedy.startswith("something else pulses Line0")


def test_a_camera_without_a_trigger_input_and_a_source_without_a_camera(benches, monkeypatch):
    devices = benches["in process"]
    alone = list(trigger_findings([devices["electronics"]], []))
    assert [(f.device, f.found, f.note) for f in alone] == [
        ("electronics", "a trigger output, and no camera that could count", True)
    ]

    def refused(self, settings):
        raise DeviceValueError("TriggerMode is refused", device=self.name, operation="configure")

    monkeypatch.setattr(CameraTwin, "_do_configure", refused)
    deaf, source = found(devices, "electronics")
    assert (deaf.found, deaf.note) == ("no trigger input", True)
    assert source.device == "electronics"


def test_a_failed_count_spares_the_tests_that_need_images(monkeypatch):
    from labctl.rig import check_rig

    pulses(monkeypatch, lambda queue, numbers: [])
    config = load_rig("optical-host")
    assert isinstance(config, RigConfig)
    tests = [(f.test, f.ok) for f in check_rig(config) if f.device == "camera"]
    assert tests == [("identity", True), ("health", True), ("triggers", False)]
