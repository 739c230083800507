"""A tile of samples between release and hold: the loop's equation, step by step, and what the ADC samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices import LoopReadout, LoopSpec
from labctl.physics import ExponentialStep, LoopNoise, Stream
from labctl.physics.kernels import adc_sample, noisy_step
from labctl_sim_devices.broken import AdcFault
from labctl_sim_devices.loop_light import LoopLight
from labctl_sim_devices.shutter import Gathered

FloatArray = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Released:
    """What a tile is released with, network units: gain, leak [G, n], bias and start [B, n].

    bias holds all that is added beside gain y. tau_us is one for all rows, or [n]; trip_us includes the
    amplifiers' pole. sample_id [B] and step_id label the draws.
    """

    gain: FloatArray
    leak: FloatArray
    bias: FloatArray
    start: FloatArray
    tau_us: float | FloatArray
    trip_us: float
    sample_id: NDArray[np.int64]
    step_id: int


class LoopRun:
    """The state of one tile between release and hold."""

    def __init__(
        self, released: Released, light: LoopLight, noise: LoopNoise, streams: tuple[Stream, Stream],
        dtype: torch.dtype, louder: FloatArray | None = None,
    ) -> None:  # fmt: skip
        """louder [n]: factor on each row's own noise, where one is not as it should be."""

        def tensor(values: FloatArray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)

        self._released, self._light, self._noise, self._streams = released, light, noise, streams
        self._louder = None if louder is None else tensor(louder)
        self._gain, self._leak = tensor(released.gain), tensor(released.leak)
        self._bias, self.z = tensor(released.bias), tensor(released.start)
        tau_us = released.tau_us
        self._tau_us: float | Tensor = tau_us if isinstance(tau_us, float) else tensor(tau_us[None])
        self._substep = 0
        self._quiet = torch.zeros_like(self.z)
        self._now, self._before = torch.empty_like(self.z), torch.empty_like(self.z)
        self._started = False
        self.gathered: Gathered | None = None  # a camera's exposures, where one waits
        self._time_us, self._past_us, self._step_us = 0.0, 0.0, 0.0

    def use_step(self, step_us: float) -> None:
        """Advance by this much from now on."""
        noise, tau_us = self._noise, self._tau_us
        self._step_us = step_us
        dt = step_us / tau_us
        step = ExponentialStep.of(self._leak, dt, trip=self._released.trip_us / tau_us)
        floor, slope = noise.additive_variance(self._gain, self._leak, dt, tau_us * 1e-6)
        if self._louder is not None:
            floor = floor * self._louder**2
        self._tables = [t.contiguous().numpy() for t in (step.decay, step.now, step.before, floor, slope)]
        self._rin_sd = noise.rin_sd(step_us * 1e-6)

    def advance(self) -> None:
        """One step: light out, photocurrents in, the state moves on."""
        light, noise, noisy = self._light, self._noise, self._rin_sd > 0
        light.shine(self.z, self._time_us, self._rin_sd, self._draw(0) if noisy else self._quiet)
        self._gather(self._time_us + self._step_us)
        light.detect(jitters=noisy, counts=noise.shot)
        decay, share, extend, floor, slope = self._tables
        normal = self._quiet if noise.quiet else self._draw(1)
        if not self._started:  # nothing is known of the time before release: hold the first forcing
            torch.addcmul(self._bias, self._gain, light.y, out=self._before)
            self._started = True
        noisy_step(
            self.z.numpy(), light.y.numpy(), light.jitter.numpy(), self._now.numpy(), self._before.numpy(),
            self._gain.numpy(), self._bias.numpy(), decay, share, extend, floor, slope,
            light.total.numpy(), normal.numpy(),
        )  # fmt: skip
        self._now, self._before = self._before, self._now
        self._substep += 1
        self._past_us, self._time_us = self._time_us, self._time_us + self._step_us

    def release(self) -> None:
        """The loop opens: what is still exposed sees the pedestal alone."""
        if self.gathered is not None:
            self._light.glow(self.z, self._time_us)
            self._gather(self._time_us)
            self.gathered.rest(self._time_us, self._light.resting)

    def _gather(self, next_us: float) -> None:
        if self.gathered is not None:
            light = self._light.light.numpy() + self._light.flicker.numpy()
            self.gathered.add(self._past_us, self._time_us, next_us, light)

    def _draw(self, stream: int) -> Tensor:
        released = self._released
        return self._streams[stream].normal(
            released.sample_id, self.z.shape[1], step=released.step_id, substep=self._substep,
            dtype=self.z.dtype,
        )  # fmt: skip


class Window:
    """ADC samples of one tile: mean, halves, spread, clipping, trace, in counts."""

    def __init__(self, spec: LoopSpec, batch: int, fault: AdcFault | None = None) -> None:
        self._spec, self._fault = spec, fault
        shape = (batch, spec.n_channels)
        self._halves, self._squares = np.zeros((2, *shape)), np.zeros(shape)
        self._first, self._clipped = np.zeros(shape), np.zeros(shape, np.bool_)
        self._trace: list[NDArray[np.float64]] = []
        self._trace_us: list[float] = []

    def sample(self, k: int, z: Tensor) -> None:
        adc = self._spec.adc
        half = self._halves[0 if k < self._spec.window_samples // 2 else 1]
        adc_sample(
            self._seen(z), adc.units_per_code, float(adc.max_code), self._first, k == 0, half, self._squares,
            self._clipped,
        )  # fmt: skip

    def note_trace(self, time_us: float, z: Tensor) -> None:
        limit = float(self._spec.adc.max_code)
        raw = np.rint(self._seen(z).astype(np.float64) / self._spec.adc.units_per_code)
        self._trace.append(np.clip(np.nan_to_num(raw, nan=limit), -limit, limit))
        self._trace_us.append(time_us)

    def _seen(self, z: Tensor) -> FloatArray:
        adc, states = self._spec.adc, z.numpy()
        return states if self._fault is None else self._fault.read(states, adc.units_per_code, adc.max_code)

    def readout(self, wait_us: float, window_us: float) -> LoopReadout:
        samples = self._spec.window_samples
        first = samples // 2
        sizes = np.array([first, samples - first], np.float64)
        mean = self._halves.sum(axis=0) / samples
        variance = self._squares / samples - (mean - self._first) ** 2
        return LoopReadout(
            counts=mean,
            half_counts=self._halves / sizes[:, None, None],
            spread_counts=np.sqrt(np.maximum(variance, 0)),
            adc_clipped=self._clipped,
            wait_us=wait_us,
            window_us=window_us,
            trace_counts=np.stack(self._trace) if self._trace else None,
            trace_time_us=np.array(self._trace_us) if self._trace else None,
        )
