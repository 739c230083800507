"""A bench as dated data: one number, one source. Profiles are frozen before any study."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from labctl.devices import ConfigError
from labctl.physics import LoopNoise


class OpticalProfile(BaseModel):
    """True parameters of one simulated bench; units are in the names, meanings in the TOML's sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_channels: int
    panel_shape_px: tuple[int, int]
    panel_levels: int
    panel_refresh_hz: float
    panel_settle_us: float
    panel_tau_us: float
    cell_px: tuple[int, int]
    path_origin_px: tuple[tuple[int, int], tuple[int, int]]
    transmittance_on: float
    transmittance_off: float
    pedestal_units: float
    emitter_ma_per_unit: float
    emitter_max_channel_ma: float
    emitter_max_total_ma: float
    emitter_codes: int
    photocurrent_ua: float
    shot_noise: bool
    rin_dbc_hz: float | Literal["off"]
    detector_pa_rthz: float
    loop_noise_percent: float
    tau_us: float
    trip_us: float
    wait_us: float
    sample_rate_mhz: float
    window_samples: int
    dac_bits: int
    adc_bits: int
    probe_dac_bits: int
    offset_dac_bits: int
    leak_bits: int
    gain_bits: int
    full_scale_units: float
    state_gain_range: tuple[float, float]
    hidden_gain_range: tuple[float, float]
    photocurrent_range_units: float
    volts_per_unit: float
    max_queue: int
    max_hold_us: float
    detector_quantum_efficiency_percent: float
    camera_shape_px: tuple[int, int]
    camera_spot_pitch_px: int
    camera_spot_width_px: float
    camera_blur_px: float
    camera_misplaced_px: float
    camera_bits: int
    camera_shutter: Literal["global", "rolling"]
    camera_light_percent: float
    camera_quantum_efficiency_percent: float
    camera_full_well_e: float
    camera_shot_noise: bool
    camera_read_noise_e: float
    camera_dark_e_per_s: float
    camera_prnu_percent: float
    camera_dsnu_e: float
    camera_hot_percent: float
    camera_hot_e_per_s: float
    camera_black_level_codes: int
    camera_exposure_range_us: tuple[float, float]
    camera_gain_range_db: tuple[float, float]
    camera_delay_us: float
    camera_jitter_us: float
    camera_line_us: float
    camera_overhead_lines: int
    camera_max_frames: int
    camera_link_latency_us: float
    camera_link_mbyte_per_s: float
    chain_depth: int
    chain_fraction_bits: int
    chain_coefficient_bits: int
    link_latency_us: float
    link_mbyte_per_s: float
    temperature_c: float
    precision: Literal["float32", "float64"]

    @property
    def noise(self) -> LoopNoise:
        """The noise terms as the physics takes them."""
        return LoopNoise(
            photocurrent_ua=self.photocurrent_ua,
            rin_dbc_hz=None if self.rin_dbc_hz == "off" else self.rin_dbc_hz,
            detector_pa_rthz=self.detector_pa_rthz,
            shot=self.shot_noise,
            loop_units=self.loop_noise_percent / 100 * self.full_scale_units,
        )


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    folder = resources.files(__package__) / "profiles"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def profile_document(name: str) -> dict[str, Any]:
    """The whole TOML of a shipped profile, sources included."""
    names = profile_names()
    if name not in names:
        raise ConfigError(f"profile {name!r} is not known; allowed: {', '.join(names)}")
    text = (resources.files(__package__) / "profiles" / f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def load_profile(name: str, overrides: dict[str, Any] | None = None) -> OpticalProfile:
    """A shipped profile, with single values replaced. Raises ConfigError naming the field and the value."""
    values = {**profile_document(name)["values"], **(overrides or {})}
    try:
        return OpticalProfile(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"profile {name}: {field} = {first['input']!r}: {first['msg']}") from None
