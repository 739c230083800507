"""A measured panel's frames: pixels by the cells' places, levels by their own responses, zeros balanced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.devices import CalibrationRecord, ModulatorSpec, ProgramError
from labctl.programs import CellMap, crosstalk, encode_frame

N = 4
SPEC = ModulatorSpec((90, 180), 256, 1.0, 60.0, "lcos-intensity")
KNOTS = np.unique(np.rint(np.linspace(0, 255, 33)))


def record(
    seed=0, *, leak=0.03, neighbour=0.1, blur=0.0, turn=0.004, zoom=1.0, bend=0.0, mirror=1.0, **arrays
):
    """Cells of 20 x 18 px, every one with its own span; what is passed replaces arrays."""
    rng = np.random.default_rng(seed)
    turned = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    share = neighbour * rng.random((2, N, 2))
    share[:, 0, 0] = share[:, -1, 1] = 0.0
    level = KNOTS / 255
    shape = np.sin(0.48 * np.pi * level ** rng.uniform(1.0, 1.3, (2, 1, 1, 1)) * np.ones((1, N, N, 1))) ** 2
    held = {
        "cell_px": np.array([20.0, 18.0]),
        "path_middle_px": np.array([[45.3, 44.6], [44.9, 134.7]]),
        "path_affine": np.stack([turned @ np.diag([1.0, mirror])] * 2),
        "path_distortion_px": np.full(2, bend),
        "point_spread_px": np.full(2, blur),
        "neighbour_share": share,
        "level_knots": KNOTS,
        "level_shape": shape / shape[..., -1:],
        "span_units": rng.uniform(0.6, 1.2, (2, N, N)),
        "zero_units": leak * rng.normal(size=(N, N)),
        "full_scale_units": np.array([0.5]),
        **arrays,
    }
    return CalibrationRecord("panel (measured)", "test", "now", held)


def areas(known, path, out=8):
    """Share of each optical cell that each pixel fills [n, n, height, width], by sampling."""
    cells = CellMap.of_record(known, path)
    fine = (np.arange(out * N) + 0.5) / out
    places = cells.places(np.stack(np.meshgrid(fine, fine, indexing="ij"), axis=2))
    pixel = np.floor(places).astype(int)
    hit = np.zeros((N, N, *SPEC.shape_px))
    owner = np.arange(out * N) // out
    rows, columns = np.meshgrid(owner, owner, indexing="ij")
    np.add.at(hit, (rows, columns, pixel[..., 0], pixel[..., 1]), 1 / out**2)
    return hit


def seen(known, frame, out=160):
    """Photocurrent in fractions of full scale, from the pixels (no blur), by this test's own arithmetic."""
    zero, span = known.array("zero_units"), known.array("span_units")
    both = []
    for path in (0, 1):
        shape = np.zeros((N, N))
        hit = areas(known, path, out)
        for i, j in np.ndindex(N, N):
            table = np.interp(np.arange(256), KNOTS, known.array("level_shape")[path, i, j])
            shape[i, j] = (hit[i, j] * table[frame]).sum()
        own = span[path] * shape + np.maximum((1, -1)[path] * zero, 0.0)
        both.append(crosstalk(known.array("neighbour_share")[path]) @ own)
    return (both[0] - both[1]) / known.array("full_scale_units")[0]


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), mirror=st.sampled_from([1.0, -1.0]))
def test_what_is_seen_is_what_was_asked(seed, mirror):
    known = record(seed, mirror=mirror)
    fractions = np.random.default_rng(seed).integers(-7, 8, (N, N)) / 7
    frame = encode_frame(fractions, SPEC, known)
    np.testing.assert_allclose(frame.realised, fractions, atol=3e-3)
    np.testing.assert_allclose(seen(known, frame.levels), fractions, atol=0.01)
    assert frame.coercions == ()


def test_structural_zeros_are_balanced_by_the_darker_plane():
    known = record(leak=0.05)
    frame = encode_frame(np.zeros((N, N)), SPEC, known)
    assert np.abs(known.array("zero_units") / 0.5).max() > 0.05
    np.testing.assert_allclose(frame.realised, 0.0, atol=2e-3)
    np.testing.assert_allclose(seen(known, frame.levels), 0.0, atol=3e-3)


def test_a_cell_that_cannot_reach_full_scale_is_clipped_and_told():
    known = record()
    weak = known.array("span_units").copy()
    weak[:, :, 2] = 0.1
    weak[0, 1, 3] = 0.0
    fractions = np.full((N, N), 0.8)
    fractions[:, 2] = -0.8
    frame = encode_frame(fractions, SPEC, replace(known, arrays={**known.arrays, "span_units": weak}))
    (note,) = frame.coercions
    assert note.field == "weight fraction"
    assert note.count == (np.abs(frame.realised - fractions) > 0.01).sum() >= N + 1
    assert abs(frame.realised[1, 3]) < 0.2
    assert (np.abs(frame.realised[:, 2]) < 0.4).all()


def test_pixels_go_to_the_cell_their_centre_lies_in():
    known = record(turn=0.02, bend=0.4, leak=0.0, neighbour=0.0)
    fractions = np.zeros((N, N))
    fractions[1, 2] = 1.0
    frame = encode_frame(fractions, SPEC, known)
    cells = CellMap.of_record(known, 0)
    lit = np.argwhere(frame.levels[:, :90] > 128) + 0.5
    place = cells.cells(lit)
    assert ((place > [1, 2]) & (place < [2, 3])).all()
    assert len(lit) == pytest.approx(np.prod(cells.cell_size_px), rel=0.05)
    np.testing.assert_allclose(cells.places(place), lit, atol=1e-6)
    np.testing.assert_allclose(lit.mean(axis=0), cells.centres()[1, 2], atol=0.3)


def test_a_blurred_neighbour_is_taken_out():
    """A lit cell beside dark ones: what it loses and what they get is in `realised`, and made up for."""
    fractions = np.zeros((N, N))
    fractions[1:3, 1:3] = [[1.0, -1.0], [-1.0, 1.0]]
    sharp, blurred = (encode_frame(fractions, SPEC, record(blur=b, neighbour=0.0)) for b in (0.0, 1.5))
    assert (sharp.levels != blurred.levels).any()
    np.testing.assert_allclose(blurred.realised, fractions, atol=3e-3)


def test_small_cells_and_other_sizes_are_refused():
    with pytest.raises(ProgramError, match=r"cells of 9\.0 x 8\.1 pixels; allowed: at least 10 x 10"):
        encode_frame(np.zeros((N, N)), SPEC, record(zoom=0.45, turn=0.0))
    with pytest.raises(ProgramError, match=r"fractions are \(5, 5\); the panel was measured for \(4, 4\)"):
        encode_frame(np.zeros((5, 5)), SPEC, record())
    with pytest.raises(ProgramError, match=r"a weight fraction is 1\.5; allowed: -1 to 1"):
        encode_frame(np.full((N, N), 1.5), SPEC, record())
