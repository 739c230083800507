"""Every shipped recipe and rig loads, compiles and runs small; the same seed gives the same samples."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError
from labctl.models.checkpoint import list_zoo, zoo_folder
from labctl.procedures import SampleRecipe, ScanRecipe, TourRecipe, chains_of, protocol_names
from labctl.rig import load_rig, rig_names
from labctl.runlog import RunReader

SMALL = {"samples": 20, "audit": 0, "reference": 50}
AUDITED = {**SMALL, "audit": 4}  # settle times too: most of a small run's time
# Recipes of networks that the user trains first; a shipped one stands in.
OWN_MODELS = {"sample_emnist_latent": {"model": "mnist"}}
SAMPLES = [n for n in protocol_names() if type(load_protocol(n).recipe) is SampleRecipe]
CHAINS = [n for n in protocol_names() if load_protocol(n).recipe.kind in ("sample", "scan", "tour")]
GENERATES = [n for n in protocol_names() if load_protocol(n).recipe.kind == "generate"]
GENERATE_SCANS = [n for n in protocol_names() if load_protocol(n).recipe.kind == "generate-scan"]
DIFFUSES = [n for n in protocol_names() if load_protocol(n).recipe.kind == "diffuse"]
SCANS = [n for n in protocol_names() if isinstance(load_protocol(n).recipe, ScanRecipe)]


def some_everyday(names: list[str], *everyday: str) -> list:
    """For parametrize: all of a kind, those beside `everyday` marked slow."""
    marks = {True: (), False: (pytest.mark.slow,)}
    assert set(everyday) <= set(names)
    return [pytest.param(name, marks=marks[name in everyday]) for name in names]


@pytest.fixture
def rig():
    with open_rig("optical-twin") as opened:
        yield opened


@pytest.fixture
def points(tmp_path: Path) -> Path:
    angle = np.linspace(0, 6, 200)
    np.savetxt(tmp_path / "points.csv", np.stack([np.cos(angle), np.sin(angle)], 1), delimiter=",")
    return tmp_path / "points.csv"


def settings_for(name: str, points: Path) -> dict:
    own = {"data": str(points), "train_iterations": 20, "bits": "float"} if name == "sample_points" else {}
    return {**SMALL, **OWN_MODELS.get(name, {}), **own}


def test_the_shipped_recipes_are_those_promised() -> None:
    assert set(protocol_names()) == {
        "demo", "sample_moons", "sample_swiss_roll", "sample_gaussians", "sample_checkerboard",
        "sample_points", "sample_fashion_latent", "sample_mnist_latent", "sample_emnist_latent",
        "settling_scan", "noise_scan", "bits_scan", "steps_study", "ledger_compare",
        "generate_digits", "generate_fashion", "generate_mnist",
        "segments_scan", "bits_scan_oscillators", "mismatch_scan",
        "diffuse_digits_oscillators",
    }  # fmt: skip
    assert set(rig_names()) == {
        "optical-twin", "optical-ideal", "optical-unit", "optical-host", "optical-host-dmd",
        "optical-host-phase", "digital", "oscillator-twin", "oscillator-unit", "oscillator-ideal",
        "oscillator-bench-100khz", "oscillator-pcb-1mhz", "oscillator-chip-1ghz", "oscillator-fine",
        "oscillator-14", "oscillator-28", "oscillator-rough",
    }  # fmt: skip


@pytest.mark.parametrize("name", protocol_names())
def test_every_recipe_says_what_it_is(name) -> None:
    recipe = load_protocol(name).recipe
    assert 5 <= len(recipe.title) <= 60
    assert 20 <= len(recipe.about) <= 110
    assert not recipe.about.endswith(".")


@pytest.mark.parametrize("name", rig_names())
def test_every_rig_loads_and_says_what_it_is(name) -> None:
    config = load_rig(name)
    assert config.name == name
    assert 20 <= len(config.about) <= 110


@pytest.mark.parametrize("name", SAMPLES)
def test_every_network_a_recipe_names_is_in_the_zoo(name) -> None:
    recipe = load_protocol(name).recipe
    assert isinstance(recipe, SampleRecipe)
    if recipe.model and name not in OWN_MODELS:
        assert {recipe.model, f"{recipe.model}-{recipe.bits}bit"} <= set(list_zoo())


@pytest.mark.parametrize("name", some_everyday(GENERATES, "generate_digits"))
def test_every_generating_recipe_runs_on_its_twin(name, tmp_path) -> None:
    protocol = load_protocol(name, {"samples": 500})
    with open_rig(protocol.recipe.rig or "oscillator-twin") as rig:
        result = run(protocol, rig, out=tmp_path)
    (panel,) = result.panels
    assert panel.metrics["frechet_star"] < 2
    assert panel.metrics["locked_share"] == 1
    with RunReader(result.file) as log:
        assert log.status == "success"


@pytest.mark.slow  # 500 pictures, three times
@pytest.mark.parametrize("name", DIFFUSES)
def test_every_chain_of_equilibria_runs_on_its_twin(name, tmp_path) -> None:
    with open_rig("oscillator-twin") as rig:
        result = run(load_protocol(name, {"samples": 500}), rig, out=tmp_path)
    (panel,) = result.panels
    assert panel.metrics["frechet_star"] < panel.metrics["frechet_star_wiener_implicit"]
    assert panel.metrics["frechet_star_wiener"] < panel.metrics["frechet_star_uncoupled"]
    assert panel.metrics["locked_share"] == 1


@pytest.mark.parametrize(
    "name", some_everyday(SAMPLES, "sample_moons", "sample_points", "sample_mnist_latent")
)
def test_every_sampling_recipe_runs_on_the_twin(name, rig, points, tmp_path) -> None:
    protocol = load_protocol(name, settings_for(name, points))
    result = run(protocol, rig, out=tmp_path / "runs")
    (panel,) = result.panels
    assert np.isfinite(panel.samples).all()
    assert len(panel.samples) == 20
    with RunReader(result.file) as log:
        assert log.status == "success"
        assert log.panel().n_steps == protocol.recipe.steps + 1


@pytest.mark.parametrize("name", CHAINS)
def test_every_recipe_compiles_dry(name, rig, points) -> None:
    settings = {"data": str(points)} if name == "sample_points" else OWN_MODELS.get(name, {})
    chains = chains_of(load_protocol(name, settings), rig, lambda *_: None, dry=True)
    assert chains
    for chain in chains:
        assert sum(chain.program.placement.sizes) <= rig.config.n_channels
        assert chain.step_us(rig) == pytest.approx(14.9)


@pytest.mark.parametrize("stepping", ["host", "chain"])
def test_a_run_keeps_what_each_step_takes_the_clean_pictures_to_be(rig, tmp_path, stepping) -> None:
    """One sample of each class; the last row is the result itself."""
    protocol = load_protocol(
        "sample_mnist_latent", {"samples": 20, "steps": 3, "audit": 0, "stepping": stepping}
    )
    with RunReader(run(protocol, rig, out=tmp_path).file) as reader:
        panel = reader.panel()
        assert panel.step_pictures.shape == (4, 10, 28, 28)
        first = np.unique(panel.labels, return_index=True)[1]
        np.testing.assert_array_equal(panel.step_pictures[-1], panel.pictures[first])
        if stepping == "chain":  # and what its last settle said is the result
            np.testing.assert_array_equal(panel.step_pictures[-2], panel.step_pictures[-1])
        assert all(picture.max() > 100 for picture in panel.step_pictures[0])


def test_a_run_says_how_good_its_pictures_are(rig, tmp_path) -> None:
    settings = {"samples": 250, "audit": 0, "steps": 4}
    (panel,) = run(load_protocol("sample_mnist_latent", settings), rig, out=tmp_path).panels
    assert panel.metrics["class_agreement"] > 0.8
    assert -0.1 < panel.metrics["frechet_star"] < 0.5
    assert 0.3 < panel.metrics["density"] < 4
    assert 0.5 < panel.metrics["coverage"] <= 1
    assert 0 < panel.metrics["path_error"] < 1.5
    (few,) = run(load_protocol("sample_mnist_latent", {**settings, "samples": 3}), rig, out=tmp_path).panels
    assert "frechet_star" not in few.metrics
    assert np.isfinite(few.metrics["coverage"])
    (drawn,) = run(load_protocol("sample_mnist_latent", {**settings, "eta": 0.5}), rig, out=tmp_path).panels
    assert "path_error" not in drawn.metrics


def test_a_network_that_was_never_trained_is_said(rig) -> None:
    with pytest.raises(ConfigError, match=r"4bit\.safetensors' is neither in the zoo nor a file"):
        chains_of(load_protocol("sample_emnist_latent"), rig, lambda *_: None, dry=True)


def test_a_scan_writes_its_table(rig, tmp_path) -> None:
    protocol = load_protocol("settling_scan", {**AUDITED, "values": [1, 3]})
    result = run(protocol, rig, out=tmp_path)
    with RunReader(result.file) as log:
        assert log.scan is not None
        np.testing.assert_array_equal(log.scan["steps"], [1, 3])
        assert np.isfinite(log.scan["settle_p95_us"]).all()
        assert log.scan_axis == ("steps", "settle_p95_us")
        assert list(log.panels) == ["steps-1", "steps-3"]
        assert [panel.n_steps for panel in log.panels.values()] == [2, 4]


def test_a_scan_of_two_keys_has_a_column_for_each(rig, tmp_path) -> None:
    settings = {**SMALL, "values": [1, 2], "series_values": ["implicit-euler", "dpm-solver++2m"]}
    result = run(load_protocol("steps_study", settings), rig, out=tmp_path)
    with RunReader(result.file) as log:
        assert log.scan is not None
        for column in ("energy_distance_implicit_euler", "energy_distance_dpm_solverpp2m"):
            assert np.isfinite(log.scan[column]).all()
        assert len(log.panels) == 4


def test_a_scan_over_files_has_plain_names_in_the_file(rig, tmp_path) -> None:
    path = str(zoo_folder() / "moons-4bit.safetensors")
    text = 'kind = "scan"\ntitle = "mine"\nmodel = "moons"\nscan = "steps"\nvalues = [1]\nseries = "model"\n'
    (tmp_path / "mine.toml").write_text(text + f'series_values = ["moons", "{path}"]\n')
    result = run(load_protocol(tmp_path / "mine.toml", SMALL), rig, out=tmp_path)
    with RunReader(result.file) as log:
        assert len(log.panels) == 2
        assert not any("/" in name for name in [*log.panels, *log.scan])
        first, second = (panel.metrics["energy_distance"] for panel in log.panels.values())
        assert first == pytest.approx(second, abs=5e-3)  # measured anew: the same but for noise


@pytest.mark.slow
@pytest.mark.parametrize("name", SCANS)
def test_every_scan_runs_small(name, rig, tmp_path) -> None:
    result = run(load_protocol(name, AUDITED), rig, out=tmp_path)
    with RunReader(result.file) as log:
        assert log.status == "success"
        assert len(log.scan[load_protocol(name).recipe.scan]) == len(load_protocol(name).recipe.values)


@pytest.mark.parametrize("name", some_everyday(GENERATE_SCANS, "segments_scan"))
def test_every_scan_of_programs_runs_small(name, tmp_path) -> None:
    recipe = load_protocol(name).recipe
    with open_rig(recipe.rig or "oscillator-twin") as rig:
        result = run(load_protocol(name, {"samples": 20}), rig, out=tmp_path)
    with RunReader(result.file) as log:
        assert log.status == "success"
        assert len(log.scan[recipe.scan]) == len(recipe.values)
        assert len(log.panels) == len(recipe.values) * max(1, len(recipe.series_values))


@pytest.mark.slow
def test_the_tour_has_a_panel_a_recipe(rig, tmp_path) -> None:
    protocol = load_protocol("demo", SMALL)
    assert isinstance(protocol.recipe, TourRecipe)
    result = run(protocol, rig, out=tmp_path)
    names = [name.removeprefix("sample_") for name in protocol.recipe.recipes]
    assert [panel.name for panel in result.panels] == names
    with RunReader(result.file) as log:
        assert list(log.panels) == names
        assert all(panel.finished for panel in log.panels.values())
        assert all(panel.n_samples == 20 for panel in log.panels.values())


def test_a_tour_passes_settings_on_and_refuses_what_no_part_has() -> None:
    recipe = load_protocol("demo", {"samples": 7, "seed": 4}).recipe
    assert isinstance(recipe, TourRecipe)
    assert (recipe.overrides, recipe.seed) == ({"samples": 7}, 4)
    with pytest.raises(ConfigError, match="did you mean 'samples'"):
        load_protocol("demo", {"smaples": 7})
    with pytest.raises(ConfigError, match="model"):
        load_protocol("demo", {"model": "moons"})


@pytest.mark.parametrize("rig_name", [pytest.param("optical-twin", marks=pytest.mark.slow), "digital"])
def test_the_same_seed_gives_the_same_bits_twice(rig_name, tmp_path) -> None:
    found = []
    for _ in range(2):
        with open_rig(rig_name) as rig:
            result = run(
                load_protocol("sample_moons", {**SMALL, "eta": 0.5, "scheme": "implicit-euler"}),
                rig,
                out=tmp_path,
            )
        with RunReader(result.file) as log:
            found.append([result.samples, *(log.panel().state(k) for k in range(log.panel().n_steps))])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_another_seed_gives_other_samples(rig, tmp_path) -> None:
    one, two = (run(load_protocol("sample_moons", {**SMALL, "seed": s}), rig, out=tmp_path) for s in (1, 2))
    assert not np.allclose(one.samples, two.samples)


@pytest.mark.parametrize("rig_name", ["optical-ideal", pytest.param("optical-twin", marks=pytest.mark.slow)])
def test_samples_do_not_depend_on_the_batch_they_are_in(rig_name, tmp_path) -> None:
    found = []
    for samples in (20, 33):
        with open_rig(rig_name) as rig:
            protocol = load_protocol("sample_moons", {**SMALL, "samples": samples})
            found.append(run(protocol, rig, out=tmp_path).samples[:20])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_recipes_and_rigs_are_packaged() -> None:
    folder = resources.files("labctl_recipes")
    assert all((folder / "recipes" / f"{name}.toml").is_file() for name in protocol_names())
    assert all((folder / "rigs" / f"{name}.toml").is_file() for name in rig_names())
