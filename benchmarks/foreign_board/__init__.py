"""An oscillator board at waveform level, written from scratch: a foreign device for tests and studies.

Nothing here knows labctl's averaged law, its twins or its physics; it sees labctl.devices alone. Every
oscillator has its full phase, periods and all; couplings and injections are currents that act on it through
its sensitivity. What the averaged law leaves out (ripple at twice the frequency and its slow after-effects)
is there.
"""

from foreign_board.device import WaveformBoard, WaveformWorld
from foreign_board.unit import Spread, WaveformUnit, drawn_board, perfect_board
from foreign_board.waveform import Wiring, played

__all__ = [
    "Spread",
    "WaveformBoard",
    "WaveformUnit",
    "WaveformWorld",
    "Wiring",
    "drawn_board",
    "perfect_board",
    "played",
]
