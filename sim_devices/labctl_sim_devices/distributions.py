"""What a population of benches is like: one table a term, as a profile's [unit] section holds it.

"mean" and "sd" describe normals over channels (or regions); numbers with a unit in their name are that.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


class Term(BaseModel):
    """One fault's table."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Emission(Term):
    """Light of a drive u around the pedestal: slope (u + quadratic u^2 + cubic u^3), per sign path."""

    slope: tuple[float, float]
    quadratic: tuple[float, float]
    cubic: tuple[float, float]
    spread: NonNegativeFloat = Field(description="relative sd of each coefficient over channels")


class SelfHeating(Term):
    """Slow dip of an emitter's light with its own recent mean light."""

    depth_per_unit: NonNegativeFloat
    depth_spread: NonNegativeFloat
    time_us: PositiveFloat


class InputEfficiency(Term):
    """Efficiency of each input channel: a dome over the array, scatter, a part that differs by path."""

    sd: NonNegativeFloat
    scatter: NonNegativeFloat
    path_scatter: NonNegativeFloat
    dead_channels: NonNegativeInt


class PanelResponse(Term):
    """Retardance over level, pi r (g / top)^p, on a coarse grid of regions, interpolated between them."""

    regions: tuple[int, int]
    retardance_mean: float
    retardance_sd: NonNegativeFloat
    exponent_mean: float
    exponent_sd: NonNegativeFloat


class Contrast(Term):
    """Transmittance of the darkest level, by region."""

    regions: tuple[int, int]
    off_mean: NonNegativeFloat
    off_sd: NonNegativeFloat


class Flicker(Term):
    """Relative swing of the panel's light with the phase of its drive."""

    share: NonNegativeFloat
    period_us: PositiveFloat


class DeadPixels(Term):
    """Pixels that hold one level for ever."""

    share: NonNegativeFloat


class Asymmetry(Term):
    """Time constants of brightening and of darkening cells, relative to the panel's."""

    rise_ratio: PositiveFloat
    fall_ratio: PositiveFloat


class Registration(Term):
    """Where the optics have the cells on the panel: both fields shift together, and a little apart."""

    shift_sd_px: NonNegativeFloat
    path_shift_sd_px: NonNegativeFloat
    rotation_sd_mrad: NonNegativeFloat
    magnification_mean: PositiveFloat
    magnification_sd: NonNegativeFloat
    distortion_sd_px: NonNegativeFloat = Field(description="radial displacement at the corner of a field")


class RegistrationDrift(Term):
    """Movement of the fields with temperature."""

    shift_sd_px_per_c: NonNegativeFloat
    magnification_ppm_per_c: float


class PointSpread(Term):
    """Blur of the panel's image on the mask of cells."""

    sigma_px: NonNegativeFloat


class Illumination(Term):
    """Gaussian roll-off of the light over each field: 1 at its centre, exp(-roll_off) at a corner."""

    roll_off_mean: float
    roll_off_sd: NonNegativeFloat
    centre_sd: NonNegativeFloat = Field(description="in half-diagonals of the field")


class WeightResponse(Term):
    """Quadratic a T^2 + b T + c of each output channel, sign paths in order."""

    quadratic_mean: tuple[float, float]
    quadratic_sd: NonNegativeFloat
    linear_mean: tuple[float, float]
    linear_sd: NonNegativeFloat
    constant_mean: tuple[float, float]
    constant_sd: NonNegativeFloat


class ChannelNormal(Term):
    """A number over channels."""

    mean: float
    sd: NonNegativeFloat


class PathNormal(Term):
    """A number over channels, means by sign path."""

    mean: tuple[float, float]
    sd: NonNegativeFloat


class NeighbourCrosstalk(Term):
    """Shares of a detector's signal in its neighbours: growing towards one end of the array, each way."""

    floor: NonNegativeFloat
    peak_mean: NonNegativeFloat
    peak_sd: NonNegativeFloat
    length: PositiveFloat = Field(description="share of the array over which it falls to 1/e of the peak")


class Tia(Term):
    """Bandwidth of the transimpedance amplifiers: one pole, folded into the trip's delay."""

    bandwidth_mhz: float = Field(ge=2)


