"""A whole recipe on real drivers: panel, drive and electronics over SCPI, the camera over GigE Vision."""

from __future__ import annotations

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.rig import load_rig
from labctl.rig.serving import ServedRig

pytest.importorskip("viva_genicam", reason="viva-genicam is not installed")
pytest.importorskip("pyvisa_py", reason="pyvisa-py is not installed")


@pytest.fixture
def wired(tmp_path):
    """A rig file that points real drivers at the twins of a shipped rig."""
    served = []

    def build(name):
        made = ServedRig(load_rig(name))
        served.append(made)
        made.start()
        assert made.refused == {}
        path = tmp_path / "wired.toml"
        path.write_text(made.rig_file(), "utf-8")
        return path

    yield build
    for made in served:
        made.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rig", "settings"),
    [
        ("optical-twin", {"readout": "camera", "samples": 32, "steps": 2, "audit": 0, "reference": 50}),
        ("optical-host", {"samples": 16, "steps": 1}),
    ],
)
def test_a_recipe_read_by_camera_is_the_same_over_wires_bit_for_bit(wired, tmp_path, rig, settings):
    protocol = load_protocol("sample_moons", settings)
    with open_rig(rig) as plain:
        alone = run(protocol, plain, out=str(tmp_path / "alone"))
    with open_rig(str(wired(rig))) as real:
        assert {d.driver for d in real.config.device} >= {"gige.camera"}
        over = run(protocol, real, out=str(tmp_path / "over"))
    np.testing.assert_array_equal(alone.samples, over.samples)
