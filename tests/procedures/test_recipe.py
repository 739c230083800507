"""Recipe files and settings: what is read, what is refused."""

from __future__ import annotations

import pytest

from labctl.devices import ConfigError
from labctl.procedures import SampleRecipe, load_protocol, parse_setting, settings_of


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("steps=8", "steps", 8),
        ("eta = 0.5", "eta", 0.5),
        ("scheme=implicit-euler", "scheme", "implicit-euler"),
        ("values=[1, 2]", "values", [1, 2]),
        ('model="a=b"', "model", "a=b"),
        ("model=runs/a=b.safetensors", "model", "runs/a=b.safetensors"),
        ("model=", "model", ""),
    ],
)
def test_settings_are_read_as_toml_and_else_as_words(text, key, value) -> None:
    assert parse_setting(text) == (key, value)


@pytest.mark.parametrize("text", ["steps", "=3", " = 3", ""])
def test_a_setting_needs_key_and_value(text) -> None:
    with pytest.raises(ConfigError, match="key=value"):
        parse_setting(text)


def test_the_last_of_a_key_counts() -> None:
    assert settings_of(["steps=2", "seed=1", "steps=3"]) == {"steps": 3, "seed": 1}


def test_a_recipe_file_is_named_after_itself(tmp_path) -> None:
    (tmp_path / "mine.toml").write_text('title = "mine"\nmodel = "moons"\nsteps = 3\n')
    protocol = load_protocol(tmp_path / "mine.toml", {"seed": 9})
    assert isinstance(protocol.recipe, SampleRecipe)
    assert (protocol.name, protocol.recipe.steps, protocol.recipe.seed) == ("mine", 3, 9)


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"mine\.toml: not text"):
        load_protocol(tmp_path / "mine.toml")


SCAN = 'kind = "scan"\ntitle = "mine"\nmodel = "moons"\nscan = "steps"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SCAN + "values = [2, 2]", "2 stands twice"),
        (SCAN + "values = []", "values"),
        (SCAN + 'values = ["two"]', "values must be numbers"),
        (SCAN + 'values = [2]\nseries = "scheme"', "series and series_values go together"),
        (SCAN.replace('"steps"', '"stps"') + "values = [2]", "did you mean 'steps'"),
        (SCAN.replace('"steps"', '"title"') + "values = [2]", "'title' is no key to scan"),
        ('kind = "tour"\ntitle = "mine"\nrecipes = ["sample_moons", "sample_moons"]', "stands twice"),
        ('kind = "tour"\ntitle = "mine"\nrecipes = ["sample_moons"]\noverrides = {stps = 3}', "'steps'"),
    ],
)
def test_scans_and_tours_that_make_no_sense(tmp_path, text, words) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_protocol(tmp_path / "mine.toml")


def test_bits_are_a_number_or_float() -> None:
    assert load_protocol("sample_moons", {"bits": "float"}).recipe.bits == "float"
    for wrong in (0, 10, True, 4.5, "4"):
        with pytest.raises(ConfigError, match="1 to 9"):
            load_protocol("sample_moons", {"bits": wrong})
