"""The live board: fits any terminal, keeps the score."""

from __future__ import annotations

import io
import math
from collections import Counter

import pytest
from rich.console import Console

from labctl.cli.board import Board, PanelRow
from labctl.cli.live import Lines, LiveBoard
from labctl.procedures import SettleReport


def report(panel="a", index=0, p95=3.0, outcomes=None, *, kind="implicit", sigma=1.0) -> SettleReport:
    return SettleReport(
        panel, index, 5, kind, sigma, 100, outcomes or {"CONVERGED": 100}, p95, 0.0, 1500.0, 0.1
    )


def frame(board: LiveBoard, width: int, height: int) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=width, height=height, color_system=None)
    console.print(board)
    return text.getvalue().splitlines()


def board_of(count: int) -> LiveBoard:
    board = LiveBoard(Console(force_terminal=True))
    board.rows = {f"p{i}": PanelRow(f"A panel with rather a long title, {i}", 100, 5) for i in range(count)}
    board.current = "p0"
    return board


@pytest.mark.parametrize("width", [60, 80, 132])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_the_board_fits_the_terminal(width, count) -> None:
    board = board_of(count)
    board.settled(report("p0", 0, math.inf, {"CONVERGED": 60, "MAX_TIME": 35, "LIMIT_CYCLE": 5}))
    for at in range(0, count, 7):
        board.current = f"p{at}"
        lines = frame(board, width, 24)
        assert len(lines) < 24
        assert max(len(line) for line in lines) <= width
        assert any(f"{board.rows[board.current].done}/5" in line for line in lines)


def test_the_board_tells_settle_time_outcomes_device_time_and_time_left() -> None:
    board = board_of(2)
    for index in range(2):
        board.settled(report("p0", index, 3.0 + index, {"CONVERGED": 98, "MAX_TIME": 2}))
    text = "\n".join(frame(board, 120, 24))
    for words in (
        "2/5",
        "0/5",
        "4.0 µs",
        "196 converged, 4 max time",
        "2 of 10 settles",
        "3 ms modelled",
        "left",
    ):
        assert words in text


def test_an_unsettled_p95_stays_the_worst() -> None:
    row = PanelRow("a", 100, 5)
    for p95 in (2.0, math.nan, math.inf, 3.0):
        row.add(report(p95=p95))
    assert math.isinf(row.p95_us)
    assert row.outcomes == Counter(CONVERGED=400)


def test_time_left_follows_the_pace() -> None:
    clock = iter((0.0, 10.0, 10.0)).__next__
    board = Board(now=clock)
    board.rows = {"a": PanelRow("a", 100, 4), "b": PanelRow("b", 300, 4)}
    assert math.isnan(board.seconds_left)
    board.settled(report("a", 1))  # 200 of 1,600 samples settled after 10 s
    assert board.seconds_left == pytest.approx(70.0)


def test_a_chain_that_arrives_at_once_tells_the_pace_only_when_whole() -> None:
    board = Board(now=iter((0.0, *[20.0] * 9)).__next__)
    board.rows = {name: PanelRow(name, 100, 5, at_once=True) for name in "ab"}
    for index in range(4):
        board.settled(report("a", index))
        assert math.isnan(board.seconds_left)  # all five lines within a moment: no pace
    board.settled(report("a", 4))
    assert board.seconds_left == pytest.approx(20.0)
    board.settled(report("b", 0))
    assert board.seconds_left == pytest.approx(20.0)


def test_lines_leave_out_a_time_that_nothing_tells_yet() -> None:
    said: list[str] = []
    lines = Lines(said.append)
    lines.rows = {"a": PanelRow("A chain", 100, 5, at_once=True)}
    lines.settled(report("a", 0))
    lines.settled(report("a", 4))
    assert said[0].endswith("p95 3.0 µs, 100 converged")
    assert said[1].endswith("100 converged, 0:00 left")


@pytest.mark.parametrize("kind", ["segment", "program"])
def test_lines_call_what_was_read_by_its_own_name(kind) -> None:
    said: list[str] = []
    lines = Lines(said.append)
    lines.rows = {"a": PanelRow("Digits", 100, 5, at_once=True, word=f"{kind}s")}
    lines.settled(report(p95=math.nan, outcomes={"TIME_ELAPSED": 100}, kind=kind, sigma=math.nan))
    assert said == [f"Digits: {kind} 1/5, 100 time elapsed"]


def test_before_the_first_settle_the_board_says_what_goes_on() -> None:
    board = LiveBoard(Console(force_terminal=True))
    board.training("re-fit at 4 bits", 1200, 3000)
    assert "re-fit at 4 bits" in frame(board, 80, 24)[0]
    assert "1,200/3,000" in frame(board, 80, 24)[0]


def test_a_board_of_programs_counts_segments_and_has_no_settle_time() -> None:
    board = board_of(0)
    board.rows = {"a": PanelRow("Digits", 100, 5, at_once=True, word="segments")}
    board.settled(report(p95=math.nan, outcomes={"TIME_ELAPSED": 100}))
    text = "\n".join(frame(board, 120, 24))
    assert "1 of 5 segments" in text
    assert "settle" not in text
    board.rows["b"] = PanelRow("A chain", 100, 4)
    assert board.word == "steps"
