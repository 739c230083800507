"""The fitted twin of an optical bench: today's machine as its records have it, to compute and train through.

Everything is from records and data sheets: the map and the rows of the dense frame, what the panel's record
says that another frame would realise, the noise budget, settle times. Network units throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices import CalibrationRecord, ConfigError, LoopSpec, ModulatorSpec, Wiring
from labctl.models.mismatched import Mismatch
from labctl.physics import FittedLaw, FittedMap, carried, settle_times
from labctl.programs import encode_frame
from labctl_calibration.noise_budget import KIND as NOISE_KIND
from labctl_calibration.optical.dense import dense_fractions
from labctl_calibration.optical.loop_procedures import SETTLING, WEIGHTS
from labctl_calibration.optical.twin_noise import TwinNoise
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.procedure import require
from labctl_calibration.rows_record import KIND as ROWS_KIND
from labctl_calibration.rows_record import loop_of, rows_of
from labctl_calibration.settling import BAND, WAIT_TAU, settling_patterns

FloatArray = NDArray[np.float64]
KINDS = (PANEL_KIND, WEIGHTS, ROWS_KIND, NOISE_KIND, SETTLING)
WAY_STEP_TAU = 0.05  # of settle times


class FittedTwin(torch.nn.Module):
    """States at rest z [B, n] of the loop leak z = gain W f(z) + bias, as the records predict them.

    Rows' errors are taken out of what is set, as engines do; W and f are what the machine makes of them. The
    gradient is that of the state of rest (implicit function). `noisy` adds a draw of the noise budget.
    """

    def __init__(
        self,
        spec: LoopSpec,
        panel_spec: ModulatorSpec,
        records: Mapping[str, CalibrationRecord],
        record_ids: tuple[str, ...] = (),
    ) -> None:
        """records by kind: all of `KINDS`. CalibrationMissing where one is not there, ConfigError where they
        are of a machine of another size.
        """
        super().__init__()
        panel, weights, rows_record, noise, settling = (require(records, kind) for kind in KINDS)
        n = spec.n_channels
        if weights.array("powers").shape[1:] != (n, n):
            raise ConfigError(
                f"record {WEIGHTS!r}: powers have shape {weights.array('powers').shape}; allowed: "
                f"[K, {n}, {n}], as this machine has {n} channels"
            )
        self.spec, self.panel_spec, self.record_ids = spec, panel_spec, record_ids
        self.noisy = False
        self.overridden = ""  # why it is used although its agreement is not in order
        self._panel = panel
        self.full_scale_units = full = float(panel.array("full_scale_units")[0])
        self.live = panel.array("dead_channels") == 0
        self.channels = panel.array("channel_order").astype(np.int64)  # best first
        rows = rows_of(rows_record)
        self.loop = loop_of(weights.array("powers"), rows, full)
        light = self.loop.light
        self._shown = torch.from_numpy(encode_frame(dense_fractions(n), panel_spec, panel).realised)
        self._carried = carried(light.powers, self._shown)
        self._mismatch = _mismatch(panel, weights, rows.open_error, self.live)
        self.noise = TwinNoise.of(noise, self.loop, spec)
        self.tau_us = self._tau_us(settling)

    def forward(
        self,
        bias: Tensor,
        gain: Tensor | float,
        leak: Tensor | float = 1.0,
        *,
        weights: Tensor | None = None,
        start: Tensor | None = None,
        sample_id: NDArray[np.int64] | None = None,
        seed: int = 0,
    ) -> Tensor:
        """z [B, n] for biases [B, n]; gain and leak are one number, [n] or [B, n].

        weights [n, n], fractions in -1 .. 1 (rows are outputs): None is the dense frame that was measured.
        start [B, n]: where the loop is released. sample_id [B] and seed decide the draws of a noisy twin.
        """
        law = self.law(bias, gain, leak, weights)
        z = law.rest(None if start is None else start.to(law.bias.dtype))
        if not self.noisy:
            return z
        ids = np.arange(len(z)) if sample_id is None else sample_id
        behind, before, read = self.noise.draw(ids, seed, law.light.powers[0].detach())
        return law.moved(z, behind, before) + read

    def as_set(
        self, bias: Tensor, gain: Tensor | float, leak: Tensor | float, weights: Tensor | None = None
    ) -> FittedLaw:
        """One settle with the electronics' own knobs: rows' errors act, gain multiplies photocurrents."""
        loop = self.loop if weights is None else replace(self.loop, light=self.light_of(weights))
        biases = bias.to(torch.float64)
        return loop.law(biases, _rows(gain, biases), _rows(leak, biases))

    def law(
        self, bias: Tensor, gain: Tensor | float, leak: Tensor | float, weights: Tensor | None = None
    ) -> FittedLaw:
        """One settle with these knobs, as `forward` has them."""
        loop = self.loop if weights is None else replace(self.loop, light=self.light_of(weights))
        biases = bias.to(torch.float64)
        return loop.trimmed(biases, _rows(gain, biases), _rows(leak, biases))

    def light_of(self, weights: Tensor) -> FittedMap:
        """The map to expect of a frame of fractions [n, n]; the panel's quantising passes the gradient."""
        asked = weights.to(torch.float64)
        shown = encode_frame(asked.detach().numpy(), self.panel_spec, self._panel).realised
        realised = asked + (torch.from_numpy(shown) - asked).detach()
        # every weight's own error stays what it was on the dense frame, in proportion
        light = self.loop.light
        own = torch.where(self._shown.abs() > 0.2, light.powers / (self._carried[:, None] * self._shown), 1.0)
        own = torch.where((own - 1).abs() < 0.5, own, 1.0)
        return replace(light, powers=realised * self._carried[:, None] * own)

    def mismatch(self) -> Mismatch:
        """What the records state that weights and biases of a frame are uncertain by, channel by channel."""
        return self._mismatch

    def settle_us(self, law: FittedLaw, band_units: float) -> FloatArray:
        """Settle times [B] from rest at 0, last entry of all rows into +-band around the end; NaN: never."""
        steps = round(WAIT_TAU / WAY_STEP_TAU)
        way = law.way(dt=WAY_STEP_TAU, steps=steps)
        states = torch.cat([torch.zeros_like(way[:1]), way]).numpy()
        time_us: FloatArray = self.tau_us * WAY_STEP_TAU * np.arange(steps + 1, dtype=np.float64)
        return settle_times(time_us, states, states[-1], band_units)

    def _tau_us(self, settling: CalibrationRecord) -> float:
        """The time constant with which the measured settle times are the predicted ones, in the median."""
        self.tau_us = 1.0
        bias, gain = settling_patterns(self.spec, self.loop.light.powers[0].numpy() * self.full_scale_units)
        units, one = torch.from_numpy(bias * self.spec.dac.units_per_code), torch.ones(1, bias.shape[1])
        value = torch.from_numpy(self.spec.hidden_gain.value(gain))
        predicted = self.settle_us(
            self.loop.law(units, value, one.double()), BAND * self.spec.adc.range_units
        )
        seen = settling.array("settle_us")
        good = np.isfinite(seen) & np.isfinite(predicted) & (predicted > 0)
        if not good.any():
            raise ConfigError(f"record {SETTLING!r}: no pattern settled; allowed: one or more")
        return float(np.median(seen[good] / predicted[good]))


