"""Twin of a phase-only panel in coherent light."""

from __future__ import annotations

from labctl_sim_devices.panel import PanelTwin


class PhasePanelTwin(PanelTwin):
    """Levels are phases, 0 to 2 pi; the bench's optics pass the first order of gratings along the rows.

    Needs a profile whose panel_kind is "lcos-phase"; ConfigError otherwise.
    """

    KIND = "lcos-phase"
    MODEL = ("simulated phase-only LCOS panel", "SIM-PHASE")
