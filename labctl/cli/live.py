"""Progress of a run on stderr: a board that redraws itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from labctl.cli import words
from labctl.cli.board import Board
from labctl.cli.console import err
from labctl.procedures import SettleReport
from labctl.reports.words import duration, settle_us
from labctl.runlog import DriftRecord

BAR_WIDTH, MAX_TITLE = 20, 24
FIXED_WIDTH = 1 + 6 + 10 + 5 * 2  # the board's narrow columns and the gaps
SPARE_LINES = 6  # of the terminal, left to the prompt and the lines around the board


def _expected(device_us: float) -> str:
    return f"expected: {duration(device_us)} on the bench, one exposure after the other"


class Silent(Board):
    """Keeps the score and shows nothing."""

    def doing(self, what: str) -> None:
        """Something before the run is going on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Lines(Silent):
    """One plain line a settle: for log files and pipes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._told = ""

    def doing(self, what: str) -> None:
        """Say what is going on, once."""
        if what != self._told:
            self._say(what)
            self._told = what

    def training(self, what: str, done: int, total: int) -> None:
        """Say when a training begins, and every quarter of it."""
        quarter = 4 * done // total
        self.doing(f"{what}: {25 * quarter} %" if quarter else f"{what}: {total:,} iterations")

    def preparing(self, what: str, done: int, total: int) -> None:
        """Say what is measured before the run."""
        self.doing(f"measuring {what}")

    def computing(self, what: str, done: int, total: int) -> None:
        """Say what is worked out, once."""
        self.doing(f"working out the {what}")

    def foreseen(self, words: str) -> None:
        """One line."""
        self._say(words)

    def expecting(self, device_us: float) -> None:
        """Say how long it will take."""
        self._say(_expected(device_us))

    def settled(self, report: SettleReport) -> None:
        """One line."""
        super().settled(report)
        row, left = self.rows[report.panel], self.seconds_left
        at = f"{report.index + 1}/{report.of}"
        what = f"{report.kind} {at}"
        if math.isfinite(report.sigma):
            slowest = settle_us(report.settle_p95_us)
            what = f"settle {at}, {report.kind} at sigma {report.sigma:.3g}, p95 {slowest}"
        self._say(
            f"{row.title}: {what}, {words.outcomes(report.outcomes)}"
            + ("" if math.isnan(left) else f", {words.clock(left)} left")
        )

    def drifted(self, event: DriftRecord) -> None:
        """One line."""
        self._say(f"drift: {event.words}; {event.policy}: {event.done}")


class LiveBoard(Silent):
    """A calm table that redraws itself: a bar per panel, settle time if any, outcomes, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._doing: tuple[str, int, int] = ("starting", 0, 0)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            self, console=console, refresh_per_second=8, transient=True, vertical_overflow="visible"
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was reached stays on the screen when the run did not get to its end.
        self._live.transient = error is None or not self.rows
        self._live.stop()

    def doing(self, what: str) -> None:
        """Show what is going on before the first settle."""
        self._doing = (what, 0, 0)

    def training(self, what: str, done: int, total: int) -> None:
        """Show a training's progress."""
        self._doing = (what, done, total)

    def preparing(self, what: str, done: int, total: int) -> None:
        """Show what is measured before the run."""
        self._doing = (f"measuring {what}", done, total if total > 1 else 0)

    def computing(self, what: str, done: int, total: int) -> None:
        """Show what is worked out on the host."""
        self._doing = (f"working out the {what}", done, total)

    def foreseen(self, words: str) -> None:
        """Say it in a line that stays above the board."""
        self._live.console.print(Text(words, "dim"), soft_wrap=True)

    def expecting(self, device_us: float) -> None:
        """Say how long it will take, in a line that stays above the board."""
        self._live.console.print(Text(_expected(device_us), "dim"))

    def drifted(self, event: DriftRecord) -> None:
        """Say what the watch saw, in a line that stays above the board."""
        words_of = f"drift: {event.words}; {event.policy}: {event.done}"
        self._live.console.print(Text(words_of, "yellow"), soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._board(options.max_width, options.max_height) if self.rows else self._preparation()

    def _preparation(self) -> Table:
        what, done, total = self._doing
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=total, completed=done, width=BAR_WIDTH) if total else ""
        grid.add_row(self._spinner, Text(what), bar, Text(f"{done:,}/{total:,}" if total else "", "dim"))
        return grid

    def _board(self, width: int, height: int) -> Group:
        names = self._visible(height)
        title = min(MAX_TITLE, max(len(row.title) for row in self.rows.values()))
        bar = max(4, min(BAR_WIDTH, (width - title - FIXED_WIDTH) // 3))
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        outcomes = max(8, width - title - bar - FIXED_WIDTH)
        p95 = "settle p95" if self.word == "settles" else ""  # a segment has its time, and does not settle
        headings = (("", 1), ("", title), (self.word, bar + 6), (p95, 10), ("outcomes", outcomes))
        for heading, columns in headings:
            justify: JustifyMethod = "right" if columns == 10 else "left"
            table.add_column(heading, width=columns, justify=justify, no_wrap=True, overflow="ellipsis")
        for name in names:
            table.add_row(*self._cells(name, bar))
        return Group(table, Text(), self._totals())

    def _cells(self, name: str, bar: int) -> list[RenderableType]:
        row = self.rows[name]
        now, whole = name == self.current, row.done == row.of
        style = "" if now or whole else "dim"
        settles = Table.grid(padding=(0, 1))
        settles.add_row(
            ProgressBar(total=row.of, completed=row.done, width=bar), Text(f"{row.done}/{row.of}", style)
        )
        return [
            Text("✓", "green") if whole else self._spinner if now else "",
            Text(row.title, style, no_wrap=True, overflow="ellipsis"),
            settles,
            Text(settle_us(row.p95_us) if row.done and row.word == "settles" else "", style),
            Text(words.outcomes(row.outcomes), style),
        ]

    def _visible(self, height: int) -> list[str]:
        """The panels around the current one, as many as the terminal has lines for."""
        names = list(self.rows)
        room = max(3, height - SPARE_LINES)
        if len(names) <= room:
            return names
        at = names.index(self.current) if self.current in names else len(names) - 1
        first = min(max(0, at - room // 2), len(names) - room)
        return names[first : first + room]

    def _totals(self) -> Text:
        done, of = sum(r.done for r in self.rows.values()), sum(r.of for r in self.rows.values())
        parts = [f"{done} of {of} {self.word}"]
        if self.device_us:
            parts.append(f"device time {duration(self.device_us)} modelled")
        left = self.seconds_left
        if not math.isnan(left):
            parts.append(f"{words.clock(left)} left")
        return Text("  " + " · ".join(parts), "dim")


def progress(*, quiet: bool) -> Silent:
    """What suits stderr: a live board on a terminal, lines elsewhere, nothing if asked to be quiet."""
    console = err()
    if quiet:
        return Silent()
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveBoard(console)
    return Lines(lambda text: console.print(Text(text), soft_wrap=True))
