"""A foreign device: an optical bench written a second time, from the field in the light, for tests and studies.

Bring-up and compensation grew up against the twin. A bench of other equations, by other means, says whether
they read machines or only that twin (conventions, section 8). So nothing here imports `labctl.physics` or the
twins; the devices answer to the same interfaces, and what they share with the twin is the published hardware.
"""

from foreign_bench.ageing import Ageing
from foreign_bench.bench import ForeignBench
from foreign_bench.broken import Broken
from foreign_bench.cables import Cables
from foreign_bench.devices import ForeignElectronics, ForeignPanel
from foreign_bench.faults import FAULTS, broken_unit
from foreign_bench.unit import ForeignUnit, drawn_unit, perfect_unit

__all__ = [
    "FAULTS",
    "Ageing",
    "Broken",
    "Cables",
    "ForeignBench",
    "ForeignElectronics",
    "ForeignPanel",
    "ForeignUnit",
    "broken_unit",
    "drawn_unit",
    "perfect_unit",
]
