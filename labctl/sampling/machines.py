"""Machines a scheme can run on: the closed loop through an engine, or the bare network on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError
from labctl.engines import Batch, ChainEngine, FixedPointEngine, FixedPointResult
from labctl.programs import ChainUpdate, LoopProgram, LoopSegment
from labctl.sampling.network import LoopNetwork

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SettleSeen:
    """One settle as it happened: which segment, what was injected, what came back."""

    index: int
    segment: LoopSegment
    inject: FloatArray
    result: FixedPointResult


class LoopMachine:
    """Runs a compiled chain on an engine, host-stepped: settle, read, form the next injection.

    u is preset to c_in x and h as held from the same part's settle before (0 at first). Where the network is
    cut into parts, what each gives to F is kept from its last settle, and held while the others settle.
    `seen(SettleSeen)` records.
    """

    def __init__(
        self,
        engine: FixedPointEngine,
        network: LoopNetwork,
        program: LoopProgram,
        *,
        labels: IntArray | None,
        sample_id: IntArray,
        audit: int = 0,
        seen: Callable[[SettleSeen], None] | None = None,
    ) -> None:
        self._engine, self._network, self._program = engine, network, program
        self._labels, self._sample_id = labels, sample_id
        self._audit, self._seen = audit, seen
        parts, batch = len(program.matrices), len(sample_id)
        self._held = np.zeros((parts, batch, engine.n_channels))
        self._given = np.zeros((parts, batch, network.sizes[0]))  # each part's share of F, without b_out
        self._next = 0

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        """The root of z = c + g D(z; sigma), in x units."""
        c_skip, c_out, _ = self._network.preconditioning.coefficients(sigma)
        state, z, last = self._program.placement.state, start, False
        cut = len(self._program.matrices) > 1
        while not last:
            segment = self._segment("implicit", sigma)
            if np.abs(segment.leak[state] - (1 - g * c_skip)).max() > 1e-6:  # same sigma, another step
                raise ConfigError(
                    f"the scheme asks for implicit at sigma {sigma:.6g} with g {g:.6g}, the program has "
                    f"another g there: it was compiled for another sampler"
                )
            inject = c
            if cut:
                inject = c + g * c_out * (self._given.sum(axis=0) - self._given[segment.matrix])
            result = self._solve(segment, inject, z)
            z, last = result.z[:, state] / segment.inject_scale, segment.last
            if cut:
                self._given[segment.matrix] = self._share(segment, inject, result) / (g * c_out)
        return np.asarray(z)

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        """D(x; sigma): the machine evaluates up to h_L, the host forms the last layer with measured W_out."""
        placement, last = self._program.placement, False
        summed = np.zeros_like(x)
        while not last:
            segment = self._segment("evaluate", sigma)
            result, last = self._solve(segment, x, x), segment.last
            summed += self._engine.light(result.z, placement.state, placement.last_hidden)
        c_skip, c_out, _ = self._network.preconditioning.coefficients(sigma)
        tables = self._network.rows(sigma)
        row = 0 if self._labels is None else self._labels
        raw = tables.gains[-1][row] * summed + tables.biases[-1][row]
        return np.asarray(c_skip * x + c_out * raw)

    def chain(
        self, c: FloatArray, x: FloatArray, updates: Sequence[ChainUpdate], noise: FloatArray | None
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        """All settles left, on the engine's sequencer; then (root, injection) of each, x units [B, d].

        c is the first injection, x the first start; updates and noise [K - 1, B, d] make the next ones.
        """
        engine, segments = self._engine, self._program.segments[self._next :]
        if not isinstance(engine, ChainEngine):
            raise ConfigError(f"engine {engine.name} has no sequencer; allowed: stepping by the host")
        batch = Batch(c, self._preset(segments[0], x), self._labels, self._sample_id, self._next)
        settles = engine.solve_chain(segments, batch, updates, noise=noise, audit=self._audit)
        for segment, (inject, result) in zip(segments, settles, strict=True):
            self._take(segment, inject, result)
            state = result.z[:, self._program.placement.state]
            yield state / segment.inject_scale, inject

    def _share(self, segment: LoopSegment, inject: FloatArray, result: FixedPointResult) -> FloatArray:
        """What the segment's own matrix gave rows u at rest [B, d], in x units: leak u = given + bias."""
        state = self._program.placement.state
        bias = segment.bias_of(inject, self._labels, state)[:, state]
        given = np.asarray(result.applied.leak)[..., state] * result.z[:, state] - bias
        return np.asarray(given / segment.inject_scale)

    def _preset(self, segment: LoopSegment, x: FloatArray) -> FloatArray:
        """Where a settle starts [B, n]: u at c_in x, h as held."""
        start: FloatArray = self._held[segment.matrix].copy()
        start[:, self._program.placement.state] = segment.inject_scale * x
        return start

    def _segment(self, kind: str, sigma: float) -> LoopSegment:
        if self._next == len(self._program.segments):
            raise ConfigError(
                f"the scheme asks for {kind} at sigma {sigma:.6g}, the program ended after {self._next} "
                f"segments: it was compiled for another sampler"
            )
        segment = self._program.segments[self._next]
        if segment.kind != kind or abs(segment.sigma - sigma) > 1e-12 * sigma:
            raise ConfigError(
                f"the scheme asks for {kind} at sigma {sigma:.6g}, the program has {segment.kind} at "
                f"{segment.sigma:.6g}: it was compiled for another sampler"
            )
        return segment

    def _solve(self, segment: LoopSegment, inject: FloatArray, x: FloatArray) -> FixedPointResult:
        batch = Batch(inject, self._preset(segment, x), self._labels, self._sample_id, self._next)
        result = self._engine.solve(segment, batch, audit=self._audit)
        self._take(segment, inject, result)
        return result

    def _take(self, segment: LoopSegment, inject: FloatArray, result: FixedPointResult) -> None:
        self._held[segment.matrix] = result.z
        if self._seen is not None:
            self._seen(SettleSeen(self._next, segment, inject, result))
        self._next += 1


class HostMachine:
    """The bare network on the host in float64: for baselines and for the net's own converged ODE."""

    def __init__(self, network: LoopNetwork, *, labels: IntArray | None = None) -> None:
        self._network, self._labels = network, labels
        self._weights = network.weights()
        self.nfe = 0

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        """D(x; sigma)."""
        return self._denoise(x, sigma, self._labels)

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        """Picard on z = c + g D(z; sigma), relaxed by half; a sample is done once it moves by 1e-9 sigma."""
        z = start.copy()
        active = np.arange(len(z))
        for k in range(1, 2001):
            labels = None if self._labels is None else self._labels[active]
            change = c[active] + g * self._denoise(z[active], sigma, labels) - z[active]
            z[active] += 0.5 * change
            if k % 8 == 0:
                active = active[np.abs(change).max(axis=1) > 1e-9 * sigma]
                if not len(active):
                    break
        return z

    def _denoise(self, x: FloatArray, sigma: float, labels: IntArray | None) -> FloatArray:
        self.nfe += 1
        c_skip, c_out, c_in = self._network.preconditioning.coefficients(sigma)
        tables = self._network.rows(sigma)
        row = 0 if labels is None else labels
        z = c_in * x
        for w, gain, bias in zip(self._weights, tables.gains, tables.biases, strict=True):
            z = gain[row] * (np.tanh(z) @ w.T) + bias[row]
        return np.asarray(c_skip * x + c_out * z)
