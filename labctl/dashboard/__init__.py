"""Pages in a browser of this machine, for people at a bench."""

from labctl.dashboard.align import align
from labctl.dashboard.server import Page

__all__ = ["Page", "align"]
