"""Nonlinearity, gains, detectors, ADC, hold and release: the electronics that close the loop."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.checks import check_hold
from labctl.devices.device import Device
from labctl.devices.errors import DeviceValueError, UnsupportedFeature
from labctl.devices.loop_chain import ChainCodes, ChainReadout, checked_chain
from labctl.devices.specs import LoopSpec
from labctl.devices.values import Hold, LoopReadout, ProbeReadout
from labctl.devices.wiring import Wiring

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class SettleCodes:
    """One queue of settles, in codes.

    bias [B, n]; gain [G, n], leak [G, n] and gain_range [n] (0 = state scale, 1 = hidden scale) with G = 1
    or B; start [B, n] presets (the state before release). step_id and sample_id [B] tell a twin which
    noise to draw, so that a sample's draws do not depend on its batch; hardware ignores them.
    """

    bias: Codes
    gain: Codes
    leak: Codes
    gain_range: Codes
    start: Codes
    step_id: int
    sample_id: Codes


class LoopElectronics(Device):
    """The closed loop tau dz/dt = -leak z + gain y + bias, in codes; read-out in ADC counts.

    `wiring`: where its channels stand at the panel, as the rig file says; None: each at its own place. Codes
    and counts are by channel all the same.
    """

    safe_stage = "loop"
    wiring: Wiring | None = None

    @property
    @abstractmethod
    def spec(self) -> LoopSpec:
        """Channels, converters, gain scales, timing."""

    def set_offset_null(self, codes: ArrayLike) -> None:
        """Detector offset null [n]: subtracted from the photocurrent before the gain (offset_dac codes)."""
        self._require_open("set_offset_null")
        high = self.spec.offset_dac.max_code
        self._do_set_offset_null(
            self._codes("set_offset_null", "codes", codes, (self.spec.n_channels,), -high, high)
        )

    def probe(
        self,
        codes: ArrayLike,
        *,
        at: Literal["phi", "emitter"] = "phi",
        repeats: int = 1,
        hold: Hold | None = None,
    ) -> ProbeReadout:
        """Open the loop, drive patterns [B, n] (probe_dac codes) and read the detectors after the null.

        at="phi" drives the output of the nonlinearity (the pedestal is added behind it); at="emitter"
        drives the emitters themselves, codes >= 0. Each pattern is read for `repeats` windows. The counts
        are of the photocurrent in units of a full-scale weight at phi = 1, over the offset DAC's range. With
        `hold`, each pattern triggers a camera as it comes on and stays on for that long.
        """
        self._require_open("probe")
        if at not in ("phi", "emitter"):
            raise DeviceValueError(
                f"at is {at!r}; allowed: phi, emitter", device=self.name, operation="probe"
            )
        spec = self.spec
        high = spec.probe_dac.max_code
        checked = self._codes(
            "probe", "codes", codes, (None, spec.n_channels), 0 if at == "emitter" else -high, high
        )
        if repeats < 1:
            raise DeviceValueError(
                f"repeats is {repeats}; allowed: 1 or more", device=self.name, operation="probe"
            )
        self._check_hold("probe", hold)
        if self.guard is not None:
            compare = self.guard.drive if at == "emitter" else self.guard.phi
            compare(self, "probe", checked * spec.probe_dac.units_per_code)
        return self._do_probe(checked, at, repeats, hold)

    def settle(
        self,
        codes: SettleCodes,
        *,
        wait_us: float | None = None,
        trace: bool = False,
        hold: Hold | None = None,
    ) -> LoopReadout:
        """Preset, release, wait, average the window, hold: for every sample of the queue.

        wait_us defaults to the profile's; reading early gives what is there. With `trace`, the ADC also
        samples during the wait. With `hold`, the end of the wait triggers a camera and the loop stays closed
        for that long. Raises DeviceValueError naming the field, the value and what is allowed.
        """
        self._require_open("settle")
        spec = self.spec
        n, batch = spec.n_channels, len(codes.bias)
        if not 1 <= batch <= spec.max_queue:
            raise DeviceValueError(
                f"the queue holds {batch} settles; allowed: 1 to {spec.max_queue}",
                device=self.name, operation="settle",
            )  # fmt: skip
        rows = 1 if len(codes.gain) == 1 else batch
        leaks = 1 if len(codes.leak) == 1 else batch
        dac = spec.dac.max_code
        high_gain = max(spec.state_gain.max_code, spec.hidden_gain.max_code)
        checked = SettleCodes(
            bias=self._codes("settle", "bias", codes.bias, (None, n), -dac, dac),
            gain=self._codes("settle", "gain", codes.gain, (rows, n), 0, high_gain),
            leak=self._codes("settle", "leak", codes.leak, (leaks, n), 0, spec.max_leak_code),
            gain_range=self._codes("settle", "gain_range", codes.gain_range, (n,), 0, 1),
            start=self._codes("settle", "start", codes.start, (batch, n), -dac, dac),
            step_id=int(codes.step_id),
            sample_id=self._codes("settle", "sample_id", codes.sample_id, (batch,), 0, 2**32 - 1),
        )
        wait = spec.wait_us if wait_us is None else float(wait_us)
        if not 0.0 <= wait <= 1e6:
            raise DeviceValueError(
                f"wait_us is {wait_us}; allowed: 0 to 1e6", device=self.name, operation="settle"
            )
        self._check_hold("settle", hold)
        if self.guard is not None:
            self.guard.phi(self, "settle", np.ones((1, n)))
        return self._do_settle(checked, wait, trace, hold)

    def run_chain(self, codes: ChainCodes) -> ChainReadout:
        """Run a chain of settles on the sequencer, each with the profile's wait and window; no host between.

        Raises DeviceValueError where there is no sequencer, the chain is too deep, or a code is out of range.
        """
        self._require_open("run_chain")
        checked = checked_chain(codes, self.spec, partial(self._codes, "run_chain"), self.name)
        if self.guard is not None:
            self.guard.phi(self, "run_chain", np.ones((1, self.spec.n_channels)))
        return self._do_run_chain(checked)

    def temperature_c(self) -> float:
        """Board temperature in degrees Celsius."""
        self._require_open("temperature_c")
        return self._do_temperature_c()

    def _check_hold(self, operation: str, hold: Hold | None) -> None:
        check_hold(
            hold, self.spec.max_hold_us, device=self.name, operation=operation, whose="these electronics"
        )

    @abstractmethod
    def _do_set_offset_null(self, codes: Codes) -> None: ...

    @abstractmethod
    def _do_probe(
        self, codes: Codes, at: Literal["phi", "emitter"], repeats: int, hold: Hold | None
    ) -> ProbeReadout: ...

    @abstractmethod
    def _do_settle(
        self, codes: SettleCodes, wait_us: float, trace: bool, hold: Hold | None
    ) -> LoopReadout: ...

    def _do_run_chain(self, codes: ChainCodes) -> ChainReadout:
        raise UnsupportedFeature("no sequencer", device=self.name, operation="run_chain")

    @abstractmethod
    def _do_temperature_c(self) -> float: ...
