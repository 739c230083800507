"""What a person can get wrong: one clear line that names it and what is allowed, a code, nothing lost."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labctl.models.checkpoint import describe, read_tensors, save_network, write_tensors, zoo_folder
from labctl.models.network import RowTableNetwork
from labctl.runlog import RunReader

HERE = Path(__file__).parent


def refused(ended, code: int, *words: str) -> None:
    """One line on stderr with all these words, and the code."""
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert ended.code == code, ended.err
    assert len(errors) == 1, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in errors[0], errors[0]


# -- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("steps=0", ["sample_moons", "steps = 0", "allowed: 1 or more"]),
        ("steps=2.5", ["steps = 2.5", "whole number"]),
        ("stps=4", ["stps", "did you mean 'steps'"]),
        ("colour=red", ["colour", "allowed: ", "sigma_min"]),
        ("scheme=implict-euler", ["implict-euler", "did you mean 'implicit-euler'", "ddim"]),
        ("schedule=lin", ["schedule = 'lin'", "'flow', 'edm' or 'log'"]),
        ("bits=12", ["bits = 12", "1 to 9"]),
        ("bits=four", ["bits = 'four'", "1 to 9", "float"]),
        ("samples=-1", ["samples = -1", "1 or more"]),
        ("sigma_min=0", ["sigma_min = 0", "more than 0"]),
        ("sigma_min=20", ["sigma_min 20", "below sigma_max 10"]),
        ("noise_scale=-1", ["noise_scale = -1", "0 or more"]),
        ("model=moonz", ["moonz", "did you mean 'moons'"]),
        ("steps", ["'steps'", "key=value"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "validate"])
def test_settings_that_make_no_sense(labctl, tmp_path, command, setting, words) -> None:
    refused(labctl(command, "sample_moons", "--set", setting), 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("noise_scale=60", ["sigma_min is 0.06", "noise", "allowed"]),
        ("sigma_min=0.001", ["sigma_min is 0.001", "noise", "allowed"]),
    ],
)
def test_a_chain_that_would_end_inside_the_noise(labctl, tmp_path, setting, words) -> None:
    refused(labctl("run", "sample_moons", "--set", setting), 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_the_scanned_key_cannot_be_set(labctl) -> None:
    refused(labctl("run", "steps_study", "--set", "steps=3"), 2, "steps", "--set values=")


def test_a_scan_value_out_of_range(labctl) -> None:
    refused(labctl("validate", "steps_study", "--set", "values=[2, 0]"), 2, "steps 0", "1 or more")


def test_errors_as_json_have_the_same_code(labctl) -> None:
    ended = labctl("run", "sample_moons", "--set", "steps=0", "--json")
    found = ended.document
    assert (ended.code, found["exit_code"], found["error"]["exit_code"]) == (2, 2, 2)
    assert found["error"]["type"] == "ConfigError"
    assert "steps = 0" in found["error"]["message"]
    assert (found["status"], found["file"]) == ("failed", None)


# -- recipes and rigs ------------------------------------------------------------------------------------

RECIPE = 'title = "mine"\nmodel = "moons"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RECIPE + "stps = 3\n", ["mine.toml", "stps", "did you mean 'steps'"]),
        (RECIPE + 'kind = "sampel"\n', ["mine.toml", "sampel", "did you mean 'sample'"]),
        (RECIPE + "steps = = 3\n", ["mine.toml", "not TOML", "line 3"]),
        ('title = "mine"\n', ["mine.toml", "model", "data"]),
        (RECIPE + 'law = "oscillator"\n', ["oscillator", "loop", "oscillator-twin"]),
    ],
)
def test_recipe_files(labctl, tmp_path, text, words) -> None:
    (tmp_path / "mine.toml").write_text(text)
    refused(labctl("run", "mine.toml"), 2, *words)


def test_a_recipe_for_another_kind_of_rig(labctl) -> None:
    refused(labctl("run", "settling_scan", "--rig", "digital"), 2, "settling_scan", "optical-loop", "digital")


@pytest.mark.parametrize(("command", "nearest"), [("run", "sample_moons"), ("validate", "sample_moons")])
def test_a_misspelt_protocol(labctl, command, nearest) -> None:
    refused(labctl(command, "sample_mons"), 2, "sample_mons", f"did you mean '{nearest}'")


RIG = """
name = "mine"
about = "a bench"
engine = "optical-loop"
[world]
kind = "optical-bench"
profile = "adm"
[[device]]
name = "panel"
driver = "twin.lcos-panel"
[[device]]
name = "electronics"
driver = "twin.loop-electronics"
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("about =", "abuot =", ["'abuot'", "did you mean 'about'"]),
        ("driver = ", "driverr = ", ["device[0].driverr", "did you mean 'driver'"]),
        ("twin.lcos-panel", "twin.lcos", ["'twin.lcos'", "did you mean 'twin.lcos-panel'", "allowed"]),
        ("\"electronics\"", "\"panel\"", ["'panel'", "twice", "allowed"]),
        ("twin.loop-electronics", "twin.emitters", ["0 devices for electronics", "exactly 1"]),
        ("profile = \"adm\"", "profile = \"amd\"", ["'amd'", "adm"]),
        ("profile = \"adm\"", "profile = \"adm\"\nseed = -1", ["world.seed = -1", "0 or more"]),
        ("[world]\nkind = \"optical-bench\"\nprofile = \"adm\"", "", ["panel", "[world]"]),
        ("engine =", "n_channels = 64\nengine =", ["64", "48"]),
        ("[[device]]", "[[device", ["not TOML"]),
        ("profile = \"adm\"", "profile = \"adm\"\nterms = {flicer = 0}", ["terms.flicer", "flicker"]),
        ("profile = \"adm\"", "profile = \"adm\"\nterms = {flicker = 5}", ["terms.flicker = 5", "0 (off)"]),
        ("profile = \"adm\"", "profile = \"other.toml\"", ["other.toml", "cannot be read"]),
        ("twin.lcos-panel", "twin.dmd", ["panel", "'lcos-intensity'", "'dmd'"]),
    ],
)  # fmt: skip
def test_rig_files(labctl, tmp_path, old, new, words) -> None:
    (tmp_path / "mine.toml").write_text(RIG.replace(old, new, 1))
    for ended in (labctl("check", "mine.toml"), labctl("run", "sample_moons", "--rig", "mine.toml")):
        refused(ended, 2, "mine", *words)


