"""One question, four answers: the device, its noisy fitted twin, the noiseless one, plain torch.

The same statements for an optical bench and an oscillator board, on probes of this test's own. Where each
tolerance is from stands beside it; none is tuned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from labctl_calibration.agreement import GATE, agreement
from labctl_calibration.noise_budget import KIND as NOISE_KIND
from labctl_calibration.noise_budget import budget_of
from labctl_calibration.optical import agreement as of_light
from labctl_calibration.optical.dense import dense_fractions, pose
from labctl_calibration.optical.twin import FittedTwin
from labctl_calibration.oscillators import DIFFUSION, ESSENTIAL, SETTLING
from labctl_calibration.oscillators import agreement as of_boards
from labctl_calibration.oscillators.diffusion import KIND as DIFFUSION_KIND
from labctl_calibration.oscillators.frequency import KIND as FREQUENCY_KIND
from labctl_calibration.oscillators.twin import FittedBoardTwin
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.procedure import Devices
from labctl_calibration.session import calibrate
from labctl_calibration.settling import WAIT_TAU
from labctl_calibration.store import RecordStore

from labctl.devices import LoopElectronics, WeightModulator
from labctl.physics.oscillators import evolve
from labctl.rig import Rig, load_rig
from labctl.rig.calibrating import bench_of

pytestmark = pytest.mark.slow
SEED = 31337


@dataclass(frozen=True)
class Ways:
    """Answers [P, r] less what the same machine would do uncoupled. scatter: from what to what the device's
    may be (`apart`), by the records.
    """

    device: tuple[np.ndarray, np.ndarray]
    noisy: tuple[np.ndarray, np.ndarray]
    noiseless: np.ndarray
    plain: np.ndarray
    scatter: tuple[float, float]


def rms(values):
    return float(np.sqrt((values**2).mean()))


def apart(one, other):
    """How far two runs are apart: the median, since a sample at a watershed may end anywhere."""
    return float(np.median(np.abs(one - other)))


def optical(folder: Path) -> Ways:
    with Rig(load_rig("optical-unit")) as rig:
        store = RecordStore(folder)
        outcomes = list(calibrate(bench_of(rig, store)))
        records = {one.procedure.kind: one.stored.record for one in outcomes if one.stored is not None}
        electronics, modulator = rig.device(LoopElectronics), rig.device(WeightModulator)
        twin = FittedTwin(electronics.spec, modulator.spec, records)
        devices = Devices({LoopElectronics: electronics, WeightModulator: modulator})
        pose(devices, records[PANEL_KIND])
        weights = twin.loop.light.powers[0].numpy() * twin.full_scale_units
        codes = of_light.held_out(electronics.spec, weights, SEED)
        device = of_light.run_twice(electronics, codes)
    law = of_light.law_of(twin, codes)
    z = law.rest().detach()
    spec = twin.spec
    # lines go on from the first run to the second, which follows it at once
    noise = replace(twin.noise, sample_us=WAIT_TAU * spec.tau_us + spec.window_us)

    def noisy_runs(noise):
        runs = []
        for run in (0, 1):
            ids = codes.sample_id + run * len(codes.sample_id)
            behind, before, read = noise.draw(ids, 0, law.light.powers[0])
            runs.append((law.moved(z, behind, before) + read).numpy())
        return runs

    noisy = noisy_runs(noise)
    # the budget has what all lines of a source are together: any of them may be all of it
    alike = [noisy_runs(replace(noise, mains_hz=(hz,))) for hz in noise.mains_hz] or [noisy]
    gain, bias = spec.hidden_gain.value(codes.gain), codes.bias * spec.dac.units_per_code
    weights = twin.full_scale_units * dense_fractions(spec.n_channels)
    plain = picard(weights, gain, codes.leak / spec.max_leak_code, bias)
    alone = (law.bias / law.leak).numpy()
    every = [(one - alone)[:, twin.live] for one in (*device, *noisy, z.numpy(), plain)]
    # what the record leaves open of its own total, and three standard errors of both and of these probes
    budget = budget_of(records[NOISE_KIND])
    open_share = abs(budget.total.percent / budget.seen.percent - 1)
    error = np.hypot(budget.total.error, budget.seen.error / budget.seen.percent)
    tolerance = open_share + 3 * np.hypot(error, 1 / np.sqrt(2 * len(z)))
    scatter = [apart(one[:, twin.live], other[:, twin.live]) for one, other in (noisy, *alike)]
    within = (min(scatter) * (1 - tolerance), max(scatter) * (1 + tolerance))
    return Ways((every[0], every[1]), (every[2], every[3]), every[4], every[5], within)


def picard(weights, gain, leak, bias):
    """The ideal machine by plain torch, in a way of its own: no records, no curves, no Newton."""
    weights, gain, leak, bias = (torch.from_numpy(one) for one in (weights, gain, leak, bias))
    z = torch.zeros_like(bias)
    for _ in range(400):
        z = z + 0.2 * (gain * (torch.tanh(z) @ weights.T) + bias - leak * z)
    return z.numpy()


def boards(benches) -> Ways:
    _, board = benches.drawn()
    records = {}
    for procedure in (*ESSENTIAL, DIFFUSION, SETTLING):
        benches.taken(procedure, board, records)
    twin = FittedBoardTwin(board.spec, records)
    posed = of_boards.pose_programs(board, twin, records[FREQUENCY_KIND], seed=SEED)
    length = board.run_us([0]) / board.spec.unit_us
    first, second, good = of_boards.run_twice(board, twin, posed, length)
    with torch.no_grad():
        ends = [of_boards.ended(twin, one, length) for one in posed]
        twin.noisy = True
        noisy = [[of_boards.ended(twin, one, length, seed=seed) for one in posed] for seed in (0, 1)]
        plain = [
            evolve(
                twin.edges, one.asked, one.start, duration=length, steps=of_boards.STEPS, inject=one.inject
            )
            for one in posed
        ]
        free = of_boards.vectors(torch.cat([of_boards.uncoupled(twin, one, length) for one in posed]).numpy())
    every = [
        (of_boards.vectors(one) - free)[good]
        for one in (first, second, *(torch.cat(parts).numpy() for parts in (*noisy, ends, plain)))
    ]
    # half of a variance's relative error is a deviation's; three of D's and of these samples'
    record = records[DIFFUSION_KIND]
    d, sd = record.array("diffusion_rad2_per_unit"), record.array("diffusion_rad2_per_unit_sd")
    error = 0.5 * np.sqrt((sd**2).mean()) / d.mean()
    # one D serves all: what that leaves open is how far the oscillators' roots differ from the mean's
    open_share = abs(np.sqrt(np.maximum(d, 0)).mean() / np.sqrt(d.mean()) - 1)
    tolerance = open_share + 3 * np.hypot(error, 1 / np.sqrt(2 * good.sum()))
    scatter = apart(every[2], every[3])
    within = (scatter * (1 - tolerance), scatter * (1 + tolerance))
    return Ways((every[0], every[1]), (every[2], every[3]), every[4], every[5], within)


@pytest.fixture(scope="module", params=["optical", "oscillators"])
def ways(request, tmp_path_factory, oscillators) -> Ways:
    if request.param == "optical":
        return optical(tmp_path_factory.mktemp("records"))
    return boards(oscillators)


def test_the_noiseless_twin_is_what_the_device_does(ways) -> None:
    """To within the gate, which is of the variance without noise."""
    found = agreement(*ways.device, ways.noiseless)
    assert found.share + 3 * found.sd > GATE


def test_the_noisy_twin_scatters_as_the_device_does(ways) -> None:
    """From one run to the next; to within what the noise records are uncertain by."""
    low, high = ways.scatter
    assert low < apart(*ways.device) < high


def test_the_noisy_twin_is_the_noiseless_one_in_the_mean(ways) -> None:
    """Two draws' mean is off by the noise over the root of two; its second order is within the gate."""
    noise = rms(ways.noisy[0] - ways.noisy[1]) / np.sqrt(2)
    off = rms((ways.noisy[0] + ways.noisy[1]) / 2 - ways.noiseless)
    allowed = noise**2 / 2 * (1 + 3 / np.sqrt(len(ways.noiseless))) + (1 - GATE) * ways.noiseless.var()
    assert off**2 < allowed


def test_plain_torch_misses_the_device_by_what_it_misses_the_twin_by(ways) -> None:
    """The triangle's two other sides: twin to device, and no more. And it is farther off than the twin."""
    device = sum(ways.device) / 2
    to_device, to_twin = rms(ways.plain - device), rms(ways.plain - ways.noiseless)
    between = rms(ways.noiseless - device)
    assert abs(to_device - to_twin) <= between * (1 + 1e-12)
    assert to_device > between
