"""One bench of a population: every true parameter, drawn by seed, term by term.

A term's draws come from a stream of its own name, so that leaving one out does not change another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from labctl_sim_devices.distributions import UnitDistribution
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.terms import Draw, Parameter, TermTruth, check_term_scales, with_explicit

FloatArray = NDArray[np.float64]
TERMS = (*UnitDistribution.model_fields, "crossing")


@dataclass(frozen=True, eq=False)
class UnitTruth(TermTruth):
    """True parameters of one bench; n channels, r regions, axis of 2 = sign path (or y, x for places).

    Units as named, network units otherwise; each parameter says which term it belongs to. What has no value
    without its term stands apart: the curve's six numbers of each channel [n, 6] (None: tanh), and
    `settings` such as time constants.
    """

    emission_slope: Annotated[FloatArray, Parameter("emission", "2n", 1.0)]
    emission_quadratic: Annotated[FloatArray, Parameter("emission", "2n", 0.0)]
    emission_cubic: Annotated[FloatArray, Parameter("emission", "2n", 0.0)]
    heating_depth: Annotated[FloatArray, Parameter("self_heating", "n", 0.0)]
    input_efficiency: Annotated[FloatArray, Parameter("input_efficiency", "2n", 1.0)]
    response_retardance: Annotated[FloatArray, Parameter("panel_response", "r", 1.0)]
    response_exponent: Annotated[FloatArray, Parameter("panel_response", "r", 1.0)]
    contrast_off: Annotated[FloatArray, Parameter("contrast", "r", 0.0)]
    flicker_share: Annotated[FloatArray, Parameter("flicker", "", 0.0)]
    dead_pixel_share: Annotated[FloatArray, Parameter("dead_pixels", "", 0.0)]
    rise_ratio: Annotated[FloatArray, Parameter("asymmetry", "", 1.0)]
    fall_ratio: Annotated[FloatArray, Parameter("asymmetry", "", 1.0)]
    shift_px: Annotated[FloatArray, Parameter("registration", "22", 0.0)]
    rotation_rad: Annotated[FloatArray, Parameter("registration", "2", 0.0)]
    magnification: Annotated[FloatArray, Parameter("registration", "2", 1.0)]
    distortion_px: Annotated[FloatArray, Parameter("registration", "2", 0.0)]
    shift_px_per_c: Annotated[FloatArray, Parameter("registration_drift", "2", 0.0)]
    magnification_per_c: Annotated[FloatArray, Parameter("registration_drift", "", 0.0)]
    point_spread_px: Annotated[FloatArray, Parameter("point_spread", "", 0.0)]
    illumination_roll_off: Annotated[FloatArray, Parameter("illumination", "2", 0.0)]
    illumination_centre: Annotated[FloatArray, Parameter("illumination", "22", 0.0)]
    weight_quadratic: Annotated[FloatArray, Parameter("weight_response", "2n", 0.0)]
    weight_linear: Annotated[FloatArray, Parameter("weight_response", "2n", 1.0)]
    weight_constant: Annotated[FloatArray, Parameter("weight_response", "2n", 0.0)]
    output_correction: Annotated[FloatArray, Parameter("output_correction", "2n", 1.0)]
    splitter: Annotated[FloatArray, Parameter("beamsplitter", "2n", 0.0)]
    neighbour: Annotated[FloatArray, Parameter("neighbour_crosstalk", "2n2", 0.0)]
    darkness: Annotated[FloatArray, Parameter("neighbour_crosstalk", "2n", 0.0)]
    compression: Annotated[FloatArray, Parameter("compression", "2n", 0.0)]
    crossing: Annotated[FloatArray, Parameter("crossing", "2n3", 0.0)]
    tia_delay_us: Annotated[FloatArray, Parameter("tia", "", 0.0)]
    curve_share: Annotated[FloatArray, Parameter("curve", "", 0.0)]
    clip_lost: Annotated[FloatArray, Parameter("input_clip", "n", 0.0)]
    loop_offset: Annotated[FloatArray, Parameter("loop_offset", "n", 0.0)]
    loop_offset_per_gain: Annotated[FloatArray, Parameter("loop_offset", "n", 0.0)]
    loop_scale: Annotated[FloatArray, Parameter("loop_scale", "n", 1.0)]
    leak_scale: Annotated[FloatArray, Parameter("leak_error", "n", 1.0)]
    leak_offset: Annotated[FloatArray, Parameter("leak_error", "n", 0.0)]
    tau_ratio: Annotated[FloatArray, Parameter("tau_spread", "n", 1.0)]
    light_walk: Annotated[FloatArray, Parameter("drift", "", 0.0)]
    offset_walk: Annotated[FloatArray, Parameter("drift", "", 0.0)]
    warm_up_c: Annotated[FloatArray, Parameter("warm_up", "", 0.0)]
    room_c: Annotated[FloatArray, Parameter("warm_up", "", 0.0)]
    light_per_c: Annotated[FloatArray, Parameter("warm_up", "", 0.0)]
    mains: Annotated[FloatArray, Parameter("mains", "n3", 0.0)]
    mirror_dip: Annotated[FloatArray, Parameter("mirror_resets", "", 0.0)]
    speckle_contrast: Annotated[FloatArray, Parameter("speckle", "", 0.0)]
    fade_per_hour: Annotated[FloatArray, Parameter("ageing", "n", 0.0)]
    creep_px: Annotated[FloatArray, Parameter("ageing", "", 0.0)]
    gain_walk: Annotated[FloatArray, Parameter("ageing", "", 0.0)]
    curve: FloatArray | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def scaled(self, scales: Mapping[str, float]) -> UnitTruth:
        """Each term's departure from its absence times its scale (1 where none is given, 0 = off).

        Raises ConfigError for a name that is no term, or a scale outside 0 .. 4.
        """
        check_scales(scales)
        return self.with_terms(scales)


PARAMETERS = UnitTruth.parameters()


def check_scales(scales: Mapping[str, float]) -> None:
    """Raise ConfigError for a name that is no term, or a scale outside 0 .. 4."""
    check_term_scales(scales, TERMS)


def _shape(code: str, n: int, regions: tuple[int, int]) -> tuple[int, ...]:
    if code == "r":
        return regions
    return tuple(n if c == "n" else int(c) for c in code)


def absent_unit(n: int) -> UnitTruth:
    """A bench without any fault."""
    values: dict[str, Any] = {
        name: np.full(_shape(p.shape, n, (1, 1)), p.absent) for name, p in PARAMETERS.items()
    }
    return UnitTruth(**values)


class _Draw(Draw):
    """Draws of one bench."""

    def __init__(self, profile: OpticalProfile, seed: int) -> None:
        super().__init__(seed)
        self.profile, self.n = profile, profile.n_channels


def draw_unit(profile: OpticalProfile, seed: int) -> UnitTruth:
    """The bench number `seed` of the profile's population; explicit arrays of [truth] stand instead of draws.

    Raises ConfigError naming the field for an array of a wrong name or shape.
    """
    n = profile.n_channels
    unit = absent_unit(n)
    population = profile.unit or UnitDistribution()
    draw = _Draw(profile, seed)
    for name, rule in _RULES.items():
        table = getattr(population, name)
        if table is not None:
            values = rule(table, draw)
            settings = {**unit.settings, **values.pop("settings", {})}
            unit = replace(unit, settings=settings, **values)
    shapes = {name: _shape(p.shape, n, (-1, -1)) for name, p in PARAMETERS.items()}
    return with_explicit(unit, profile.truth, {**shapes, "curve": (n, 6)})


def _emission(t: Any, draw: _Draw) -> dict[str, Any]:
    own = draw.normal("emission", 3, 2, draw.n) * t.spread
    slope, quadratic, cubic = (np.asarray(v)[:, None] for v in (t.slope, t.quadratic, t.cubic))
    total = slope * (1 + own[0])
    return {
        "emission_slope": total,
        "emission_quadratic": total * quadratic * (1 + own[1]),
        "emission_cubic": total * cubic * (1 + own[2]),
    }


def _self_heating(t: Any, draw: _Draw) -> dict[str, Any]:
    depth = t.depth_per_unit * (1 + t.depth_spread * draw.normal("self_heating", draw.n))
    return {"heating_depth": np.maximum(depth, 0.0), "settings": {"heating_us": t.time_us}}


def _input_efficiency(t: Any, draw: _Draw) -> dict[str, Any]:
    n = draw.n
    place = np.linspace(-1, 1, n)
    tilt = 0.2 * draw.normal("input_efficiency", 1)
    dome = 1 - (place - tilt) ** 2
    dome = dome - dome.mean()
    smooth = np.sqrt(max(t.sd**2 - t.scatter**2, 0.0)) * dome / dome.std()
    both = 1 + smooth + t.scatter * draw.normal("input_efficiency", n, part=1)
    each = both * (1 + t.path_scatter * draw.normal("input_efficiency", 2, n, part=2))
    each = np.maximum(each, 0.0)
    order = np.argsort(draw.normal("input_efficiency", n, part=3), kind="stable")
    each[:, order[: t.dead_channels]] = 0.0
    return {"input_efficiency": each}


def _panel_response(t: Any, draw: _Draw) -> dict[str, Any]:
    return {
        "response_retardance": t.retardance_mean
        + t.retardance_sd * draw.normal("panel_response", *t.regions),
        "response_exponent": t.exponent_mean
        + t.exponent_sd * draw.normal("panel_response", *t.regions, part=1),
    }


def _contrast(t: Any, draw: _Draw) -> dict[str, Any]:
    drawn = draw.normal("contrast", *t.regions)
    return {"contrast_off": np.maximum(t.off_mean + t.off_sd * drawn, 0.0)}


def _flicker(t: Any, draw: _Draw) -> dict[str, Any]:
    return {"flicker_share": np.asarray(t.share), "settings": {"flicker_us": t.period_us}}


def _dead_pixels(t: Any, draw: _Draw) -> dict[str, Any]:
    return {"dead_pixel_share": np.asarray(t.share)}


def _asymmetry(t: Any, draw: _Draw) -> dict[str, Any]:
    return {"rise_ratio": np.asarray(t.rise_ratio), "fall_ratio": np.asarray(t.fall_ratio)}


def _registration(t: Any, draw: _Draw) -> dict[str, Any]:
    shared = t.shift_sd_px * draw.normal("registration", 2)
    apart = t.path_shift_sd_px * draw.normal("registration", 2, 2, part=1)
    turn, zoom, bend = draw.normal("registration", 3, part=2)
    return {
        "shift_px": shared + apart,
        "rotation_rad": np.full(2, 1e-3 * t.rotation_sd_mrad * turn),
        "magnification": np.full(2, t.magnification_mean + t.magnification_sd * zoom),
        "distortion_px": np.full(2, t.distortion_sd_px * bend),
    }


def _registration_drift(t: Any, draw: _Draw) -> dict[str, Any]:
    return {
        "shift_px_per_c": t.shift_sd_px_per_c * draw.normal("registration_drift", 2),
        "magnification_per_c": np.asarray(1e-6 * t.magnification_ppm_per_c),
    }


def _point_spread(t: Any, draw: _Draw) -> dict[str, Any]:
    return {"point_spread_px": np.asarray(t.sigma_px)}


def _illumination(t: Any, draw: _Draw) -> dict[str, Any]:
    roll_off = t.roll_off_mean + t.roll_off_sd * draw.normal("illumination", 2)
    return {
        "illumination_roll_off": np.maximum(roll_off, 0.0),
        "illumination_centre": t.centre_sd * draw.normal("illumination", 2, 2, part=1),
    }


def _weight_response(t: Any, draw: _Draw) -> dict[str, Any]:
    n = draw.n
    own = draw.normal("weight_response", 3, n)
    means = [np.asarray(m)[:, None] for m in (t.quadratic_mean, t.linear_mean, t.constant_mean)]
    return {
        "weight_quadratic": means[0] + t.quadratic_sd * own[0],
        "weight_linear": means[1] + t.linear_sd * own[1],
        "weight_constant": np.maximum(means[2] + t.constant_sd * own[2], 0.0),
    }


def _by_path(name: str, key: str) -> Callable[[Any, _Draw], dict[str, Any]]:
    def rule(t: Any, draw: _Draw) -> dict[str, Any]:
        mean = np.asarray(t.mean)[:, None]
        return {key: np.maximum(mean + t.sd * draw.normal(name, 2, draw.n), 0.0)}

    return rule


def _by_channel(name: str, key: str, low: float | None = None) -> Callable[[Any, _Draw], dict[str, Any]]:
    def rule(t: Any, draw: _Draw) -> dict[str, Any]:
        values = t.mean + t.sd * draw.normal(name, draw.n)
        return {key: values if low is None else np.maximum(values, low)}

    return rule


def _neighbour_crosstalk(t: Any, draw: _Draw) -> dict[str, Any]:
    n = draw.n
    peaks = np.abs(t.peak_mean + t.peak_sd * draw.normal("neighbour_crosstalk", 2, 2))
    roughness = 1 + 0.1 * draw.normal("neighbour_crosstalk", 2, n, 2, part=1)
    place = np.arange(n) / n
    fall = np.stack([np.exp(-place / t.length), np.exp((place - 1) / t.length)], axis=1)
    share = np.maximum((t.floor + peaks[:, None, :] * fall) * roughness, 0.0)
    share[:, 0, 0] = share[:, -1, 1] = 0.0  # no detector there
    return {"neighbour": share}


def _compression(t: Any, draw: _Draw) -> dict[str, Any]:
    return {"compression": np.maximum(t.mean + t.sd * draw.normal("compression", 2, draw.n), 0.0)}


def _tia(t: Any, draw: _Draw) -> dict[str, Any]:
    return {"tia_delay_us": np.asarray(1.0 / (2 * np.pi * t.bandwidth_mhz))}


def _curve(t: Any, draw: _Draw) -> dict[str, Any]:
    own = draw.normal("curve", 5, draw.n)
    rows = [
        t.a * (1 + t.a_spread * own[0]),
        t.b_sd * own[1],
        np.maximum(t.c * (1 + t.c_spread * own[2]), 1.0),
        t.d * (1 + t.d_spread * own[3]),
        t.f0_sd * own[4],
        np.full(draw.n, t.g),
    ]
    return {"curve": np.stack(rows, axis=1), "curve_share": np.asarray(1.0)}


def _loop_offset(t: Any, draw: _Draw) -> dict[str, Any]:
    own = draw.normal("loop_offset", 2, draw.n)
    return {
        "loop_offset": t.mean + t.sd * own[0],
        "loop_offset_per_gain": t.per_gain_mean + t.per_gain_sd * own[1],
    }


def _leak_error(t: Any, draw: _Draw) -> dict[str, Any]:
    own = draw.normal("leak_error", 2, draw.n)
    return {
        "leak_scale": 1 + t.sd * own[0],
        "leak_offset": np.maximum(t.constant_mean + t.constant_sd * own[1], 0.0),
    }


def _drift(t: Any, draw: _Draw) -> dict[str, Any]:
    return {
        "light_walk": np.asarray(t.light_per_sqrt_hour),
        "offset_walk": np.asarray(t.offset_per_sqrt_hour),
    }


def _warm_up(t: Any, draw: _Draw) -> dict[str, Any]:
    return {
        "warm_up_c": np.asarray(t.rise_c),
        "room_c": np.asarray(t.room_c),
        "light_per_c": np.asarray(t.light_per_c),
        "settings": {"warm_up_us": t.time_us, "room_us": t.room_period_us},
    }


def _mains(t: Any, draw: _Draw) -> dict[str, Any]:
    share = 1 + t.spread * draw.normal("mains", draw.n, 3)
    return {"mains": share * np.asarray(t.amplitude_units), "settings": {"mains_hz": t.frequency_hz}}


def _mirror_resets(t: Any, draw: _Draw) -> dict[str, Any]:
    settings = {"reset_us": t.reset_us, "reset_period_us": t.period_us, "reset_gated": t.gated}
    return {"mirror_dip": np.asarray(t.dip), "settings": settings}


def _speckle(t: Any, draw: _Draw) -> dict[str, Any]:
    return {"speckle_contrast": np.asarray(t.contrast), "settings": {"speckle_grain_px": t.grain_px}}


def _ageing(t: Any, draw: _Draw) -> dict[str, Any]:
    own = 1 + t.fade_spread * draw.normal("ageing", draw.n)
    return {
        "fade_per_hour": np.maximum(t.fade_per_hour * own, 0.0),
        "creep_px": np.asarray(t.creep_px_per_sqrt_hour),
        "gain_walk": np.asarray(t.gain_per_sqrt_hour),
    }


_RULES: dict[str, Callable[[Any, _Draw], dict[str, Any]]] = {
    "emission": _emission,
    "self_heating": _self_heating,
    "input_efficiency": _input_efficiency,
    "panel_response": _panel_response,
    "contrast": _contrast,
    "flicker": _flicker,
    "dead_pixels": _dead_pixels,
    "asymmetry": _asymmetry,
    "registration": _registration,
    "registration_drift": _registration_drift,
    "point_spread": _point_spread,
    "illumination": _illumination,
    "weight_response": _weight_response,
    "output_correction": _by_path("output_correction", "output_correction"),
    "beamsplitter": _by_path("beamsplitter", "splitter"),
    "neighbour_crosstalk": _neighbour_crosstalk,
    "compression": _compression,
    "tia": _tia,
    "curve": _curve,
    "input_clip": _by_channel("input_clip", "clip_lost", 0.0),
    "loop_offset": _loop_offset,
    "loop_scale": _by_channel("loop_scale", "loop_scale", 0.0),
    "leak_error": _leak_error,
    "tau_spread": _by_channel("tau_spread", "tau_ratio", 0.2),
    "drift": _drift,
    "warm_up": _warm_up,
    "mains": _mains,
    "mirror_resets": _mirror_resets,
    "speckle": _speckle,
    "ageing": _ageing,
}
