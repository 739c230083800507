"""The table of wire faults, seen: every wire, every fault, twenty seeds, once and for ever.

`python benchmarks/wire_faults.py [--seeds 20] [--jobs 8] [--wire NAME]` plays a short day for each case, the
real driver before a twin behind a wire of this machine, and writes `benchmarks/results/wire_faults.md`: what
is stated, in how many days it was seen, whether the safe state was reached, and the twins' own counts of
absolute limits exceeded and parts damaged. Cases that were played stay in the cache (`--anew` forgets them).
The tests play the same cases (`tests/link/test_fault_table.py`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from common import cell
from fault_cases import JOBS, PLACES, SEEDS, Seen, cases, play, problems, side_by_side
from labctl_sim_devices.wires.stated import EVENTS, WIRES, How, stated, words_of

OUT = Path(__file__).parent / "results" / "wire_faults.md"
VERSION = 3  # of the days: another one where what is played changes
HEADER = (
    "| wire | fault | stated | seen | safe state | limits exceeded | damaged | longest day |\n"
    "|---|---|---|---|---|---|---|---|"
)
HOW_WORDS: dict[str, str] = {"once": "", "lasting": " for ever"}


def played(wire: str, fault: str, how: How, seed: int) -> Seen:
    """A day, or what became of it when it was played before."""
    key = {"wire fault": VERSION, "wire": wire, "fault": fault, "how": how, "seed": seed}
    return Seen(**cell(key, lambda: asdict(play(wire, fault, how, seed))))


def line(wire: str, fault: str, how: How, seen: list[Seen]) -> str:
    """A row of the table."""
    wrong = [problems(wire, fault, how, one) for one in seen]
    ends = Counter(one.outcome for one in seen)
    told = ", ".join(f"{name} {count}" for name, count in ends.most_common())
    out_of_reach = sum(one.safe is None for one in seen)
    safe = f"{sum(one.safe is True for one in seen)} of {len(seen)}"
    if out_of_reach:
        safe += f", {out_of_reach} out of reach"
    cells = (
        wire,
        f"`{fault}`{HOW_WORDS[how] if fault != 'host-dies' else ''}",
        " or ".join(words_of(stated(wire, fault, how))),
        f"{sum(not one for one in wrong)} of {len(seen)} ({told}; struck in {sum(s.struck > 0 for s in seen)})",
        safe,
        str(sum(one.violations for one in seen)),
        str(sum(one.damage for one in seen)),
        f"{max(one.took_s for one in seen):.1f} s",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Play the days that are missing, print the page and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--wire", choices=list(PLACES))
    parser.add_argument("--anew", action="store_true")
    options = parser.parse_args()
    work = play if options.anew else played
    lines, wrong, days = [HEADER], [], []
    for wire in [options.wire] if options.wire else PLACES:
        rows = cases(wire)
        every = [(wire, fault, how, seed) for fault, how in rows for seed in range(options.seeds)]
        found = dict(zip(every, side_by_side(work, every, options.jobs), strict=True))
        for fault, how in rows:
            seen = [found[wire, fault, how, seed] for seed in range(options.seeds)]
            lines.append(line(wire, fault, how, seen))
            print(lines[-1], flush=True)
        for case, seen_one in found.items():
            wrong += [f"- {', '.join(map(str, case))}: {one}" for one in problems(*case[:3], seen_one)]
        days += list(found.values())
    head = [
        "# Faults of wires, seen",
        "",
        f"`python benchmarks/wire_faults.py --seeds {options.seeds}`: {len(days)} days, of which "
        f"{len(days) - len(wrong)} ended as stated; {sum(s.violations for s in days)} absolute limits "
        f"exceeded, {sum(s.damage for s in days)} parts damaged, by the twins' own count; "
        f"{sum(s.took_s for s in days) / 60:.0f} minutes of days, {options.jobs} at a time.",
        "",
        "A fault happens once, at an answer that the seed draws, or goes on for ever from there. "
        + " ".join(f"`{name}`: {about}." for name, about in EVENTS.items())
        + " What each wire's safe state is, and what is stated in words: docs/reference/wire-faults.md.",
        "",
    ]
    tail = ["", "Not on a wire: " + "; ".join(
        f"{wire}: {', '.join(f'`{fault}`' for fault in row.not_here)}"
        for wire, row in WIRES.items() if row.not_here
    ) + "."]  # fmt: skip
    if wrong:
        tail += ["", "Otherwise than stated:", "", *wrong]
    OUT.write_text("\n".join([*head, *lines, *tail]) + "\n", encoding="utf-8")
    sys.stdout.flush()
    os._exit(1 if wrong else 0)  # nothing of a day is worth waiting for


if __name__ == "__main__":
    main()