def test_a_misspelt_rig(labctl) -> None:
    refused(labctl("check", "optical-twim"), 2, "did you mean 'optical-twin'", "shipped")


def test_a_file_that_is_no_published_machines(labctl, tmp_path) -> None:
    (tmp_path / "half.yaml").write_text("row_profiles:\n  positive_row12: [1.0, 2.0\n")
    (tmp_path / "other.yaml").write_text("colour: 3\n")
    refused(labctl("twin", "profile", "import", "half.yaml"), 2, "half.yaml", "truncated", "line 2")
    refused(labctl("twin", "profile", "import", "other.yaml"), 2, "other.yaml", "row_profiles", "missing")
    refused(labctl("twin", "profile", "import", "other.yaml", "--out", "x.yaml"), 2, "x.yaml", ".toml")
    refused(labctl("twin", "profile", "import", "none.yaml"), 2, "none.yaml", "cannot be read")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.yaml", "other.yaml"]


# -- checkpoints -----------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a copy of the 4-bit moons with its tensors changed, its card fitting the file."""

    def make(change) -> Path:
        tensors, card = read_tensors(zoo_folder() / "moons-4bit.safetensors")
        tensors = {name: value.copy() for name, value in tensors.items()}
        change(tensors)
        write_tensors(tmp_path / "mine.safetensors", tensors, card)
        return tmp_path / "mine.safetensors"

    return make


def put_nan(tensors) -> None:
    tensors["w1"].flat[0] = np.nan


def put_large_code(tensors) -> None:
    tensors["codes_0"].flat[0] = 99


def put_negative_scale(tensors) -> None:
    tensors["scale_0"].flat[0] = -1


def cut_a_row(tensors) -> None:
    tensors["codes_0"] = tensors["codes_0"][:-1]


def drop_a_tensor(tensors) -> None:
    del tensors["codes_1"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put_nan, ["w1", "not finite"]),
        (put_large_code, ["99", "-7 to 7"]),
        (put_negative_scale, ["scale of row 0", "-1", "above 0"]),
        (cut_a_row, ["shape"]),
        (drop_a_tensor, ["codes_1", "missing"]),
    ],
)
def test_checkpoints_with_wrong_tensors(labctl, checkpoint, change, words) -> None:
    refused(
        labctl("run", "sample_moons", "--set", f"model={checkpoint(change)}"), 2, "mine.safetensors", *words
    )


def test_a_checkpoint_that_is_not_what_its_card_says(labctl, checkpoint) -> None:
    path = checkpoint(lambda _: None)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(labctl("run", "sample_moons", "--set", f"model={path}"), 2, "mine.safetensors", "sha256")


def test_a_network_larger_than_the_machine(labctl, tmp_path) -> None:
    network = RowTableNetwork((2, 40, 40), seeds=(0,))
    save_network(network, tmp_path / "large.safetensors", describe(network, "large"))
    ended = labctl("run", "sample_moons", "--set", "model=large.safetensors", "--set", "bits=float")
    refused(ended, 2, "large.safetensors", "82 variables", "48")


# -- data ------------------------------------------------------------------------------------------------


