"""What the light does at the panel: the displayed frame, seen cell by cell on two sign paths.

Own equations and own geometry; nothing of the host's encoder. A bench without faults has one response,
T(g) = T_off + (T_on - T_off) sin^2(Gamma(g) / 2), Gamma(g) = pi g / (levels - 1), and cells of whole pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labctl_sim_devices.broken import SOUND, Broken
from labctl_sim_devices.panel_response import PanelResponse
from labctl_sim_devices.plane_sequence import PlaneSequence
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.registration import Placement, edge_table, gather_cells, placement
from labctl_sim_devices.units import UnitTruth, absent_unit

FloatArray = NDArray[np.float64]
STEP_C = 0.02  # of temperature: finer movements of the cells (a thousandth of a pixel) are not followed
STEP_PX = 0.001  # of creep
PLACE_TERMS = ("registration", "registration_drift", "point_spread")
RESPONSE_TERMS = ("panel_response", "contrast", "dead_pixels")


def first_orders(profile: OpticalProfile, levels: NDArray[np.uint16]) -> FloatArray:
    """Light of every cell [2, n, n] in the first order of gratings along its rows, of a phase-only panel.

    A level is a phase, 2 pi over all levels; a cell is lit evenly and coherently, and the iris passes what
    leaves in the direction of the first order: |sum of the pixels' fields along it|^2, 1 at most.
    """
    n, (height, width) = profile.n_channels, profile.cell_px
    turns = np.arange(profile.panel_levels) / profile.panel_levels
    out = np.empty((2, n, n))
    for path, (top, left) in enumerate(profile.path_origin_px):
        columns = left + np.arange(n * width)
        seen = turns[levels[top : top + n * height, left : left + n * width]]
        field = np.exp(2j * np.pi * (seen - columns / profile.first_order_period_px))
        out[path] = np.abs(field.reshape(n, height, n, width).mean(axis=(1, 3))) ** 2
    span = profile.transmittance_on - profile.transmittance_off
    return profile.transmittance_off + span * out


class PanelOptics:
    """Transmittances of the n x n cells of both paths, following the frame with the panel's own lag.

    `temperature_c` gives the bench's temperature at a time (us), on which the registration depends;
    `creep_px` how far the image has crept by then (y, x); `broken` what is wrong with panel and optics.
    """

    def __init__(
        self,
        profile: OpticalProfile,
        unit: UnitTruth | None = None,
        seed: int = 0,
        temperature_c: Callable[[float], float] | None = None,
        creep_px: Callable[[float], FloatArray] | None = None,
        broken: Broken = SOUND,
    ) -> None:
        if broken.flip is not None or broken.panel_tau_us is not None:
            changed = {"panel_flip": broken.flip, "panel_tau_us": broken.panel_tau_us}
            given = {name: value for name, value in changed.items() if value is not None}
            profile = profile.model_copy(update=given)
        self._profile, self._frame = profile, broken.frame
        self._unit = absent_unit(profile.n_channels) if unit is None else unit
        self._temperature_c, self._creep_px = temperature_c, creep_px
        retardance = math.pi * np.arange(profile.panel_levels) / (profile.panel_levels - 1)
        span = profile.transmittance_on - profile.transmittance_off
        self._transmittance = profile.transmittance_off + span * np.sin(retardance / 2) ** 2
        self._gratings = profile.panel_kind == "lcos-phase"
        self._response: PanelResponse | None = None
        if self._unit.has(*RESPONSE_TERMS):
            self._response = PanelResponse(profile, self._unit, seed)
        self._creeps = creep_px is not None and bool(self._unit.creep_px)
        self._placed = self._unit.has(*PLACE_TERMS) or profile.panel_flip != "none" or self._creeps
        self._moves = self._unit.has("registration_drift") and temperature_c is not None
        self._asymmetric = self._unit.has("asymmetry")
        self._edges = edge_table(float(self._unit.point_spread_px))
        self._illumination = self._illuminated()
        self.levels: NDArray[np.uint16] | None = None  # the frame on display
        self.sequence: PlaneSequence | None = None  # planes in its place
        self._light: FloatArray | None = None  # of every pixel, where cells are gathered from it
        self._at = self._place(0.0)
        n = profile.n_channels
        dark = np.full((2, n, n), self._dark_level()) * self._illumination
        self._old, self._new, self._since_us = dark, dark, -math.inf

    def frame_changed(self, levels: NDArray[np.uint16], now_us: float) -> None:
        """The panel begins to turn towards a new frame [height, width]."""
        self._old = self.transmittances(now_us)
        self.levels, self.sequence = levels, None
        self._at = self._place(now_us)
        self._new = self._cells(levels)
        self._since_us = now_us

    def sequence_begun(
        self, planes: NDArray[np.uint16], duration_us: FloatArray, blank_us: float, now_us: float
    ) -> None:
        """The panel begins to repeat planes [P, height, width]; mirrors turn at the beginning of each."""
        self.levels = None
        self._at = self._place(now_us)
        cells = np.stack([self._cells(plane) for plane in planes])
        self.sequence = PlaneSequence(cells, duration_us, blank_us, float(self._unit.mirror_dip), now_us)

    def restore(self, levels: NDArray[np.uint16], now_us: float) -> None:
        """A frame that has been on display for long."""
        self.levels = levels
        self._at = self._place(now_us)
        self._old = self._new = self._cells(levels)
        self._since_us = -math.inf

    def transmittances(self, now_us: float) -> FloatArray:
        """[2, n, n]: positive and negative path, rows are outputs. Half-turned if read early."""
        if self.sequence is not None:
            return self.sequence.at(now_us)
        self._follow(now_us)
        tau_us, since_us = self._profile.panel_tau_us, now_us - self._since_us
        if not self._asymmetric:
            left = math.exp(-since_us / tau_us) if tau_us > 0 else 0.0
            now: FloatArray = self._new + (self._old - self._new) * left
            return now
        rising = self._new > self._old
        ratio = np.where(rising, float(self._unit.rise_ratio), float(self._unit.fall_ratio))
        remains = np.exp(-since_us / (tau_us * ratio)) if tau_us > 0 else np.zeros_like(ratio)
        return np.asarray(self._new + (self._old - self._new) * remains)

    def placement(self, path: int, now_us: float = 0.0) -> Placement:
        """Where the optics have the cells of a path: the truth that a registration estimates."""
        return self._placement(path, self._place(now_us))

    @property
    def illumination(self) -> FloatArray:
        """Roll-off of the light over the cells [2, n, n]."""
        return self._illumination

    @property
    def response(self) -> PanelResponse | None:
        """Level curves by region; None where the panel has one for all."""
        return self._response

    def _temperature(self, now_us: float) -> float:
        if self._temperature_c is None or not self._moves:
            return self._profile.temperature_c
        return round(self._temperature_c(now_us) / STEP_C) * STEP_C

    def _place(self, now_us: float) -> tuple[float, float, float]:
        """All that the cells' places depend on: temperature, creep y and x."""
        if self._creep_px is None or not self._creeps:
            return self._temperature(now_us), 0.0, 0.0
        y, x = np.round(self._creep_px(now_us) / STEP_PX) * STEP_PX
        return self._temperature(now_us), float(y), float(x)

    def _placement(self, path: int, at: tuple[float, float, float]) -> Placement:
        found = placement(self._profile, self._unit, path, at[0])
        if not self._creeps:
            return found
        return Placement(found.centre_px + np.array(at[1:]), found.edges_px)

    def _follow(self, now_us: float) -> None:
        """The cells move with temperature, and creep, under a frame that stays."""
        if (self._moves or self._creeps) and self._light is not None:
            at = self._place(now_us)
            if at != self._at:
                self._at = at
                self._new = self._gathered(self._light)

    def _dark_level(self) -> float:
        return self._response.dark() if self._response is not None else float(self._transmittance[0])

    def _cells(self, levels: NDArray[np.uint16]) -> FloatArray:
        n = self._profile.n_channels
        height, width = self._profile.cell_px
        if self._frame is not None:
            levels = self._frame(levels)
        if self._gratings:
            return first_orders(self._profile, levels) * self._illumination
        if self._placed:
            self._light = (
                self._transmittance[levels] if self._response is None else self._response.light(levels)
            )
            return self._gathered(self._light)
        light = None if self._response is None else self._response.light(levels)
        out = np.empty((2, n, n))
        for path, (top, left) in enumerate(self._profile.path_origin_px):
            part = (slice(top, top + n * height), slice(left, left + n * width))
            seen = self._transmittance[levels[part]] if light is None else light[part]
            out[path] = seen.reshape(n, height, n, width).mean(axis=(1, 3))
        return out if not self._unit.has("illumination") else out * self._illumination

    def _gathered(self, light: FloatArray) -> FloatArray:
        n = self._profile.n_channels
        out = np.empty((2, n, n))
        for path in (0, 1):
            cells = self._placement(path, self._at)
            gather_cells(light, cells.centre_px, cells.edges_px, self._edges, out[path])
        return out * self._illumination

    def _illuminated(self) -> FloatArray:
        n, unit = self._profile.n_channels, self._unit
        steps = (np.arange(n) + 0.5) / n * 2 - 1
        y, x = np.meshgrid(steps, steps, indexing="ij")
        out = np.empty((2, n, n))
        for path in (0, 1):
            away = ((y - unit.illumination_centre[path, 0]) ** 2) / 2
            away = away + ((x - unit.illumination_centre[path, 1]) ** 2) / 2
            out[path] = np.exp(-unit.illumination_roll_off[path] * away)
        return out