def _mismatch(
    panel: CalibrationRecord,
    weights: CalibrationRecord,
    open_error: FloatArray | None,
    live: NDArray[np.bool_],
) -> Mismatch:
    """Of a weight: its cells' span, and the dense frame's map that says what channels carry. Of a bias: the
    row's offset, where its uncertainty was measured.
    """
    span, span_sd = panel.array("span_units"), panel.array("span_units_sd")
    relative = np.where(span > 0, span_sd / np.where(span > 0, span, 1.0), 0.0).max(axis=0)
    wiring = Wiring.of(panel.arrays)
    if wiring is not None:
        relative = relative[np.ix_(wiring.row, wiring.column)]
    size = np.abs(weights.array("powers")[0])
    typical = float(np.median(size[:, live]))
    probed = weights.array("powers_sd")[0] / np.maximum(size, typical)
    known = open_error is not None and np.isfinite(open_error).all()
    bias = open_error[2] if known and open_error is not None else np.zeros(len(live))
    return Mismatch(np.hypot(relative, probed) * live, bias)


def _rows(knob: Tensor | float, bias: Tensor) -> Tensor:
    """A knob [G, n] in float64."""
    values = torch.as_tensor(knob, dtype=torch.float64)
    return values.expand(1, bias.shape[1]) if values.dim() < 2 else values
