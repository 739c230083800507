"""Every example of the documentation runs: quickly with small sizes, and as written when asked for."""

from __future__ import annotations

import pytest


def test_examples_run(page, small_shell):
    small_shell.run(page)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_examples_run_as_written(page, full_shell):
    if not any(block.language in ("python", "sh", "console") for block in page.blocks):
        pytest.skip("the page has no examples")
    full_shell.run(page)


def test_every_example_says_its_language(page):
    known = {"python", "sh", "console", "toml", "csv", "text", "json"}
    assert [b.line for b in page.blocks if b.language not in known] == []


def test_an_example_that_does_not_run_says_why(page):
    for block in page.blocks:
        assert block.mark("not run") != "", f"{page.name}, line {block.line}"
