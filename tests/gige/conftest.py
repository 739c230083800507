"""A camera twin on its bench, in process or behind GigE Vision."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pytest
from labctl_sim_devices import CameraTwin, ElectronicsTwin, OpticalBench, load_profile
from labctl_sim_devices.wires.gige import GigeFace

from labctl.devices import Hold

WINDOW = {"Width": 576, "Height": 24, "OffsetX": 680, "OffsetY": 596, "ExposureTime": 20.0}


@dataclass
class Bench:
    """A bench of one camera and electronics that trigger it."""

    world: OpticalBench
    twin: CameraTwin
    electronics: ElectronicsTwin

    def film(self, camera, n, *, queue=0, every=1.0):
        """n triggers from probes of seeded patterns; the frames. `every` of the shortest period."""
        spec = camera.spec
        camera.arm(n)
        codes = np.random.Generator(np.random.Philox(key=queue)).integers(0, 60, (n, 48))
        period_us = spec.period_us(20.0, 24)
        self.electronics.probe(
            codes, at="emitter", hold=Hold(20.0 + spec.delay_us + spec.jitter_us, every * period_us)
        )
        return camera.acquire(n)


@pytest.fixture
def bench():
    """Factory: a fresh bench with its devices open."""

    def build(seed=5, noise_scale=1.0):
        world = OpticalBench(load_profile("adm"), seed=seed, noise_scale=noise_scale)
        world.optics.frame_changed(np.full(world.profile.panel_shape_px, 255, np.uint16), 0.0)
        world.advance(world.profile.panel_settle_us)
        world.emitted_units = np.full((1, world.profile.n_channels), 0.02)
        made = Bench(world, CameraTwin("camera", world), ElectronicsTwin("electronics", world))
        made.electronics.open()
        return made

    return build


@pytest.fixture
def served():
    """Factory: a camera behind GigE Vision; (face, its address)."""
    faces = []

    def build(device, **options):
        face = GigeFace(device, threading.RLock(), **options)
        wire = face.start()
        faces.append(face)
        return face, wire

    yield build
    for face in faces:
        face.stop()
