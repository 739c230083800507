"""All bars in one run, side by side. Cells resume: `python benchmarks/bars.py` goes on where it was cut off.

--workers 2 fills the cells of several sets at once; timings are taken at the end, with nothing else running.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import agreement
import camera
import chain
import common
import noise_credit
import overhead
import pictures
import quality
import settling
import speed
from common import E_BAR, RESULTS, SEEDS, bound, milli
from sheet import Sheet, verdict

SETS = list(common.SETS)
LABCTL = str(Path(sys.executable).with_name("labctl"))


def fill(name: str) -> str:
    """Every cell of one set."""
    quality.main([name])
    settling.main([name])
    agreement.main([name])
    return name


def quality_tables(sheet: Sheet) -> None:
    """Converged net, ideal loop, noisy 4-bit loop."""
    sheet.say("## Samples: energy distance E x 1e3, n = 20,000, 5 seeds, sigma 10 to 0.06, flow schedule")
    sheet.say("Bound: one-sided 95% t-bound over seeds. E - E_ref is paired (same data, same start noise).")
    sheet.say()
    rows = []
    for name in SETS:
        e_ref = quality.converged(name)
        b = bound(e_ref)
        rows.append([name, milli(b.mean), milli(b.bound), verdict(b.bound <= E_BAR)])
    sheet.table(["converged net against the data", "mean E", "bound", "bar 0.5"], rows)
    rows = []
    for name in SETS:
        e_ref = quality.converged(name)
        limit = quality.IDEAL_STEPS.get(name, 8)
        for steps in sorted({4, limit}):
            row = [name, str(steps)]
            for scheme in ("implicit-midpoint", "implicit-euler"):
                cells = quality.on_rig(name, "optical-ideal", scheme, "flow", steps, None)
                b = bound([c["e"] - r for c, r in zip(cells, e_ref, strict=True)])
                row += [milli(b.mean), milli(b.bound)]
                if scheme == "implicit-midpoint":
                    row.append(verdict(b.bound <= E_BAR) if steps == limit else "-")
            rows.append(row)
    sheet.table(
        ["ideal loop, E - E_ref", "N", "midpoint", "bound", "bar 0.5", "implicit Euler", "bound"], rows
    )
    rows = []
    for name in SETS:
        limit = quality.IDEAL_STEPS.get(name, 8)
        ideal = quality.on_rig(name, "optical-ideal", "implicit-midpoint", "flow", limit, None)
        noisy = quality.on_rig(name, "optical-twin", "implicit-midpoint", "flow", limit, 4)
        b = bound([n["e"] - i["e"] for n, i in zip(noisy, ideal, strict=True)])
        rows.append(
            [name, str(limit), milli(b.mean), milli(b.bound), verdict(b.bound <= 1e-3),
             f"{min(n['converged'] for n in noisy):.1%}"]
        )  # fmt: skip
    sheet.table(
        ["optical-twin (4 bit, noise) - ideal", "N", "mean", "bound", "bar 1.0", "least converged"], rows
    )


def steps_table(sheet: Sheet) -> None:
    """Smallest N that meets the E bar, per scheme; NFE, trips and modelled time beside."""
    sheet.say("## Steps at equal quality: smallest N of the ladder whose E - E_ref bound is <= 0.5e-3")
    sheet.say(f"Ladder {', '.join(map(str, quality.LADDER))}; schedule tuned per scheme and N:")
    sheet.say(
        f"the best {quality.SHORT_LIST} of {', '.join(quality.SCHEDULES)} at n = 4,000, one seed, go on to 20,000."
    )
    sheet.say(
        "Time: device time a sample at the adm profile (14.9 us a settle or evaluation, final denoise counted)."
    )
    sheet.say()
    rows = []
    for name in SETS:
        e_ref = quality.converged(name)
        found = {s: quality.first_to_meet(name, s, e_ref) for s in quality.compared(name)}
        own = found["implicit-midpoint"][0]
        for scheme, (steps, schedule, upper) in found.items():
            per_step = 2 if scheme in ("heun", "explicit-midpoint") else 1
            ratio = "-" if own is None or steps is None else f"{steps / own:.1f}"
            if steps is None and own is not None:
                ratio = f"> {quality.LADDER[-1] / own:.0f}"
            settles = None if steps is None else steps * per_step + 1
            need = {"ddim": 8.0, "dpm-solver++2m": 2.0}.get(scheme) if name in quality.IDEAL_STEPS else None
            met = "-" if need is None or own is None else verdict((steps or 999) / own >= need)
            rows.append(
                [name, scheme, str(steps or f"> {quality.LADDER[-1]}"), schedule, milli(upper), ratio, met,
                 "-" if settles is None else str(settles),
                 "-" if settles is None else f"{settles * 745:.0f}",
                 "-" if settles is None else f"{settles * 14.9:.0f} us"]
            )  # fmt: skip
    sheet.table(
        [
            "set",
            "scheme",
            "N",
            "schedule",
            "bound",
            "N / N midpoint",
            "bar",
            "settles or NFE",
            "loop trips",
            "time",
        ],
        rows,
    )
    sheet.say(
        "The tuned chains of implicit midpoint on the ideal loop, with the wait of the adm profile (8.5 us):"
    )
    sheet.say("below N = 4 a step is longer, and the slowest samples are read a little early.")
    sheet.say()
    rows = []
    for name in (n for n in SETS if n in quality.IDEAL_STEPS):
        steps, schedule, upper = quality.on_tuned_loop(name, quality.converged(name))
        p95_us = max(settling.gates(name, "adm", s, steps, schedule)["p95_us"] for s in range(len(SEEDS)))
        rows.append([name, str(steps), schedule, milli(upper), verdict(upper <= E_BAR), f"{p95_us:.1f}"])
    sheet.table(["set", "N", "schedule", "bound of E - E_ref", "bar 0.5", "p95 settle us"], rows)


def settling_table(sheet: Sheet) -> None:
    """Both gates, both profiles."""
    sheet.say("## Settling (4-bit nets, noise off, worst step of the chain, worst of 5 seeds)")
    sheet.say()
    rows = []
    for profile in ("adm", "nature2025"):
        for name in SETS:
            for steps in (4, 8):
                cells = [settling.gates(name, profile, s, steps) for s in range(len(SEEDS))]
                worst = {k: max(c[k] for c in cells) for k in cells[0]}
                met = (
                    worst["p95_us"] <= worst["wait_us"]
                    and worst["transient_percent"] <= 0.5
                    and worst["step_us"] <= 15
                )
                rows.append(
                    [profile, name, str(steps), f"{worst['p95_us']:.2f}", f"{worst['p95_us'] / worst['tau_us']:.1f}",
                     f"{worst['p95_us'] / worst['trip_us']:.0f}", f"{worst['p99_us']:.2f}", f"{worst['max_us']:.1f}",
                     f"{worst['unsettled']:.2%}", f"{worst['transient_percent']:.2f}", f"{worst['wait_us']:.1f}",
                     f"{worst['step_us']:.1f}", verdict(met)]
                )  # fmt: skip
    sheet.table(
        ["profile", "set", "N", "p95 us", "tau", "trips", "p99 us", "max us", "unsettled", "transient % (<= .5)",
         "wait us", "step us (<= 15)", "gates"],
        rows,
    )  # fmt: skip


def agreement_table(sheet: Sheet) -> None:
    """Optical engine against the digital one."""
    sheet.say(
        "## Optical engine (ideal rig, 80 tau) against DigitalEngine, relative error of u, kappa < 0.9, N = 4"
    )
    sheet.say()
    rows = []
    for name in SETS:
        cells = [agreement.compare(name, s, 4) for s in range(len(SEEDS))]
        median = max(c["median"] for c in cells)
        p99 = max(c["p99"] for c in cells)
        unflagged = sum(c["unflagged_other_root"] for c in cells)
        rows.append(
            [name, f"{median:.1e}", f"{p99:.1e}", f"{sum(c['flagged'] for c in cells):.0f}", f"{unflagged:.0f}",
             f"{sum(c['still_moving'] for c in cells):.0f}",
             f"{sum(c['kappa_above'] for c in cells):.0f} of {sum(c['settles'] for c in cells):.0f}",
             verdict(median <= 1e-6 and p99 <= 1e-3 and unflagged == 0)]
        )  # fmt: skip
    sheet.table(
        ["set", "median (<= 1e-6)", "p99 (<= 1e-3)", "flagged multistable", "other root, not flagged",
         "same root, over 1% away at 80 tau",
         "kappa >= .9 or clipped", "bar"],
        rows,
    )  # fmt: skip


def speed_table(sheet: Sheet) -> None:
    """Rates of the loop physics, one core."""
    s = speed.measure()
    sheet.say("## Loop physics, one core, 48 x 48, batch 1,024, 20 tau, noise-free")
    sheet.say()
    sheet.table(
        ["figure", "value", "bar", ""],
        [
            ["sgemm peak of the run", f"{s.peak_gflops:.0f} GFLOP/s", "-", ""],
            ["200 steps: settles/s, share of peak", f"{s.euler_per_s:,.0f}, {s.euler_share:.0%}",
             ">= 35%; >= 60%, or the next row's rate >= 200,000",
             verdict(s.euler_share >= 0.35 and (s.euler_share >= 0.6 or s.higher_per_s >= 200_000))],
            ["the same in torch alone: settles/s", f"{s.torch_per_s:,.0f}", "-", ""],
            ["higher order (40 steps): settles/s, ratio", f"{s.higher_per_s:,.0f}, {s.higher_ratio:.1f}x", ">= 3x",
             verdict(s.higher_ratio >= 3)],
            ["its settle-time error, median (largest)", f"{s.higher_error:.1%} ({s.higher_worst:.1%})", "<= 3%",
             verdict(s.higher_error <= speed.MOST_ERROR)],
            [f"higher order ({speed.FAST_STEPS} steps): settles/s, settle-time error (largest)",
             f"{s.fast_per_s:,.0f}, {s.fast_error:.1%} ({s.fast_worst:.1%})", "<= 3%", verdict(s.fast_error <= speed.MOST_ERROR)],
            *(
                [f"{peer.name}: settles/s, settle-time error", f"{peer.per_s:,.0f}, {peer.error:.1%}",
                 "", ""]
                for peer in s.peers
            ),
            ["200 steps against torchdiffeq Euler, same steps", f"{s.same_steps:.1f}x", ">= 3x",
             verdict(s.same_steps >= 3)],
            [f"{speed.FAST_STEPS} steps against the fastest of these within 3%", f"{s.ratio:.1f}x", ">= 5x",
             verdict(s.ratio >= 5)],
        ],
    )  # fmt: skip


def host_table(sheet: Sheet) -> None:
    """Host overhead, logging, --help, demo."""
    sheet.say("## Host")
    sheet.say()
    o = overhead.measure()
    helps = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([LABCTL, "--help"], check=True, capture_output=True)
        helps.append(time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run([LABCTL, "demo", "--out", folder], check=True, capture_output=True)
        demo_s = time.perf_counter() - began
    help_s = sorted(helps)[2]
    sheet.table(
        ["figure", "value", "bar", ""],
        [
            ["demo after set-up", f"{demo_s:.0f} s", "<= 180 s", verdict(demo_s <= 180)],
            [
                "host overhead a step, batch 1,024",
                f"{o.overhead_ms:.2f} ms",
                "<= 1 ms",
                verdict(o.overhead_ms <= 1),
            ],
            [
                "logging, share of run time",
                f"{o.logging_share:.1%}",
                "<= 5%",
                verdict(o.logging_share <= 0.05),
            ],
            ["labctl --help, median of 5", f"{help_s:.2f} s", "<= 0.5 s", verdict(help_s <= 0.5)],
        ],
    )


def main() -> None:
    """Fill all cells, then print the page and keep it in benchmarks/results/bars.md."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--cells-only", action="store_true", help="fill cells, print nothing")
    options.add_argument("--sets", nargs="+", choices=common.SETS, default=list(common.SETS))
    chosen = options.parse_args()
    SETS[:] = chosen.sets
    with ProcessPoolExecutor(chosen.workers) as pool:
        for name in pool.map(fill, SETS):
            print(f"filled: {name}", flush=True)
    if chosen.cells_only:
        return
    sheet = Sheet()
    sheet.say("# Bars")
    sheet.say()
    quality_tables(sheet)
    steps_table(sheet)
    settling_table(sheet)
    agreement_table(sheet)
    pictures.table(sheet.say, sheet.table, verdict)
    chain.table(sheet.say, sheet.table, verdict)
    camera.table(sheet.say, sheet.table, verdict)
    noise_credit.table(sheet.say, sheet.table, verdict)
    speed_table(sheet)
    host_table(sheet)
    RESULTS.mkdir(exist_ok=True)
    sheet.write(RESULTS / "bars.md")
    print(Path("benchmarks/results/bars.md"))


if __name__ == "__main__":
    main()
