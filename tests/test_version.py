from pathlib import Path

import pytest

from labctl import version


def test_commit_is_none_outside_a_source_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(version, "__file__", str(tmp_path / "labctl" / "version.py"))
    assert version.source_commit() is None


def test_commit_of_this_checkout_is_a_hash() -> None:
    commit = version.source_commit()
    if commit is None:
        pytest.skip("not a git checkout")
    assert len(commit.removesuffix("+changes")) == 40
