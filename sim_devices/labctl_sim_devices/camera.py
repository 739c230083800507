"""Twin of the camera: the light of the 2n spots over the exposure, pixels, electrons, counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from labctl.devices import (
    Camera,
    CameraSettings,
    CameraSpec,
    DeviceUnavailable,
    Frames,
    Identity,
    LinkSpec,
    Scalar,
)
from labctl.physics import Stream
from labctl.physics.noise import ELEMENTARY_CHARGE_C
from labctl_sim_devices.bench import OpticalBench
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.shutter import Triggers
from labctl_sim_devices.speckle import speckle_patterns

FloatArray = NDArray[np.floating]
Float32 = NDArray[np.float32]
RENDERED = 64  # frames made into pixels together


@dataclass(frozen=True, eq=False)
class _Taken:
    """Exposures waiting to be read: spot light times time [B, 2 n] (unit us), and what labels them; in
    coherent light emitted light times time [B, n] and the cells' transmittances [2, n, n] that it met.
    """

    spots_us: FloatArray
    coherent: tuple[FloatArray, FloatArray] | None
    triggers: Triggers
    begin_us: FloatArray


class CameraTwin(Camera):
    """Images the positive and the negative path of every output, side by side in two rows of spots.

    A spot's light is the row's light before subtraction and electronics: sum over inputs of transmittance
    times emitted light. It keeps arriving as long as the shutter is open, settled or not.
    """

    def __init__(self, name: str, bench: OpticalBench) -> None:
        super().__init__(name)
        self._bench = bench
        self._sensor = _Sensor(bench.profile, bench.unit_seed, name)
        self._settings = self._defaults()
        self._expected = 0
        self._taken: list[_Taken] = []
        self._ids: list[NDArray[np.int64]] = []
        self._missed, self._seen = 0, 0
        self._ready_us = -math.inf
        self._free_frames = 0
        self._last: NDArray[np.uint16] | None = None
        self._last_us = 0.0

    @property
    def spec(self) -> CameraSpec:
        """As the twin's data sheet says."""
        p = self._bench.profile
        return CameraSpec(
            shape_px=p.camera_shape_px,
            bit_depth=p.camera_bits,
            shutter=p.camera_shutter,
            exposure_range_us=p.camera_exposure_range_us,
            gain_range_db=p.camera_gain_range_db,
            full_well_e=p.camera_full_well_e,
            quantum_efficiency=p.camera_quantum_efficiency_percent / 100,
            read_noise_e=p.camera_read_noise_e,
            dark_e_per_s=p.camera_dark_e_per_s,
            prnu=p.camera_prnu_percent / 100,
            delay_us=p.camera_delay_us,
            jitter_us=p.camera_jitter_us,
            line_us=p.camera_line_us,
            overhead_rows=p.camera_overhead_lines,
            max_frames=p.camera_max_frames,
            link=LinkSpec(p.camera_link_latency_us, p.camera_link_mbyte_per_s),
        )

    def open_us(self, triggers: Triggers) -> tuple[FloatArray, FloatArray]:
        """Begin and end of each exposure after its trigger."""
        words = Stream(self._bench.seed, self.name, f"{triggers.source} jitter").words(
            triggers.sample, 1, step=triggers.step
        )
        settings, spec = self._settings, self.spec
        begin = settings.trigger_delay_us + spec.delay_us + spec.jitter_us * words[:, 0] / 2.0**32
        return begin, begin + settings.exposure_us

    def expose(self, triggers: Triggers, emitted_us: FloatArray) -> None:
        """Keep what the triggers' exposures gathered; triggers during an exposure or a read-out are lost."""
        period_us = self.spec.period_us(self._settings.exposure_us, self._settings.height_px)
        kept = self._heard(triggers.time_us, period_us)
        room = self._expected - sum(len(t.begin_us) for t in self._taken) - self._missed
        kept[max(room, 0) :] = False
        self._missed += int(np.count_nonzero(~kept[: max(room, 0)]))
        begin, end = (triggers.time_us + part for part in self.open_us(triggers))
        spots = self._bench.spots(emitted_us[kept], begin[kept], end[kept])
        heard = Triggers(triggers.time_us[kept], triggers.source, triggers.sample[kept], triggers.step)
        coherent = None
        if self._bench.unit.has("speckle"):
            coherent = emitted_us[kept], self._bench.transmittances()
        self._taken.append(_Taken(spots, coherent, heard, begin[kept]))
        self._ids.append(self._seen + np.flatnonzero(kept))
        self._seen += len(kept)

    def _heard(self, time_us: FloatArray, period_us: float) -> NDArray[np.bool_]:
        """Which triggers find the camera ready; pulses of a queue are evenly spaced."""
        kept = np.zeros(len(time_us), np.bool_)
        first = int(np.searchsorted(time_us, self._ready_us - 1e-9))
        spacing = float(time_us[1] - time_us[0]) if len(time_us) > 1 else math.inf
        every = max(1, math.ceil(period_us / spacing - 1e-6))
        kept[first::every] = True
        if kept.any():
            self._ready_us = float(time_us[np.flatnonzero(kept)[-1]]) + period_us * (1 - 1e-6)
        return kept

    def _defaults(self) -> CameraSettings:
        p = self._bench.profile
        height, width = p.camera_shape_px
        return CameraSettings(
            width, height, 0, 0, f"Mono{p.camera_bits}", p.camera_exposure_range_us[0], 0.0,
            p.camera_black_level_codes, "Off", "Line0", 0.0,
        )  # fmt: skip

    def _do_open(self) -> Identity:
        self._require_bench("open")
        self._settings = self._defaults()
        self._free_frames = 0
        serial = f"SIM-CAM-{self._bench.serial}"
        return Identity("labctl", "simulated camera", serial, "1", simulated=True)

    def _do_close(self) -> None:
        self._disarm()

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        self._require_bench("snapshot")
        s = self._settings
        return {
            "exposure_us": float(s.exposure_us),
            "gain_db": float(s.gain_db),
            "black_level_codes": s.black_level_codes,
            "width_px": s.width_px,
            "height_px": s.height_px,
            "temperature_c": self._do_temperature_c(),
        }

    def _do_temperature_c(self) -> float:
        self._require_bench("temperature_c")
        return self._bench.temperature_c()

    def _do_settings(self, operation: str) -> CameraSettings:
        self._require_bench(operation)
        return self._settings

    def _do_configure(self, settings: CameraSettings) -> None:
        self._require_bench("configure")
        self._disarm()
        self._settings = settings

    def _do_arm(self, n: int) -> None:
        self._require_bench("arm")
        self._disarm()
        self._expected = n
        self._bench.shutter = self

    def _disarm(self) -> None:
        if self._bench.shutter is self:
            self._bench.shutter = None
        self._taken, self._missed, self._expected = [], 0, 0
        self._ids, self._seen = [], 0

    def _do_triggers_seen(self) -> int:
        self._require_bench("triggers_seen")
        return self._seen

    def _do_acquire(self, n: int) -> Frames:
        self._require_bench("acquire")
        bench, s = self._bench, self._settings
        if s.trigger_mode == "Off":
            self._run_free(n)
        taken, missed = self._taken, self._missed
        ids = np.concatenate([np.empty(0, np.int64), *self._ids])
        self._disarm()
        counts = [self._render(t, slice(i, i + RENDERED)) for t in taken for i in _starts(len(t.begin_us))]
        empty = np.empty((0, s.height_px, s.width_px), np.uint16)
        frames = np.concatenate([empty, *counts])
        trigger_us = np.concatenate([np.empty(0), *(t.triggers.time_us for t in taken)])
        begin_us = np.concatenate([np.empty(0), *(t.begin_us for t in taken)])
        faults, bench.camera_faults = bench.camera_faults, {}
        for place in np.flatnonzero(np.isin(ids, [i for i, what in faults.items() if what == "stale"])):
            before = frames[place - 1] if place else self._last
            frames[place] = s.black_level_codes if before is None else before
            begin_us[place] = begin_us[place - 1] if place else self._last_us
        keep = ~np.isin(ids, [i for i, what in faults.items() if what == "dropped"])
        missed += int(np.count_nonzero(~keep))
        frames, ids = frames[keep], ids[keep]
        if len(frames):
            self._last, self._last_us = frames[-1].copy(), float(begin_us[keep][-1])
        return Frames(
            counts=frames,
            frame_id=ids,
            trigger_us=trigger_us[keep],
            timestamp_us=begin_us[keep],
            saturated_px=np.count_nonzero(frames >= self.spec.max_code, axis=(1, 2)).astype(np.int64),
            dropped=missed,
            exposure_us=float(s.exposure_us),
            gain_db=float(s.gain_db),
            black_level_codes=s.black_level_codes,
        )

    def _run_free(self, n: int) -> None:
        """Frames of what the emitters give now, as fast as they can be read."""
        bench, s = self._bench, self._settings
        period_us = self.spec.period_us(s.exposure_us, s.height_px)
        triggers = Triggers(
            bench.now_us + period_us * np.arange(n), "free", self._free_frames + np.arange(n), 0
        )
        self._free_frames += n
        self._expected, self._ready_us = n, -math.inf
        self.expose(triggers, np.repeat(bench.light_of(bench.emitted_units[-1:]) * s.exposure_us, n, axis=0))
        bench.advance(period_us * n)

    def _render(self, taken: _Taken, part: slice) -> NDArray[np.uint16]:
        """Exposures to counts [b, height, width]."""
        bench, s, spec = self._bench, self._settings, self.spec
        p, noise = bench.profile, bench.noise_scale
        plane = self._sensor.part(s)
        if taken.coherent is None:
            electrons = self._sensor.e_per_unit_us * taken.spots_us[part].astype(np.float32)
            seen = np.matmul(plane.rows[None] * electrons[:, None, :], plane.columns)
        else:
            emitted_us, cells = taken.coherent
            unit = bench.unit
            lit = self._sensor.e_per_unit_us * (emitted_us[part] * bench.emitters()).astype(np.float32)
            contrast, grain_px = float(unit.speckle_contrast), float(unit.settings["speckle_grain_px"])
            seen = self._sensor.speckled(lit, cells, s, contrast, grain_px)
        if bench.flat_photons_per_us:
            flat_e = bench.flat_photons_per_us * s.exposure_us * p.camera_quantum_efficiency_percent / 100
            seen += np.float32(flat_e)
        seen *= plane.response
        seen += plane.dark_e_per_s * np.float32(s.exposure_us * 1e-6)
        shot = 1.0 if p.camera_shot_noise else 0.0
        if noise > 0 and (shot or p.camera_read_noise_e):
            draws = Stream(bench.seed, self.name, f"{taken.triggers.source} pixels").normal(
                taken.triggers.sample[part], s.height_px * s.width_px, step=taken.triggers.step,
                dtype=torch.float32,
            )  # fmt: skip
            deviation = np.sqrt(np.float32(shot) * seen + np.float32(p.camera_read_noise_e**2))
            seen += np.float32(noise) * deviation * draws.numpy().reshape(seen.shape)
        np.minimum(seen, np.float32(p.camera_full_well_e), out=seen)
        seen += plane.offset_e
        seen /= np.float32(spec.e_per_code(s.gain_db, s.black_level_codes))
        seen += s.black_level_codes
        return np.asarray(np.clip(np.rint(seen), 0, spec.max_code), dtype=np.uint16)

    def _require_bench(self, operation: str) -> None:
        if not self._bench.present:
            raise DeviceUnavailable("the bench has disappeared", device=self.name, operation=operation)


