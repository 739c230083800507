"""Links lead somewhere, tables agree with the code, commands exist and are all documented."""

from __future__ import annotations

import importlib.util
import re

import pytest

LINK = re.compile(r"!?\[[^\]]*\]\((?P<to>[^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="session")
def tables(root):
    spec = importlib.util.spec_from_file_location("make_tables", root / "docs" / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(text):
    """The anchors that a page's headings get."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_links_and_pictures_exist(page, root):
    for match in LINK.finditer(CODE.sub("", page.text)):
        target, _, anchor = match["to"].partition("#")
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path = (page.path.parent / target).resolve() if target else page.path
        assert path.exists(), f"{page.name}: {match['to']}"
        assert path.is_relative_to(root), f"{page.name}: {match['to']} leaves the repository"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page.name}: {match['to']}"


def test_every_page_is_reached_from_the_index(every_page, root):
    linked = set()
    for page in every_page:
        for match in LINK.finditer(CODE.sub("", page.text)):
            linked.add((page.path.parent / match["to"].partition("#")[0]).resolve())
    lost = [page.name for page in every_page if page.path not in linked and page.name != "README.md"]
    assert lost == []


def test_every_picture_is_shown(every_page, root):
    shown = "".join(page.text for page in every_page)
    assert [p.name for p in (root / "docs" / "img").glob("*.png") if p.name not in shown] == []


def test_tables_say_what_the_code_says(page, tables):
    assert tables.render(page.text) == page.text, "run: python docs/make_tables.py"


def test_every_key_has_a_meaning(page):
    for block in re.findall(r"<!-- table: keys of .*?<!-- end of table -->", page.text, re.DOTALL):
        rows = [line for line in block.splitlines() if line.startswith("| `")]
        assert [row for row in rows if row.rstrip(" |").endswith("|") or "|  |" in row] == []


def test_commands_mentioned_exist(page, tables):
    known = {path.removeprefix("labctl ") for path, _ in tables.cli_commands()}
    groups = {name.split()[0] for name in known if " " in name}
    for text in CODE.findall(page.text):
        for line in re.findall(r"(?:^|`|^\$ )labctl ([a-z]\w*(?: [a-z]+)?)", text, re.MULTILINE):
            first = line.split()[0]
            assert first in known or line in known or first in groups, f"{page.name}: labctl {line}"


def test_every_command_is_documented(root, tables):
    reference = (root / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert [path for path, _ in tables.cli_commands() if f"### `{path}" not in reference] == []


def test_make_targets_mentioned_exist(page, root):
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.MULTILINE))
    for text in CODE.findall(page.text):
        for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE):
            assert target in targets, f"{page.name}: make {target}"


def test_settings_mentioned_are_keys(page):
    from labctl.energy import constant_names
    from labctl.models.autoencoder import AutoencoderSettings
    from labctl.models.oscillators.settings import CodedTraining, DiffuserShape, DiffuserTraining
    from labctl.models.picture_recipes import AutoencoderRecipe, DenoiserRecipe, ReferenceRecipe
    from labctl.models.recipe import DataSection, EvaluateSection, QuantiseSection
    from labctl.models.training import TrainSettings
    from labctl.procedures import (
        DiffuseRecipe,
        GenerateRecipe,
        GenerateScanRecipe,
        LedgerRecipe,
        SampleRecipe,
        ScanRecipe,
        TourRecipe,
    )

    recipes = (
        *(SampleRecipe, ScanRecipe, TourRecipe, GenerateRecipe, GenerateScanRecipe, DiffuseRecipe),
        LedgerRecipe,
    )
    trained = (AutoencoderRecipe, DenoiserRecipe, ReferenceRecipe)
    flat = {key for recipe in (*recipes, *trained) for key in recipe.model_fields} | set(constant_names())
    sections = {
        "train": {
            *TrainSettings.model_fields,
            *AutoencoderSettings.model_fields,
            *DiffuserTraining.model_fields,
        },
        "shape": set(DiffuserShape.model_fields),
        "data": set(DataSection.model_fields),
        "quantise": set(QuantiseSection.model_fields),
        "evaluate": set(EvaluateSection.model_fields),
        "coded": set(CodedTraining.model_fields),
    }
    for key in re.findall(r"--set ([a-z_.]+)=", page.text):
        section, _, last = key.rpartition(".")
        assert last in (sections[section] if section else flat), f"{page.name}: --set {key}"


def test_pages_name_no_machine(page):
    for folder in ("work", "root", "home", "tmp"):
        assert f"/{folder}/" not in page.text, f"{page.name}: a path of one machine"
    assert "localhost" not in page.text, page.name
