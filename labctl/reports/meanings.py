"""What every number that a run measures means, in a sentence: for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from labctl.devices import Scalar
from labctl.reports.words import duration, number, quantity, scalar, settle_us, share
from labctl.runlog import PanelReader, RunHeader

Write = Callable[[float], str]


@dataclass(frozen=True)
class Said:
    """One metric: its name for a reader, and a sentence that is `before`, the `value`, `after`."""

    label: str
    before: str
    value: str
    after: str

    @property
    def sentence(self) -> str:
        """In one line."""
        return self.before + self.value + self.after


@dataclass(frozen=True)
class _Meaning:
    """`sentence` has {} where the value stands, as `write` puts it."""

    label: str
    write: Write
    sentence: str


def _thousandths(value: float) -> str:
    return f"{value * 1e3:+.2f}e-3"


def _two(value: float) -> str:
    return f"{value:.2f}"


def _three(value: float) -> str:
    return f"{value:.3f}"


def _joules(value: float) -> str:
    return quantity(value, "J")


def _whether(value: float) -> str:
    return "does not leave" if value else "leaves"


_CAMERA_NOISE = {
    "shot": "from counting photons",
    "read": "from reading pixels out",
    "rounding": "from whole counts",
    "flat": "from what the calibration left in the response",
    "zero": "from what the calibration left in the dark level",
}

_MEANINGS = {
    "converged_share": _Meaning("converged", share, "{} of all settles"),
    "settle_p95_us": _Meaning("settle time", settle_us, "95% of samples within {} at the slowest step"),
    "unsettled_share": _Meaning("unsettled", share, "{} of the audited samples at the worst step"),
    "energy_distance": _Meaning(
        "energy distance", _thousandths, "{} to fresh data; 0 is the same distribution, below it by chance"
    ),
    "sliced_wasserstein": _Meaning(
        "sliced Wasserstein", _three, "{} standard deviations from as much fresh data"
    ),
    "mode_total_variation": _Meaning("mode error", share, "{} of the samples would have to change mode"),
    "class_agreement": _Meaning("class agreement", share, "{} of the pictures are of the class asked for"),
    "multistable_share": _Meaning("second starts", share, "{} of the audited settles have another root"),
    "latents_out_of_range": _Meaning(
        "out of range", number, "{} samples lay beyond all training pictures; they were drawn at the edge"
    ),
    "frechet_star": _Meaning(
        "FD*", _three, "{}; 0 as real pictures, 1 as a Gaussian's; in our classifier's features, not FID"
    ),
    "FID": _Meaning(
        "FID", _two, "{} to the held-out test pictures, by the Inception file given; few samples raise it"
    ),
    "density": _Meaning("density", _two, "{} times that of real pictures about a sample"),
    "coverage": _Meaning("coverage", share, "{} of real pictures have a sample among their neighbours"),
    "path_error": _Meaning("path error", _three, "{} latent units rms to the net's own converged sampler"),
    "device_time_per_sample_us": _Meaning("device time", duration, "{} a sample, modelled"),
    "energy_core_j": _Meaning(
        "energy, core", _joules, "{} an image, modelled from constants of which most are assumed"
    ),
    "energy_wall_j": _Meaning(
        "energy, wall plug", _joules, "{} an image, host and supply with it; see labctl run ledger_compare"
    ),
    "locked_share": _Meaning("locked", share, "{} of the samples kept to the reference oscillator"),
    "rest_residual_p95": _Meaning(
        "left of motion", number, "{} rad per unit of time (rms over oscillators, p95) at the worst level"
    ),
    "locking_load": _Meaning(
        "locking load", _two, "{} of an anchor used up at worst; up to 1 an equilibrium is certain"
    ),
    "slowest_rate": _Meaning(
        "slowest rate", _two, "{} per unit of time, smallest eigenvalue of the Hessian's symmetric part"
    ),
    "frechet_star_wiener": _Meaning(
        "FD*, linear", _three, "{} by a Wiener denoiser from the same starts on the same levels (DDIM)"
    ),
    "frechet_star_wiener_implicit": _Meaning(
        "FD*, linear implicit", _three, "{} by the same denoiser in implicit Euler steps"
    ),
    "frechet_star_uncoupled": _Meaning(
        "FD*, uncoupled", _three, "{} by the same anchors with every coupling at 0, on the host"
    ),
    "state_noise": _Meaning("state noise", number, "{} standard deviation of a step's result over repeats"),
    "camera_exposure_us": _Meaning("camera", duration, "exposed for {}"),
    "camera_transient_share_p95": _Meaning(
        "camera, transient", share, "{} of the exposure is light from before the state was at rest (p95)"
    ),
    "camera_transient_p95_units": _Meaning(
        "camera, transient left", number, "{} network units of it are in the states (p95)"
    ),
    "camera_transient_allowed": _Meaning(
        "camera, transient bound", _whether, "it {} more than 0.5% of full scale in the states"
    ),
    "camera_saturated_samples": _Meaning("camera, saturated", number, "{} samples had a pixel at its limit"),
    "camera_state_noise_rms_units": _Meaning(
        "camera, noise", number, "{} network units rms in the states, predicted from the camera's figures"
    ),
    **{
        f"camera_{term}_noise_rms_units": _Meaning(
            f"camera, {term} noise", number, "{} network units rms before the gain, " + source
        )
        for term, source in _CAMERA_NOISE.items()
    },
}

# Metrics that are texts: label, sentence.
_TEXTS = {
    "credited_noise": ("noise credit", "{} is what the settles add to x, one by one, and the sampler counts"),
    "credited_levels": ("credited levels", "σ {}: before each step, and before the final denoise"),
}

_DETAILS = ("camera_transient_p95_units", *(f"camera_{term}_noise_rms_units" for term in _CAMERA_NOISE))

# What a column of a table is, where a sentence has no room.
LEGEND = {
    "converged_share": "converged: of all settles",
    "settle_p95_us": "p95: at the slowest step, 95% of samples are within 1% of full scale by then",
    "energy_distance": "E: energy distance to fresh data; 0 for the same distribution, below it by chance",
    "mode_total_variation": "mode error: share of the samples that would have to change mode",
    "class_agreement": "in class: pictures that a classifier puts into the class asked for",
    "frechet_star": "FD*: in our classifier's features; 0 as fresh real pictures, 1 as a Gaussian's",
    "FID": "FID: to the held-out test pictures, by the Inception file given; few samples raise it",
    "density": "density: how many times that of real pictures about a sample",
    "coverage": "coverage: real pictures that have a sample among their neighbours",
    "locked_share": "locked: samples that kept to the reference oscillator",
    "path_error": "path error: rms distance to where the net's own converged sampler ends, latent units",
    "device_time_per_sample_us": "µs/sample: modelled device time, from the rig's own timing",
}


def said(
    metrics: Mapping[str, Scalar],
    settings: Mapping[str, Scalar],
    header: RunHeader,
    *,
    brief: bool = False,
    forecast: Mapping[str, Scalar] | None = None,
) -> list[Said]:
    """Every metric that is there, in the order of the table; those that it does not know come last, bare.

    `forecast` is the panel's, and stands behind the quality that it is of. A time that no machine spent is
    left out, and where it shall be `brief`, a camera's noise term by term.
    """
    told = []
    for key, meaning in _MEANINGS.items():
        value = metrics.get(key)
        if not isinstance(value, int | float) or (key == "device_time_per_sample_us" and not value):
            continue
        if brief and key in _DETAILS:
            continue
        before, _, after = (meaning.sentence + _more(key, settings, header)).partition("{}")
        told.append(Said(meaning.label, before, meaning.write(float(value)), after))
        if key == "energy_distance" and forecast:
            told.append(_foreseen(forecast, float(value)))
    for key, (label, sentence) in _TEXTS.items():
        if key in metrics:
            before, _, after = sentence.partition("{}")
            told.append(Said(label, before, str(metrics[key]), after))
    bare = [(key, value) for key, value in metrics.items() if key not in _MEANINGS and key not in _TEXTS]
    return told + [Said(key.replace("_", " "), "", scalar(value), "") for key, value in bare]


def legend(keys: Iterable[str]) -> list[str]:
    """What the columns of these metrics mean, for those whose heading does not say it."""
    return [LEGEND[key] for key in keys if key in LEGEND]


def notes(panels: Iterable[PanelReader]) -> list[str]:
    """What panels say in words of the programs they ran, each once."""
    return list(dict.fromkeys(str(own["note"]) for panel in panels if (own := panel.settings).get("note")))


def _foreseen(forecast: Mapping[str, Scalar], measured: float) -> Said:
    """What was expected of it before the first step, beside what it came to."""
    words = str(forecast["words"])
    if "low" not in forecast:
        return Said("forecast", words, "", "")
    low, high = float(forecast["low"]), float(forecast["high"])
    came = "inside" if low <= measured <= high else "below" if measured < low else "above"
    return Said("forecast", words + "; it came out ", came, "")


def _more(key: str, settings: Mapping[str, Scalar], header: RunHeader) -> str:
    """What this run's own settings add to a sentence."""
    timing = header.timing
    if key == "settle_p95_us" and timing and timing.wait_us:
        return f"; the machine waits {timing.wait_us:g} µs"
    if key == "state_noise" and "sigma_min" in settings:
        return f"; the chain ends at σ = {settings['sigma_min']:g}"
    return ""