@dataclass(frozen=True, eq=False)
class _Plane:
    """The part of the sensor that is read: rows [height, 2 n] and columns [2 n, width] of the spots, and
    every pixel's response, dark current and offset [height, width].
    """

    rows: Float32
    columns: Float32
    response: Float32
    dark_e_per_s: Float32
    offset_e: Float32


class _Sensor:
    """Where the spots fall and what each pixel is like: fixed by the bench's seed."""

    def __init__(self, profile: OpticalProfile, seed: int, name: str) -> None:
        p = self._profile = profile
        self._seed, self._name = seed, name
        height, width = p.camera_shape_px
        n, pitch = p.n_channels, p.camera_spot_pitch_px
        left, top = (width - n * pitch) // 2, (height - 2 * pitch) // 2
        channel, path = np.tile(np.arange(n), 2), np.repeat(np.arange(2), n)
        off = self._normal("spots", np.arange(2), 2 * n) * p.camera_misplaced_px
        self._x = left + (channel + 0.5) * pitch + off[0]
        self._y = top + (path + 0.5) * pitch + off[1]
        charges_per_us = p.photocurrent_ua * 1e-12 / ELEMENTARY_CHARGE_C
        photons_per_us = charges_per_us / (p.detector_quantum_efficiency_percent / 100)
        share = p.camera_light_percent * p.camera_quantum_efficiency_percent * 1e-4
        self.e_per_unit_us = np.float32(photons_per_us * share)
        self._patterns: tuple[tuple[float, float], Float32] | None = None
        self._known: tuple[tuple[int, int, int, int], _Plane] | None = None

    def part(self, s: CameraSettings) -> _Plane:
        """The pixels that the settings read."""
        where = (s.offset_y_px, s.height_px, s.offset_x_px, s.width_px)
        if self._known is None or self._known[0] != where:
            self._known = (where, self._make(*where))
        return self._known[1]

    def speckled(
        self, lit: Float32, cells: FloatArray, s: CameraSettings, contrast: float, grain_px: float
    ) -> Float32:
        """Electrons [B, height, width] of emitters' light [B, n] through cells [2, n, n]: each cell's share
        of its spot has a speckle pattern of its own, and shares of different emitters add in intensity.
        """
        p = self._profile
        n, pitch = p.n_channels, p.camera_spot_pitch_px
        if self._patterns is None or self._patterns[0] != (contrast, grain_px):
            stream = Stream(self._seed, self._name, "speckle")
            made = speckle_patterns(stream, 2 * n * n, pitch, grain_px, contrast)
            made = made.reshape(2, n, n, pitch, pitch) * self._squares()[:, :, None]
            self._patterns = ((contrast, grain_px), made)
        shares = self._patterns[1] * cells.astype(np.float32)[..., None, None]
        field = np.tensordot(lit, shares, axes=(1, 2))  # [B, 2, n, pitch, pitch]
        square = field.transpose(0, 1, 3, 2, 4).reshape(len(lit), 2 * pitch, n * pitch)
        height, width = p.camera_shape_px
        whole = np.zeros((len(lit), s.height_px, s.width_px), np.float32)
        top, left = (height - 2 * pitch) // 2 - s.offset_y_px, (width - n * pitch) // 2 - s.offset_x_px
        rows, columns = slice(max(top, 0), top + 2 * pitch), slice(max(left, 0), left + n * pitch)
        part = whole[:, rows, columns]
        part += square[:, max(-top, 0) :, max(-left, 0) :][:, : part.shape[1], : part.shape[2]]
        return whole

    def _squares(self) -> Float32:
        """Profiles of the spots in their squares [2, n, pitch, pitch], before any speckle."""
        p = self._profile
        n, pitch = p.n_channels, p.camera_spot_pitch_px
        height, width = p.camera_shape_px
        rows = (height - 2 * pitch) // 2 + np.arange(2 * pitch)
        columns = (width - n * pitch) // 2 + np.arange(n * pitch)
        y = self._profile_of(self._y, rows).reshape(2, n, 2, pitch)
        x = self._profile_of(self._x, columns).reshape(2, n, n, pitch)
        own_y = y[np.arange(2)[:, None], np.arange(n), np.arange(2)[:, None]]
        own_x = x[:, np.arange(n), np.arange(n)]
        return np.asarray(own_y[..., :, None] * own_x[..., None, :], dtype=np.float32)

    def _make(self, top: int, height: int, left: int, width: int) -> _Plane:
        p = self._profile
        rows, full = top + np.arange(height), p.camera_shape_px[1]
        columns = slice(left, left + width)
        # hot pixels: a normal beyond the quantile of their share
        hot = ndtr(-self._normal("hot", rows, full)[:, columns]) < p.camera_hot_percent / 100
        return _Plane(
            rows=self._profile_of(self._y, rows).T.astype(np.float32).copy(),
            columns=self._profile_of(self._x, left + np.arange(width)).astype(np.float32),
            response=(1 + p.camera_prnu_percent / 100 * self._normal("prnu", rows, full)[:, columns]).astype(
                np.float32
            ),
            dark_e_per_s=np.where(hot, p.camera_hot_e_per_s, p.camera_dark_e_per_s).astype(np.float32),
            offset_e=(p.camera_dsnu_e * self._normal("dsnu", rows, full)[:, columns]).astype(np.float32),
        )

    def _profile_of(self, centre: FloatArray, pixel: NDArray[np.int64]) -> FloatArray:
        """Share of each spot's light [2 n, pixels] along one axis: a box, blurred by a normal."""
        width, blur = self._profile.camera_spot_width_px, self._profile.camera_blur_px

        def reached(edge: FloatArray) -> FloatArray:  # integral of the normal's distribution function
            u = (edge[None, :] - centre[:, None]) / blur
            low, high = u + width / (2 * blur), u - width / (2 * blur)
            return np.asarray(blur / width * (_ramp(low) - _ramp(high)))

        return reached(pixel + 1.0) - reached(pixel.astype(np.float64))

    def _normal(self, what: str, rows: NDArray[np.int64], channels: int) -> FloatArray:
        drawn = Stream(self._seed, self._name, what).normal(rows, channels, dtype=torch.float64)
        return np.asarray(drawn.numpy())


def _ramp(u: FloatArray) -> FloatArray:
    return np.asarray(u * ndtr(u) + np.exp(-0.5 * u * u) / math.sqrt(2 * math.pi))


def _starts(count: int) -> range:
    return range(0, count, RENDERED)
