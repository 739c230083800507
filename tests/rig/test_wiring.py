"""A rig file's `[wiring]`: where it stands, where it acts, and what it is refused with."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import ConfigError, LoopElectronics
from labctl.rig import Rig, load_rig
from labctl.rig.wiring import WiringConfig

TOML = """
name = "wired"
about = "a bench with a wiring"
engine = "{engine}"

[world]
profile = "ideal"

[[device]]
name = "panel"
driver = "twin.lcos-panel"

[[device]]
name = "electronics"
driver = "twin.loop-electronics"

[[device]]
name = "camera"
driver = "twin.camera"

[wiring]
{wiring}
"""


@pytest.mark.parametrize(
    ("engine", "wiring", "words"),
    [
        ("optical-loop", "read = [0, 1]", "wiring.read has 2 places; allowed: each of 0 to 47 once"),
        ("optical-loop", 'panel_flip = "sideways"', "panel_flip = 'sideways': allowed: 'none'"),
        ("digital", "dead = [1]", "wiring is given with engine digital; allowed: engine optical-loop"),
    ],
)
def test_a_wrong_one_is_refused(tmp_path, engine, wiring, words):
    path = tmp_path / "rig.toml"
    path.write_text(TOML.format(engine=engine, wiring=wiring))
    with pytest.raises(ConfigError, match=words):
        load_rig(path)


def test_devices_get_it_and_the_camera_does_not_read_by_it(tmp_path):
    path = tmp_path / "rig.toml"
    path.write_text(TOML.format(engine="optical-loop", wiring="inverted_read = [3]"))
    rig = Rig(load_rig(path))
    rig.build()
    assert rig.device(LoopElectronics).wiring.read_sign[3] == -1
    with pytest.raises(ConfigError, match=r"has a \[wiring\], which the camera does not go by; allowed: adc"):
        rig.check_readout("camera")
    rig.rewire(WiringConfig(inverted_read=(7,)))
    np.testing.assert_array_equal(np.flatnonzero(rig.device(LoopElectronics).wiring.read_sign < 0), [7])
