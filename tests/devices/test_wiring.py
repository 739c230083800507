"""Where channels stand at the panel: two orders and two polarities, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import Wiring
from labctl.rig.wiring import WiringConfig

N = 6


@pytest.fixture
def wiring():
    return Wiring(
        column=np.array([3, 0, 5, 1, 4, 2]),
        row=np.array([1, 2, 0, 5, 3, 4]),
        drive_sign=np.array([1.0, -1, 1, 1, 1, 1]),
        read_sign=np.array([1.0, 1, 1, -1, 1, 1]),
    )


def test_what_the_loop_does_is_what_its_weights_say(wiring):
    rng = np.random.default_rng(0)
    weights, phi = rng.normal(size=(N, N)), rng.normal(size=(20, N))
    cells = wiring.cells(weights)
    # the bench: a channel's phi, inverted or not, lights its column; a channel reads its row, inverted or not
    light = np.zeros((20, N))
    light[:, wiring.column] = phi * wiring.drive_sign
    read = (light @ cells.T)[:, wiring.row] * wiring.read_sign
    np.testing.assert_allclose(read, phi @ weights.T)
    np.testing.assert_array_equal(wiring.weights(cells), weights)


def test_probes_by_column_and_row_see_the_cells_themselves(wiring):
    rng = np.random.default_rng(1)
    cells, asked = rng.normal(size=(N, N)), rng.normal(size=(20, N))
    for at_phi in (True, False):
        codes = wiring.drives(asked, at_phi=at_phi)
        light = np.zeros((20, N))
        light[:, wiring.column] = codes * (wiring.drive_sign if at_phi else 1.0)
        read = (light @ cells.T)[:, wiring.row] * wiring.read_sign
        np.testing.assert_allclose(wiring.rows(read), asked @ cells.T)


def test_a_record_keeps_it(wiring):
    again = Wiring.of(wiring.arrays())
    for name in ("column", "row", "drive_sign", "read_sign"):
        np.testing.assert_array_equal(getattr(again, name), getattr(wiring, name))
    assert Wiring.of({}) is None


@pytest.mark.parametrize("flipped", [(), ("row",), ("column",), ("row", "column")])
@pytest.mark.parametrize("exchanged", [False, True])
def test_a_rig_file_says_it_as_simply_as_it_can(flipped, exchanged):
    places = {name: np.arange(N)[:: -1 if name in flipped else 1] for name in ("row", "column")}
    found = Wiring(**places, drive_sign=np.ones(N), read_sign=np.full(N, -1.0 if exchanged else 1.0))
    said = WiringConfig.of(found, dead=(2,))
    assert said.drive == said.read == tuple(range(N))
    assert said.inverted_read == ()
    assert said.halves_exchanged == exchanged
    assert said.panel_flip == {
        (): "none", ("row",): "rows", ("column",): "columns", ("row", "column"): "both",
    }[flipped]  # fmt: skip
    again = said.resolved(N)
    np.testing.assert_array_equal(again.row, found.row)
    np.testing.assert_array_equal(again.column, found.column)
    np.testing.assert_array_equal(again.read_sign, found.read_sign)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"drive": (0, 1, 2, 3, 4, 4)}, "wiring.drive has 4 twice; allowed: each of 0 to 5 once"),
        ({"read": (0, 1, 2, 3, 4, 6)}, "wiring.read has 6; allowed: each of 0 to 5 once"),
        ({"read": (0, 1)}, "wiring.read has 2 places; allowed: each of 0 to 5 once"),
        ({"inverted_drive": (6,)}, "wiring.inverted_drive has 6; allowed: channels 0 to 5"),
        ({"dead": (1, 1)}, "wiring.dead has 1 twice; allowed: channels 0 to 5, each once"),
    ],
)
def test_what_is_no_wiring_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        WiringConfig(**values).check(N)
