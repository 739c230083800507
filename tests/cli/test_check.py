"""`labctl check` and `labctl data`, `labctl train`: says precisely what failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from labctl_sim_devices import CameraTwin, ElectronicsTwin, EmitterTwin, OpticalBench, PanelTwin


@pytest.mark.parametrize("rig", ["optical-twin", "optical-ideal"])
def test_a_sound_rig_passes(labctl, rig, tmp_path) -> None:
    ended = labctl("check", rig)
    assert ended.code == 0, ended.out
    assert "✗" not in ended.out
    for words in ("identity", "health", "frame", "drive", "light path", "loop", "simulated", "read noise"):
        assert words in ended.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "rig",
    [
        "optical-host",
        *(pytest.param(f"optical-host-{kind}", marks=pytest.mark.slow) for kind in ("dmd", "phase")),
    ],
)
def test_a_bench_without_loop_electronics_has_its_spots_found(labctl, rig) -> None:
    ended = labctl("check", rig)
    assert ended.code == 0, ended.out
    assert "✗" not in ended.out
    assert "96 spots every 1" in ended.out


def test_a_rig_without_devices(labctl) -> None:
    ended = labctl("check", "digital")
    assert ended.code == 0
    assert "no devices" in ended.out


def fail_line(ended) -> str:
    (line,) = [line for line in ended.out.splitlines() if line.startswith("✗")]
    return line


def test_a_stuck_pixel_is_found(labctl, monkeypatch) -> None:
    shown = PanelTwin._do_shown

    def stuck(self):
        frame = shown(self)
        frame[3, 4] ^= 1
        return frame

    monkeypatch.setattr(PanelTwin, "_do_shown", stuck)
    ended = labctl("check", "optical-twin")
    assert ended.code == 3
    assert "panel" in fail_line(ended)
    assert "1 of 2,073,600 pixels" in fail_line(ended)
    assert "panel (frame)" in ended.err
    assert ended.out.count("✓") == 13  # everything else was still tested


def test_what_cannot_be_read_back_is_not_said_to_have_been(labctl, tmp_path) -> None:
    (tmp_path / "rig.toml").write_text(
        'name = "own"\nabout = "a panel of slmsuite"\nengine = "digital"\n\n[[device]]\nname = "panel"\n'
        'driver = "slmsuite.slm"\naddress = "set_up.py#slm"\n'
    )
    (tmp_path / "set_up.py").write_text(
        "import numpy as np\n"
        "class Panel:\n"
        "    name, shape, bitdepth, dtype, settle_time_s = 'plain', (6, 8), 8, np.uint8, 0.0\n"
        "    def set_phase(self, phase, settle):\n        pass\n"
        "    def close(self):\n        pass\n"
        "slm = Panel()\n"
    )
    ended = labctl("check", "rig.toml")
    (line,) = [line for line in ended.out.splitlines() if " frame " in line]
    assert line.startswith("✓ panel  frame"), ended.out
    assert "256 levels, sent; it cannot say what it shows (CRC-32" in line
    assert "read back" not in line


def test_a_dead_channel_is_named(labctl, monkeypatch) -> None:
    probe = ElectronicsTwin._do_probe

    def dead(self, codes, at, repeats, hold):
        codes = codes.copy()
        codes[:, 8] = 0
        return probe(self, codes, at, repeats, hold)

    monkeypatch.setattr(ElectronicsTwin, "_do_probe", dead)
    ended = labctl("check", "optical-twin")
    assert ended.code == 3
    assert "channel 8 answers 0.00" in fail_line(ended)
    assert "electronics (light path)" in ended.err


def test_a_noisy_loop_is_refused_with_the_number(labctl, tmp_path) -> None:
    from labctl_recipes import __file__ as recipes

    text = (Path(recipes).parent / "rigs" / "optical-twin.toml").read_text("utf-8")
    (tmp_path / "noisy.toml").write_text(text.replace("seed = 1", "seed = 1\nnoise_scale = 50"))
    ended = labctl("check", "noisy.toml")
    assert ended.code == 3
    assert "has noise of" in fail_line(ended)
    assert "allowed: 1%" in fail_line(ended)


def test_a_bench_that_is_not_there(labctl, monkeypatch) -> None:
    made = OpticalBench.__init__

    def gone(self, *args, **kwargs) -> None:
        made(self, *args, **kwargs)
        self.unplug()

    monkeypatch.setattr(OpticalBench, "__init__", gone)
    ended = labctl("check", "optical-twin")
    assert ended.code == 3
    failed = [line for line in ended.out.splitlines() if line.startswith("✗")]
    assert len(failed) == 4
    assert all("the bench has disappeared" in line for line in failed)
    names = ("panel", "emitters", "electronics", "camera")
    assert all(f"{name} (open)" in ended.err for name in names)


def test_devices_are_closed_whatever_was_found(labctl, monkeypatch) -> None:
    closed = []
    for kind in (PanelTwin, EmitterTwin, ElectronicsTwin, CameraTwin):

        def close(self, before=kind._do_close) -> None:
            closed.append(self.name)
            before(self)

        monkeypatch.setattr(kind, "_do_close", close)
    monkeypatch.setattr(PanelTwin, "_do_shown", lambda self: self._frame[::-1].copy())
    assert labctl("check", "optical-twin").code == 3
    assert closed == ["emitters", "electronics", "panel", "camera"]


def test_data_list_says_what_is_here(labctl, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LABCTL_DATA", str(tmp_path))
    ended = labctl("data", "list")
    assert ended.code == 0
    assert "fashion-mnist" in ended.out
    assert "not here" in ended.out
    assert "MIT" in ended.out


def test_train_saves_networks_that_run(labctl, quick) -> None:
    small = ("train.iterations=60", "quantise.iterations=20", "evaluate.samples=0")
    ended = labctl("train", "moons", *(word for setting in small for word in ("--set", setting)))
    assert ended.code == 0, ended.err
    saved = [line.split()[1] for line in ended.out.splitlines() if line.startswith("saved")]
    assert [Path(path).name for path in saved] == ["moons.safetensors", "moons-4bit.safetensors"]
    ran = labctl("run", "sample_moons", "--set", f"model={saved[1]}", *quick, "--no-report")
    assert ran.code == 0, ran.err