class Curve(Term):
    """The electronics' curve in network units, with relative spreads over channels."""

    a: float
    b_sd: NonNegativeFloat
    c: PositiveFloat
    d: float
    f0_sd: NonNegativeFloat
    g: float
    a_spread: NonNegativeFloat
    c_spread: NonNegativeFloat
    d_spread: NonNegativeFloat


class LoopOffset(Term):
    """Offset of the closed loop, and its part that grows with the gain."""

    mean: float
    sd: NonNegativeFloat
    per_gain_mean: float
    per_gain_sd: NonNegativeFloat


class LeakError(Term):
    """Effective leak: asked (1 + sd) + constant."""

    sd: NonNegativeFloat
    constant_mean: float
    constant_sd: NonNegativeFloat


class Drift(Term):
    """Random walks of each emitter's light (relative) and of each loop offset (network units)."""

    light_per_sqrt_hour: NonNegativeFloat
    offset_per_sqrt_hour: NonNegativeFloat


class Ageing(Term):
    """What changes over hours and does not come back: emitters fade (relative, each at its own rate), the
    image creeps over the panel, rows' gains wander (relative). Opt-in: of the shipped profiles "unit-ageing"
    alone has it.
    """

    fade_per_hour: NonNegativeFloat
    fade_spread: NonNegativeFloat
    creep_px_per_sqrt_hour: NonNegativeFloat
    gain_per_sqrt_hour: NonNegativeFloat


class WarmUp(Term):
    """Temperature over time: rise after switching on, swing of the room; light per degree."""

    rise_c: float
    time_us: PositiveFloat
    room_c: NonNegativeFloat
    room_period_us: PositiveFloat
    light_per_c: float


class Mains(Term):
    """Pickup on the state at the mains' frequency and its next two harmonics (network units, peak)."""

    frequency_hz: PositiveFloat
    amplitude_units: tuple[float, float, float]
    spread: NonNegativeFloat


class MirrorResets(Term):
    """A DMD's mirrors are reset together every period: the light dips. Settles may be gated in between."""

    dip: NonNegativeFloat = Field(le=1)
    period_us: PositiveFloat
    reset_us: PositiveFloat
    gated: bool


class Speckle(Term):
    """Of each cell's light in its spot on the camera: coherent, behind a diffuser."""

    contrast: NonNegativeFloat = Field(le=1)
    grain_px: PositiveFloat = Field(description="square root of the correlation area, camera pixels")


class Population(Term):
    """What differs from one device of a kind to the next; its terms may have one of the name `ageing`."""

    @model_serializer(mode="wrap")
    def _without_ageing(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """One that does not age is what it was before ageing was known, serial number included."""
        found: dict[str, Any] = plain(self)
        if found.get("ageing") is None:
            found.pop("ageing", None)
        return found


class UnitDistribution(Population):
    """Every term of a drawn bench. A term that is left out is absent."""

    emission: Emission | None = None
    self_heating: SelfHeating | None = None
    input_efficiency: InputEfficiency | None = None
    panel_response: PanelResponse | None = None
    contrast: Contrast | None = None
    flicker: Flicker | None = None
    dead_pixels: DeadPixels | None = None
    asymmetry: Asymmetry | None = None
    registration: Registration | None = None
    registration_drift: RegistrationDrift | None = None
    point_spread: PointSpread | None = None
    illumination: Illumination | None = None
    weight_response: WeightResponse | None = None
    output_correction: PathNormal | None = None
    beamsplitter: PathNormal | None = None
    neighbour_crosstalk: NeighbourCrosstalk | None = None
    compression: ChannelNormal | None = None
    tia: Tia | None = None
    curve: Curve | None = None
    input_clip: ChannelNormal | None = None
    loop_offset: LoopOffset | None = None
    loop_scale: ChannelNormal | None = None
    leak_error: LeakError | None = None
    tau_spread: ChannelNormal | None = None
    drift: Drift | None = None
    warm_up: WarmUp | None = None
    mains: Mains | None = None
    mirror_resets: MirrorResets | None = None
    speckle: Speckle | None = None
    ageing: Ageing | None = None

    @model_validator(mode="after")
    def _one_grid(self) -> Self:
        if self.panel_response is not None and self.contrast is not None:
            first, second = self.panel_response.regions, self.contrast.regions
            if first != second:
                raise ValueError(
                    f"regions are {first} for panel_response, {second} for contrast; allowed: alike"
                )
        return self