def write_points(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(folder / "nan.npy", np.array([[0, 1], [np.nan, 2], [3, 4]]))
    np.save(folder / "one.npy", np.array([[0.0, 1.0]]))
    np.save(folder / "whole.npy", rng.normal(size=(50, 2)))
    (folder / "cut.npy").write_bytes((folder / "whole.npy").read_bytes()[:200])
    np.save(folder / "wide.npy", rng.normal(size=(50, 40)))
    (folder / "word.csv").write_text("x,y\n1,2\n3,four\n")
    (folder / "points.txt").write_text("1 2\n3 4\n")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("nan.npy", ["point 1, column 0", "nan", "finite"]),
        ("one.npy", ["1 point", "2 or more"]),
        ("cut.npy", ["truncated"]),
        ("wide.npy", ["40 columns", "2 to 24"]),
        ("word.csv", ["line 3", "'four'", "not a number"]),
        ("points.txt", [".txt", ".npy, .npz, .csv"]),
        ("gone.npy", ["no such file"]),
    ],
)
def test_own_points(labctl, tmp_path, file, words) -> None:
    write_points(tmp_path)
    refused(labctl("run", "sample_points", "--set", f"data={file}"), 2, file, *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("broken", ["truncated", "not IDX", "missing"])
def test_public_data_from_a_folder_that_does_not_hold_it(labctl, tmp_path, monkeypatch, broken) -> None:
    monkeypatch.setenv("LABCTL_DATA", str(tmp_path / "kept"))
    folder = tmp_path / "downloads"
    folder.mkdir()
    if broken == "truncated":
        (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0" * 5000)[:-20])
    elif broken == "not IDX":
        (folder / "train-images-idx3-ubyte").write_bytes(b"hello")
    ended = labctl("data", "fetch", "fashion-mnist", "--from", folder)
    refused(ended, 2, "fashion-mnist", "train-images-idx3-ubyte", str(folder))
    assert not (tmp_path / "kept").exists()


def test_an_unknown_data_set(labctl) -> None:
    refused(labctl("data", "fetch", "kmnist"), 2, "'kmnist'", "fashion-mnist")


# -- files and folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_an_output_folder_that_is_a_file(labctl, tmp_path, out) -> None:
    (tmp_path / "file").write_text("mine")
    refused(labctl("run", "sample_moons", "--out", out), 4, "file", "not a folder")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission(labctl, tmp_path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(labctl("run", "sample_moons", "--out", "closed"), 4, "closed", "permission")


def test_files_that_are_no_runs(labctl, tmp_path) -> None:
    (tmp_path / "notes.nxs").write_text("hello")
    refused(labctl("show", "notes.nxs"), 4, "notes.nxs", "not an HDF5 file")
    refused(labctl("report", "gone.nxs"), 4, "gone.nxs", "no such run file")
    refused(labctl("runs", "gone"), 4, "gone", "no such folder")
    refused(labctl("show", "."), 2, "is a directory")


def test_training_never_overwrites(labctl, tmp_path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "moons.safetensors").write_text("mine")
    refused(labctl("train", "moons"), 2, "moons.safetensors", "exists already")
    assert (tmp_path / "models" / "moons.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "mons"], ["mons", "did you mean 'moons'"]),
        (["train", "moons", "--set", "train.iteratons=3"], ["train.iteratons", "did you mean 'iterations'"]),
        (["train", "fashion", "--set", "trian.iterations=3"], ["fashion.toml", "trian"]),
        (["train", "moons", "--set", "data.set=mons"], ["mons", "moons"]),
    ],
)
def test_training_recipes(labctl, arguments, words) -> None:
    refused(labctl(*arguments), 2, *words)


@pytest.mark.slow  # a process of its own; the file itself: tests/runlog/test_survival.py
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX limits")
def test_a_disk_that_fills_up_keeps_every_step_done(tmp_path) -> None:
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    done = subprocess.run(
        [sys.executable, "-c", "from labctl.cli import main; main()", "run", "sample_moons", "--json",
         "--no-report", "--set", "samples=1000", "--set", "steps=20", "--set", "audit=0"],
        cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=small_disk,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (done.returncode, found["exit_code"], found["status"]) == (4, 4, "failed")
    assert "File too large" in found["error"]["message"]
    reported = sum("settle " in line for line in done.stderr.splitlines())
    assert reported > 0
    with RunReader(tmp_path / found["file"]) as run:
        assert run.panel().n_steps >= reported
        assert np.isfinite(run.panel().x(-1)).all()


# -- devices ---------------------------------------------------------------------------------------------


def test_a_device_that_disappears_mid_run(labctl, quick, tmp_path, monkeypatch) -> None:
    from labctl.cli.board import Board
    from labctl.procedures import Watcher

    told = Board.settled

    def unplugging(self: Watcher, report) -> None:
        told(self, report)
        if report.index == 2:
            unplug()

    benches = []
    from labctl_sim_devices import OpticalBench

    made = OpticalBench.__init__

    def remembered(self, *args, **kwargs) -> None:
        made(self, *args, **kwargs)
        benches.append(self)

    def unplug() -> None:
        benches[-1].unplug()

    monkeypatch.setattr(OpticalBench, "__init__", remembered)
    monkeypatch.setattr(Board, "settled", unplugging)
    ended = labctl("run", "sample_moons", *quick, "--json")
    found = ended.document
    assert (ended.code, found["status"]) == (3, "failed")
    assert "electronics: settle: the bench has disappeared" in found["error"]["message"]
    with RunReader(tmp_path / found["file"]) as run:
        # the step after had settled already (writing runs beside settling): it is kept
        assert (run.status, run.panel().n_steps, run.panel().finished) == ("failed", 4, False)
        assert "disappeared" in run.exit_reason
