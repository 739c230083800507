"""Twin of a micromirror device: frames of mirrors that are on or off, weights as area patterns."""

from __future__ import annotations

from labctl.devices import ConfigError
from labctl_sim_devices.bench import OpticalBench
from labctl_sim_devices.panel import PanelTwin


class DmdTwin(PanelTwin):
    """A panel of two levels whose light dips while the mirrors are reset (term `mirror_resets`).

    A cell's weight is the share of its mirrors that are on. Needs a profile whose panel_kind is "dmd";
    ConfigError otherwise.
    """

    KIND = "dmd"
    MODEL = ("simulated micromirror device", "SIM-DMD")

    def __init__(self, name: str, bench: OpticalBench) -> None:
        super().__init__(name, bench)
        if bench.profile.panel_levels != 2:
            raise ConfigError(f"{name}: panel_levels is {bench.profile.panel_levels}; a mirror has 2")

    @property
    def duty(self) -> float:
        """Share of the time that light is steady: outside the mirrors' resets."""
        settings = self._bench.unit.settings
        if not self._bench.unit.has("mirror_resets"):
            return 1.0
        return 1.0 - float(settings["reset_us"]) / float(settings["reset_period_us"])
