"""Pages in a browser of this machine, for people at a bench."""

from labctl.dashboard.align import align, emitters_of
from labctl.dashboard.server import Page

__all__ = ["Page", "align", "emitters_of"]
