"""What quality to expect of a chain before its first step, by the bench's fitted twin; or why not, in words.

A forecast takes seconds and asks no device. It is kept beside the adapted network, so that a run after
`labctl validate` has it at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from labctl_calibration.bench import Bench
from labctl_calibration.forecast import METHOD, SHARE, BenchTwin, Interval, Task, forecast
from labctl_calibration.optical.agreement import SHARE as AGREEMENT
from labctl_calibration.optical.twin import FittedTwin
from labctl_calibration.store import RecordStore

from labctl.devices import CalibrationMissing, ConfigError, DataError, LabctlError, Scalar
from labctl.procedures.compensating import compensated, found_again
from labctl.procedures.models_of import Tell
from labctl.procedures.plan import Chain, chains_of
from labctl.procedures.recipe import load_protocol
from labctl.procedures.threads import one_thread
from labctl.rig import Rig, open_rig
from labctl.rig.config import RigConfig

NOT_YET = "only chains on optical loops are forecast yet; not pictures of oscillator boards, nor host loops"
GOLDEN = "sample_moons"  # what a calibration ends with
FIELDS = ("low", "middle", "high", "draws", "samples")  # as they are kept
SHAPING = {
    *("samples", "steps", "scheme", "schedule", "sigma_max", "sigma_min", "eta", "ending", "bits"),
    *("weight_scale", "reference", "seed", "model", "data"),
}


@dataclass(frozen=True)
class Expected:
    """Quality expected of a chain (`of` what, for people); interval None, and `why_not` in words, where none.

    twin: id of the agreement of the fitted twin, agreement: of held-out probes' variance, in %.
    """

    interval: Interval | None = None
    why_not: str = ""
    of: str = ""
    twin: str = ""
    agreement: float = float("nan")

    @property
    def words(self) -> str:
        """One line."""
        if self.interval is None:
            return f"no forecast: {self.why_not}"
        low, high = (f"{1e3 * value:.1f}e-3" for value in (self.interval.low, self.interval.high))
        name = f"E of {self.of}" if self.of else "E"
        return (
            f"{name} expected {low} to {high} ({100 * SHARE:.0f}%), from the fitted twin of {self.twin[:8]}, "
            f"which predicts {self.agreement:.2f}% of held-out probes"
        )

    @property
    def settings(self) -> dict[str, Scalar]:
        """As the run file keeps it."""
        found = self.interval
        if found is None:
            return {"words": self.words}
        return {
            "words": self.words,
            "low": found.low,
            "middle": found.middle,
            "high": found.high,
            "share": SHARE,
            "draws": found.draws,
            "samples": found.samples,
            "twin": self.twin,
            "agreement_percent": self.agreement,
        }


def expected(chains: Sequence[Chain], rig: Rig, tell: Tell) -> Expected:
    """Of the one chain of a run, adapted to its bench. Never raises for want of records."""
    if len(chains) != 1:
        return Expected(why_not=f"{len(chains)} chains; one alone is forecast")
    chain = chains[0]
    if why := _why_not(chain, rig):
        return Expected(why_not=why)
    try:
        twin = rig.fitted_twin()
    except (CalibrationMissing, ConfigError) as error:
        return Expected(why_not=str(error))
    if rig.bench is None or rig.records is None or not isinstance(twin, FittedTwin):
        return Expected(why_not=f"rig {rig.name} has no fitted twin")
    if strange := set(rig.bench.record_ids) - set(twin.record_ids):
        names = ", ".join(name[:8] for name in sorted(strange))
        return Expected(why_not=f"the fitted twin rests on other records than the rig works by ({names})")
    return replace(
        _kept_or_made(chain, rig.bench, rig.records, twin, tell),
        twin=twin.record_ids[-1],
        agreement=_agreement(rig.records, twin),
    )


def of_golden_task(config: RigConfig, records: Path, tell: Tell, *, adapt: bool) -> Expected:
    """Of the golden task on a bench as its records have it now. Where its network was not adapted to them
    yet, that is done now if `adapt`: it measures, on the rig opened anew. Never raises what labctl does.
    """
    if config.law != "loop" or config.engine != "optical-loop":
        return Expected(why_not=NOT_YET)
    try:
        with open_rig(config, records=records) as rig:
            if rig.bench is None:
                return Expected(why_not=f"rig {config.name} runs without records of a calibration")
            chains = chains_of(load_protocol(GOLDEN), rig, tell)
            found = [one for chain in chains if (one := found_again(chain, rig))]
            if len(found) < len(chains) and adapt:
                with one_thread():
                    found = compensated(chains, rig, tell)
            with one_thread():
                return replace(expected(found or chains, rig, tell), of=GOLDEN)
    except LabctlError as error:
        return Expected(why_not=str(error))


def with_forecast(chains: list[Chain], rig: Rig, tell: Tell) -> tuple[list[Chain], Expected | None]:
    """The chains with the forecast of the one that there is; nothing on a rig that is not compensated."""
    if rig.bench is None:
        return chains, None
    found = expected(chains, rig, tell)
    return [replace(chain, forecast=found.settings) for chain in chains], found


def _why_not(chain: Chain, rig: Rig) -> str:
    recipe = chain.recipe
    if rig.bench is None:
        return f"rig {rig.name} runs without records of a calibration"
    if chain.pictures is not None or chain.reference is None:
        return "pictures are judged otherwise; allowed: networks of points, whose quality is E"
    if recipe.noise_scale != 1:
        return f"noise_scale is {recipe.noise_scale:g}; the fitted twin has the bench's own noise"
    if chain.maps is None:
        name = recipe.model or recipe.data
        return f"{name} was never adapted to this bench; labctl run does that before it forecasts"
    return ""


def _agreement(store: RecordStore, twin: FittedTwin) -> float:
    quantity = store.get(twin.record_ids[-1]).about.quantity(AGREEMENT)
    return float("nan") if quantity is None else quantity.value


def _kept_or_made(chain: Chain, bench: Bench, store: RecordStore, twin: FittedTwin, tell: Tell) -> Expected:
    path = store.folder / f"forecast-{_key(chain, bench, twin)[:16]}.npz"
    if path.is_file():
        return Expected(_read(path))
    found = forecast(*asked_of(chain, twin), tell)
    np.savez(path, values=[float(getattr(found, name)) for name in FIELDS])
    return Expected(found)


def asked_of(chain: Chain, twin: FittedTwin) -> tuple[Task, BenchTwin]:
    """What is forecast: a chain that was adapted to its bench, on what its twin knows of that."""
    if chain.maps is None or chain.tables is None or chain.reference is None:
        raise ConfigError(f"{chain.title}: not on a bench")
    task = Task(
        chain.subject.network, chain.program, chain.tables, chain.sampler, chain.x_start, chain.labels,
        chain.reference, chain.recipe.seed,
    )  # fmt: skip
    noise = replace(twin.noise, frame=chain.maps.flicker)
    return task, BenchTwin(chain.maps.known, chain.maps.probed, noise, twin.spec.adc.range_units)


def _read(path: Path) -> Interval:
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            low, middle, high, draws, samples = (float(value) for value in file["values"])
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DataError(f"{path}: is damaged ({error}); remove it, and it is made anew") from None
    return Interval(low, middle, high, int(draws), int(samples))


def _key(chain: Chain, bench: Bench, twin: FittedTwin) -> str:
    """What a forecast is kept under: the program as the machine gets it, what shapes the run, the records."""
    recipe = chain.recipe.model_dump_json(include=SHAPING)
    text = f"{chain.program.hash} {recipe} {bench.record_ids} {twin.record_ids} {METHOD}"
    return hashlib.sha256(text.encode()).hexdigest()
