"""Pages of the documentation as data, and a shell that runs what they show."""

from __future__ import annotations

import glob
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import labctl.models.recipe  # noqa: F401 - its defaults are taken before an example shortens them

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"(?P<marks>(?:<!-- [^\n]* -->\n)*)^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
# Shown, but not run: they belong to another machine, a person, or to the whole repository.
ELSEWHERE = (
    "git clone ",
    "cd ",
    ". .venv/bin/activate",
    "python3 -m venv ",
    "pip install ",
    ".venv/bin/pip install ",
    "nexpy ",
    "silx view ",
)
# Small and quick, wherever an example does not say otherwise. A value given first would win over these.
SMALL_GENERATION = {"samples": 16}
SMALL_RUN = {"samples": 16, "audit": 0, "reference": 32, "train_iterations": 20}
SMALL_LEDGER = {"draws": 2048, "digital": "false"}
SMALL_TRAINING = {"train.iterations": 20, "quantise.iterations": 10, "evaluate.samples": 0}
SMALL_OSCILLATORS = {"train.iterations": 20, "coded.iterations": 10}
SMALL_CHAIN = {"train.iterations": 2, "train.tuning.iterations": 2, "coded.iterations": 2}


@dataclass(frozen=True)
class Block:
    """One fenced example. `marks` are the comments right above it, such as "slow" or "file: mine.csv"."""

    language: str
    text: str
    marks: tuple[str, ...]
    line: int

    def mark(self, name: str) -> str | None:
        """What follows "name: " in a mark, "" for a mark without more, None without the mark."""
        for mark in self.marks:
            if mark == name or mark.startswith(f"{name}: "):
                return mark.removeprefix(name).removeprefix(": ")
        return None


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path
    text: str = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def blocks(self) -> list[Block]:
        return [
            Block(
                match["language"],
                match["text"],
                tuple(re.findall(r"<!-- (.*?) -->", match["marks"])),
                self.text[: match.start("language")].count("\n") + 1,
            )
            for match in FENCE.finditer(self.text)
        ]


def pages() -> list[Page]:
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(path, path.read_text(encoding="utf-8")) for path in paths]


def pytest_generate_tests(metafunc):
    if "page" in metafunc.fixturenames:
        found = pages()
        metafunc.parametrize("page", found, ids=[page.name for page in found])


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def every_page() -> list[Page]:
    return pages()


class Shell:
    """Runs a page's examples in order, in the present folder, as one session. `full` leaves sizes alone."""

    def __init__(self, *, full: bool) -> None:
        self.full = full
        self.names: dict[str, object] = {"__name__": "__main__"}

    def run(self, page: Page) -> None:
        for block in page.blocks:
            if block.mark("slow") is not None and not self.full:
                continue
            where = f"{page.name}, line {block.line}"
            if (file := block.mark("file")) is not None:
                Path(file).parent.mkdir(parents=True, exist_ok=True)
                Path(file).write_text(block.text, encoding="utf-8")
            elif block.mark("not run") is None and block.language == "python":
                self._python(block, where)
            elif block.mark("not run") is None and block.language in ("sh", "console"):
                self._commands(block, where)

    def _python(self, block: Block, where: str) -> None:
        text = block.text
        if not self.full:
            small = {key: value for key, value in SMALL_RUN.items() if key != "train_iterations"}
            text = re.sub(r'load_protocol\("(\w+)"\)', rf'load_protocol("\1", {small})', text)
        code = compile("\n" * block.line + text, where, "exec")
        if (expected := block.mark("raises")) is None:
            exec(code, self.names)
            return
        from labctl.devices import LabctlError

        with pytest.raises(LabctlError, match=r".") as raised:
            exec(code, self.names)
        assert type(raised.value).__name__ == expected, where

    def _commands(self, block: Block, where: str) -> None:
        code = int(block.mark("exit code") or 0)
        for line in block.text.replace("\\\n", " ").splitlines():
            command = line.partition(" #")[0].strip()
            if not command or command.startswith(("#", *ELSEWHERE)):
                continue
            words = shlex.split(command)
            if words[0] == "make":
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), where
            elif words[0] == "labctl":
                assert self._labctl(words[1:]) == code, f"{where}: {command}"
            else:
                pytest.fail(f"{where}: nobody knows how to run {command!r}")

    def _labctl(self, words: list[str]) -> int:
        from labctl.cli import main

        arguments = [found for word in words for found in (sorted(glob.glob(word)) or [word])]
        small: dict[str, object] = {}
        if not self.full and words[0] == "run":
            small = _small(words[1])
            arguments += ["--no-report"]
        if not self.full and words[0] == "train":
            small = SMALL_OSCILLATORS if "oscillators" in words[1] else SMALL_TRAINING
            small = SMALL_CHAIN if "chain" in words[1] else small
        for key, value in small.items():
            if not any(word.startswith(f"{key}=") for word in words):
                arguments += ["--set", f"{key}={value}"]
        before = sys.argv
        sys.argv = ["labctl", *arguments]
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            sys.argv = before
        return 0


def _small(protocol: str) -> dict[str, object]:
    """What makes a run of it short, by its recipe's kind; of a file's it is a plain sample's."""
    from labctl.procedures import load_protocol, protocol_names

    kind = load_protocol(protocol).recipe.kind if protocol in protocol_names() else "sample"
    return {
        "ledger": SMALL_LEDGER,
        "generate": SMALL_GENERATION,
        "generate-scan": SMALL_GENERATION,
        "diffuse": SMALL_GENERATION,
    }.get(kind, SMALL_RUN)


@pytest.fixture
def small_shell(monkeypatch, tmp_path) -> Shell:
    """A shell in an empty folder in which runs and trainings are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABCTL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("labctl.models.refit.REFIT_ITERATIONS", 10)
    return Shell(full=False)


@pytest.fixture
def full_shell(monkeypatch, tmp_path) -> Shell:
    """A shell in an empty folder that runs everything as it is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABCTL_DATA", str(tmp_path / "data"))
    return Shell(full=True)
