"""A bench as dated data: one number, one source. Profiles are frozen before any study."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from labctl.physics import LoopNoise
from labctl_sim_devices.distributions import UnitDistribution
from labctl_sim_devices.profile_files import ProfileFolder


class OpticalProfile(BaseModel):
    """True parameters of one simulated bench; units are in the names, meanings in the TOML's sources.

    `unit` describes a population of benches of which one is drawn by seed; `truth` gives parameters of one
    bench explicitly (fields of `UnitTruth`), in place of draws; `terms` scales faults by name (1 where none
    is given, 0 = off).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_channels: int
    panel_kind: Literal["lcos-intensity", "lcos-phase", "dmd"]
    panel_shape_px: tuple[int, int]
    panel_levels: int
    panel_refresh_hz: float
    panel_settle_us: float
    panel_tau_us: float
    cell_px: tuple[int, int]
    path_origin_px: tuple[tuple[int, int], tuple[int, int]]
    panel_flip: Literal["none", "rows", "columns", "both"]
    first_order_period_px: int
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
    emitter_rated_channel_ma: float
    emitter_rated_total_ma: float
    emitter_mw_per_unit: float
    panel_area_cm2: float
    panel_rated_w_cm2: float
    precision: Literal["float32", "float64"]
    unit: UnitDistribution | None = None
    truth: dict[str, Any] = {}
    terms: dict[str, float] = {}

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


PROFILES = ProfileFolder("profiles", OpticalProfile, "adm")


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return PROFILES.names()


def profile_document(name: str | Path) -> dict[str, Any]:
    """The whole TOML of a shipped profile or of a profile file, sources included (`ProfileFolder`)."""
    return PROFILES.document(name)


def load_profile(name: str | Path, overrides: dict[str, Any] | None = None) -> OpticalProfile:
    """A shipped profile by name, or a profile file, with single values replaced (`ProfileFolder`)."""
    return PROFILES.load(name, overrides)
