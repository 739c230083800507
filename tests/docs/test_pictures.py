"""The script of the documentation's pictures draws them from any demo-like run."""

from __future__ import annotations

import runpy
import sys

from labctl import load_protocol, open_rig, run

TOUR = """
kind = "tour"
title = "A short walk"
recipes = ["sample_moons", "sample_fashion_latent"]
"""


def test_pictures_are_drawn_from_a_run(root, tmp_path, monkeypatch):
    (tmp_path / "tour.toml").write_text(TOUR, encoding="utf-8")
    recipe = load_protocol(tmp_path / "tour.toml", {"samples": 40, "audit": 4, "reference": 64, "steps": 4})
    with open_rig("optical-twin") as rig:
        file = run(recipe, rig, out=tmp_path).file
    out = tmp_path / "img"
    monkeypatch.setattr(sys, "argv", ["make_pictures.py", str(file), "--out", str(out)])
    runpy.run_path(str(root / "docs" / "make_pictures.py"), run_name="__main__")
    made = sorted(path.name for path in out.iterdir())
    shown = {path.name for path in (root / "docs" / "img").glob("*.png")}
    assert set(made) == shown - {"align.png"}  # a browser's: docs/make_align_picture.py
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in made)
