"""How long procedures take on a bench, by its data sheets: device time, not the host's."""

from __future__ import annotations

from collections.abc import Callable

from labctl.devices import LoopElectronics, WeightModulator
from labctl_calibration.open_loop import usual_us
from labctl_calibration.procedure import Devices


def taking(
    *, frames: float = 0, probes: float = 0, probes_a_channel: float = 0,
    settles: float = 0, wait_us: float | None = None, nulls: float = 0,
) -> Callable[[Devices], float]:  # fmt: skip
    """Seconds for so many frames, open-loop probes (and for each channel), settles with such a wait and nulls
    in steady light.
    """

    def duration_s(devices: Devices) -> float:
        panel, loop = devices.get(WeightModulator).spec, devices.get(LoopElectronics).spec
        wait = loop.wait_us if wait_us is None else wait_us
        count = probes + probes_a_channel * loop.n_channels
        return 1e-6 * (
            frames * panel.settle_time_us
            + count * loop.window_us
            + settles * (wait + loop.window_us)
            + nulls * usual_us(loop)
        )

    return duration_s
