"""Real data sets for tests. They are fetched before the tests (`make test` does); absence is a failure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.devices.errors import DataError
from labctl.models.data_sets import Split
from labctl.models.fetch import load

Loader = Callable[[str, Split], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@pytest.fixture
def real_set() -> Loader:
    """`load` that fails the test, with the command to run, where the set is not here."""

    def loaded(name: str, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        try:
            return load(name, split)
        except DataError as error:
            missing = str(error)
        pytest.fail(f"this test needs the data set {name}: {missing}", pytrace=False)

    return loaded
