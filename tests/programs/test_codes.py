"""Weight codes: round trip, range, signs, and refusals that name the place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from labctl.devices.errors import ProgramError
from labctl.programs.codes import CodedMatrix, ScaleRule, encode, full_scale_code

# Zero, or a magnitude that leaves room for the arithmetic: subnormal numbers are no weights.
values = st.one_of(st.just(0.0), st.floats(1e-6, 1e6), st.floats(-1e6, -1e-6))
matrices = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=values)
)
dense = matrices.map(lambda w: np.where(w == 0, 1.0, w))
many_bits = st.integers(2, 9)
rules = st.sampled_from(["row", "row-mse", "global"])


@given(matrices, many_bits)
def test_row_scale_rounds_to_the_nearest_code(w: NDArray[np.float64], bits: int) -> None:
    coded = encode(w, bits)
    step = coded.scale / full_scale_code(bits)
    assert (np.abs(coded.weights() - w) <= 0.5 * step[:, None] * (1 + 1e-9)).all()


@given(matrices, many_bits, rules)
def test_codes_stay_in_range_with_the_sign_of_the_weight(
    w: NDArray[np.float64], bits: int, rule: ScaleRule
) -> None:
    coded = encode(w, bits, rule)
    assert np.abs(coded.codes).max() <= 2 ** (bits - 1) - 1
    assert (coded.codes * np.sign(w) >= 0).all()
    assert (coded.codes[w == 0] == 0).all()
    assert (coded.scale > 0).all()


@given(matrices, many_bits, rules)
def test_coding_a_coded_matrix_changes_nothing(w: NDArray[np.float64], bits: int, rule: ScaleRule) -> None:
    once = encode(w, bits, rule).weights()
    np.testing.assert_allclose(encode(once, bits, rule).weights(), once, rtol=1e-12)


@given(dense, st.integers(1, 9), rules)
def test_the_sign_paths_are_alike(w: NDArray[np.float64], bits: int, rule: ScaleRule) -> None:
    plus, minus = encode(w, bits, rule), encode(-w, bits, rule)
    assert (plus.codes == -minus.codes).all()
    np.testing.assert_allclose(plus.scale, minus.scale)


@given(matrices, many_bits)
def test_a_row_scale_makes_each_row_independent_of_the_others(w: NDArray[np.float64], bits: int) -> None:
    factor = 2.0 ** np.arange(len(w))
    scaled = encode(w * factor[:, None], bits)
    coded = encode(w, bits)
    assert (scaled.codes == coded.codes).all()


@given(dense)
def test_one_bit_is_the_sign_with_the_mean_size(w: NDArray[np.float64]) -> None:
    coded = encode(w, 1)
    assert (coded.codes == np.sign(w)).all()
    np.testing.assert_allclose(coded.weights(), np.sign(w) * np.abs(w).mean(axis=1, keepdims=True))


def test_the_formula_of_the_conventions() -> None:
    coded = encode([[0.7, -0.35, 0.0, 0.08]], 4)
    assert coded.codes.tolist() == [[7, -4, 0, 1]]  # -3.5 rounds to the even code
    np.testing.assert_allclose(coded.weights(), 0.7 * np.array([[7, -4, 0, 1]]) / 7)


def test_least_squares_scale_has_no_larger_error_and_global_has_more() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((40, 23)) * np.logspace(-1, 0, 40)[:, None]

    def error(rule: ScaleRule) -> float:
        return float(((encode(w, 4, rule).weights() - w) ** 2).sum())

    assert error("row-mse") < error("row") < error("global")


@pytest.mark.parametrize("bits", [0, 10, -1, 4.0, True, "4"])
def test_bits_outside_one_to_nine_are_refused(bits: object) -> None:
    with pytest.raises(ProgramError, match=r"bits = .*1 to 9"):
        encode([[1.0]], bits)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_named(bad: float) -> None:
    w = np.ones((3, 4))
    w[1, 2] = bad
    with pytest.raises(ProgramError, match="row 1, column 2"):
        encode(w, 4)


def test_one_bit_refuses_structural_zeros() -> None:
    mask = np.array([[True, False], [True, True]])
    with pytest.raises(ProgramError, match="row 0, column 1 is 0"):
        encode([[1.0, 0.0], [1.0, 2.0]], 1, mask=mask)
    with pytest.raises(ProgramError, match="row 1, column 0 is 0"):
        encode([[1.0, 2.0], [0.0, 1.0]], 1)


def test_masks_are_checked() -> None:
    with pytest.raises(ProgramError, match="structural zero"):
        encode([[1.0, 2.0]], 4, mask=[[True, False]])
    with pytest.raises(ProgramError, match="mask of shape"):
        encode([[1.0, 2.0]], 4, mask=[[True]])
    assert encode([[1.0, 0.0]], 4, mask=[[True, False]]).codes.tolist() == [[7, 0]]


def test_unknown_rule_and_odd_shapes_are_refused() -> None:
    with pytest.raises(ProgramError, match="scale = 'column'"):
        encode([[1.0]], 4, "column")  # type: ignore[arg-type]
    with pytest.raises(ProgramError, match="shape"):
        encode([1.0, 2.0], 4)


def test_a_coded_matrix_checks_what_it_is_given() -> None:
    with pytest.raises(ProgramError, match="-7 to 7"):
        CodedMatrix(np.array([[8]]), np.array([1.0]), 4)
    with pytest.raises(ProgramError, match="-7 to 7"):
        CodedMatrix(np.array([[65536 + 3]]), np.array([1.0]), 4)  # would wrap to 3 in 16 bits
    with pytest.raises(ProgramError, match="scale of row 1"):
        CodedMatrix(np.array([[1], [1]]), np.array([1.0, 0.0]), 4)
    with pytest.raises(ProgramError, match="code 0"):
        CodedMatrix(np.array([[0, 1]]), np.array([1.0]), 1)
    with pytest.raises(ProgramError, match="shape"):
        CodedMatrix(np.array([[1, 1]]), np.array([1.0, 1.0]), 4)
    with pytest.raises(ProgramError, match="whole numbers"):
        CodedMatrix(np.array([[0.5]]), np.array([1.0]), 4)


def test_a_coded_matrix_cannot_be_changed() -> None:
    coded = encode([[1.0, -0.5]], 4)
    with pytest.raises(ValueError, match="read-only"):
        coded.codes[0, 0] = 3
