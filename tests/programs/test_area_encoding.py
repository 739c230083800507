"""Weights on mirrors: any number of them spread over a cell; planes whose light adds up to the weight."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration import nominal_panel_record

from labctl.devices import ModulatorSpec, ProgramError
from labctl.programs import encode_frame, encode_planes
from labctl.programs.area_encoding import mirror_ranks

N = 6
SPEC = ModulatorSpec(
    (132, 240), 2, 120.0, 9523.0, "dmd", repeat_us=1000.0, max_planes=24, min_plane_us=100.0, blank_us=8.0
)
RECORD = nominal_panel_record(SPEC, N, "test")


def cells(frame):
    """Pixels of every cell of both paths [2, n, n, pixels], by a loop of its own."""
    height, width = (int(v) for v in RECORD.array("cell_px"))
    out = np.empty((2, N, N, height * width))
    for path, (top, left) in enumerate(RECORD.array("path_origin_px").astype(int)):
        for i in range(N):
            for j in range(N):
                y, x = top + i * height, left + j * width
                out[path, i, j] = frame[y : y + height, x : x + width].ravel()
    return out


def test_as_many_mirrors_are_on_as_the_weight_says():
    fractions = np.random.default_rng(0).uniform(-1, 1, (N, N))
    fractions[0, :3] = 0.0, 1.0, -1.0
    frame = encode_frame(fractions, SPEC, RECORD)
    seen = cells(frame.levels).mean(axis=3)
    np.testing.assert_allclose(seen[0] - seen[1], frame.realised, atol=1e-12)
    assert not (seen[0] * seen[1]).any()
    mirrors = cells(frame.levels).shape[3]
    np.testing.assert_allclose(frame.realised, fractions, atol=0.5 / mirrors + 1e-12)
    assert frame.levels.sum() == cells(frame.levels).sum()  # nothing outside the fields


def test_mirrors_are_spread_so_that_a_shifted_cell_has_its_share():
    """Any 11 x 10 part of a cell (a quarter) has a quarter of the mirrors, within a few."""
    height, width = 22, 20
    ranks = mirror_ranks(height, width)
    assert sorted(ranks.ravel()) == list(range(height * width))
    for k in range(10, height * width, 10):
        on = ranks < k
        parts = [on[y : y + 11, x : x + 10].sum() for y in (0, 5, 11) for x in (0, 5, 10)]
        assert np.abs(np.array(parts) - k / 4).max() < 9


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_planes_add_up_to_the_weights_over_a_sequence(bits):
    fractions = np.random.default_rng(1).uniform(-1, 1, (N, N))
    encoded = encode_planes(fractions, SPEC, RECORD, bits)
    light_us = encoded.durations_us - SPEC.blank_us
    seen = sum(cells(plane).mean(axis=3) * lit for plane, lit in zip(encoded.planes, light_us, strict=True))
    np.testing.assert_allclose((seen[0] - seen[1]) / light_us.sum(), encoded.realised, atol=1e-12)
    np.testing.assert_allclose(encoded.realised, fractions, atol=0.5 / (2**bits - 1) + 1e-12)
    assert encoded.durations_us.min() >= SPEC.min_plane_us
    (note,) = encoded.coercions
    assert note.count == N * N
    exact = encode_planes(encoded.realised, SPEC, RECORD, bits)
    assert exact.coercions == ()
    np.testing.assert_array_equal(exact.planes, encoded.planes)


def test_more_planes_than_there_are_are_refused():
    with pytest.raises(ProgramError, match="of 9 magnitude bits; allowed: 1 to 8"):
        encode_planes(np.zeros((N, N)), SPEC, RECORD, 9)
