"""A page of results: printed line by line, and kept for its file."""

from __future__ import annotations

from pathlib import Path


class Sheet:
    """Lines of the printed page, kept for the file."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str = "") -> None:
        """Print and keep."""
        print(text, flush=True)
        self.lines.append(text)

    def rows(self, header: list[str], rows: list[list[str]]) -> None:
        """A Markdown table, without the empty line after it."""
        self.say("| " + " | ".join(header) + " |")
        self.say("|" + "---|" * len(header))
        for row in rows:
            self.say("| " + " | ".join(row) + " |")

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        """A Markdown table."""
        self.rows(header, rows)
        self.say()

    def write(self, path: Path) -> None:
        """The page as a file."""
        path.write_text("\n".join(self.lines).rstrip() + "\n", encoding="utf-8")


def verdict(met: bool) -> str:
    """As it stands in the tables."""
    return "met" if met else "**missed**"
