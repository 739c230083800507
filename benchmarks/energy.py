"""What an image costs: the shipped ledger, with this computer's times, on a page of results.

Energies are computed, not measured: constants and intervals stand on docs/explanation/energy.md. What is
measured here is the time of the digital jobs: CPU time of one thread, so that a busy machine lengthens it little;
the load average is printed beside.

    python benchmarks/energy.py [--batches 256 1]
"""

from __future__ import annotations

import argparse
import os
import tempfile

from common import RESULTS
from sheet import Sheet

from labctl.cli.ledger import costs, counted, held, items, ranking, ratios
from labctl.energy import shipped_claims
from labctl.procedures import LedgerResult, ledger, load_protocol
from labctl.reports.words import seconds

PROTOCOL = "ledger_compare"


def main() -> None:
    """The page of results."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--batches", type=int, nargs="+", default=[256, 1], help="images made at once")
    batches = options.parse_args().batches
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for batch in batches:
            results.append(ledger(load_protocol(PROTOCOL, {"digital_batch": batch}), out=folder, say=print))
    sheet = Sheet()
    _page(sheet, results[0])
    sheet.say("\n## The digital jobs, timed\n")
    sheet.say(f"{results[0].processor}, one thread; load average of the machine before: {load:.1f}.\n")
    sheet.table(
        ["job", "at once", "CPU time an image", "wall clock an image", "runs"],
        [
            [m.name, str(m.batch), seconds(m.cpu_s), seconds(m.wall_s), str(m.runs)]
            for result in results
            for m in result.measured
        ],
    )
    sheet.write(RESULTS / "energy.md")


def _page(sheet, result: LedgerResult) -> None:
    sheet.say("# What an image costs\n")
    sheet.say(
        f"Computed from [constants](../../docs/explanation/energy.md), nearly all assumed; in brackets 5% to 95% "
        f"of {result.draws:,} draws of their intervals. No energy was measured.\n"
    )
    sheet.table(*costs(result))
    sheet.say("\nAt the constants' own values:\n")
    sheet.table(*items(result, between=", "))
    sheet.say("")
    for line in counted(result):
        sheet.say(f"- {line}")
    sheet.say("\n## Digital over machine\n")
    sheet.table(*ratios(result))
    sheet.say("\n## Claims, never ours\n")
    for claim in shipped_claims().values():
        sheet.say(f"- claim: {claim.says}. {claim.source}")
    sheet.say("\n## What must be true\n")
    for found in result.posteriors:
        sheet.say(f"**{found.claim}**: {held(found)}\n")
        if found.ranking:
            sheet.table(*ranking(found, result.constants))
            sheet.say("")


if __name__ == "__main__":
    main()
