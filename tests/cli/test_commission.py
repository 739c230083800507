"""`labctl commission`: a served bench from addresses alone; what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration.commissioning import KIND
from labctl_calibration.store import RecordStore
from labctl_sim_devices.cables import drawn_cables

from labctl.rig import ServedRig, load_rig
from labctl.rig.config import ScrambleConfig


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optical-host"], "engine optical-host-loop; allowed: optical-loop"),
        (["oscillator-twin"], "engine oscillator; allowed: optical-loop"),
        (["nothing.toml"], "neither shipped nor a file"),
    ],
)
def test_a_rig_that_cannot_be_commissioned_is_refused(labctl, arguments, words):
    ended = labctl("commission", *arguments)
    assert ended.code == 2, ended.err
    assert words in " ".join(ended.err.split())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_served_bench_is_commissioned_from_its_addresses(labctl, tmp_path):
    config = load_rig("optical-unit")
    how = ScrambleConfig(seed=4, unplugged=1)
    world = config.world.model_copy(update={"scramble": how})
    two = tuple(device for device in config.device if device.name in ("panel", "electronics"))
    served = ServedRig(config.model_copy(update={"world": world, "device": two}))
    served.start()
    try:
        wires = tmp_path / "wired.toml"
        wires.write_text(served.rig_file())
        ended = labctl("commission", wires, "--out", "commissioned.toml", "--records", "found")
        assert ended.code == 0, ended.err + ended.out
        for words in ("of 48 drive channels give light", "golden sample good", "of simulated device time"):
            assert words in ended.out
        found = load_rig(tmp_path / "commissioned.toml")
        assert {device.driver for device in found.device} == {"scpi.panel", "scpi.loop-electronics"}
        wiring, cables = found.wired, drawn_cables(4, 48, inverted_share=how.inverted_share, unplugged=1)
        lives = np.setdiff1d(np.arange(48), found.wiring.dead)
        np.testing.assert_array_equal(
            np.abs(np.diff(np.argsort(wiring.row))), np.abs(np.diff(np.argsort(cables.detector)))
        )
        assert (wiring.drive_sign[lives] == cables.emitter_sign[lives]).all()
        kinds = [one.record.kind for one in RecordStore(tmp_path / "found").all()]
        assert kinds.count(KIND) == 1
        again = labctl("calibrate", tmp_path / "commissioned.toml", "--records", "found", "--dry-run")
        assert again.code == 0, again.err
        assert "1 of " in again.err  # but for the warm-up all is measured, and by this wiring
    finally:
        served.stop()
