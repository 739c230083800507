"""Pictures show the numbers they claim to show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.patches import Rectangle

from labctl.reports import (
    DARK,
    LIGHT,
    chain_figure,
    norms_figure,
    picture_grid_figure,
    placed_matrix_figure,
    samples_figure,
    scan_figure,
    settle_figure,
    settle_statistics,
    to_png,
)
from labctl.runlog import LayerSlice


def test_samples_and_data_share_axes_and_point_count() -> None:
    rng = np.random.default_rng(0)
    samples, data = rng.normal(size=(100, 2)), rng.normal(size=(3000, 2)) * [1, 4]
    left, right = samples_figure(samples, data).axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    assert left.get_aspect() == right.get_aspect() == 1.0
    assert [len(axes.collections[0].get_offsets()) for axes in (left, right)] == [100, 100]
    assert left.get_title(loc="left") == "Data  (100 of 3,000)"


def test_points_that_are_not_finite_are_left_out() -> None:
    samples = np.array([[0.0, 1.0], [np.nan, 0.0], [np.inf, 2.0], [1.0, 0.0]])
    (axes,) = samples_figure(samples, labels=np.array([0, 1, 2, 3])).axes
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[0.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize(("count", "d"), [(1, 1), (1, 2), (50, 12), (8000, 1), (8000, 2)])
def test_samples_of_any_dimension_draw(count: int, d: int) -> None:
    rng = np.random.default_rng(0)
    figure = samples_figure(rng.normal(size=(count, d)), rng.normal(size=(9000, d)), theme=DARK)
    assert to_png(figure, DARK, dpi=40).startswith(b"\x89PNG")


def test_the_matrix_outlines_the_blocks_and_keeps_zeros_apart() -> None:
    layers = (LayerSlice("u", 0, 2), LayerSlice("h1", 2, 5), LayerSlice("h2", 5, 9))
    codes = np.arange(100).reshape(10, 10) % 15 - 7
    axes = placed_matrix_figure(codes, layers, bits=4).axes[0]
    boxes = {
        (patch.get_x() + 0.5, patch.get_y() + 0.5, patch.get_width(), patch.get_height())
        for patch in axes.patches
        if isinstance(patch, Rectangle)
    }
    # (input start, output start, inputs, outputs): h2 -> u, u -> h1, h1 -> h2
    assert boxes == {(5, 0, 4, 2), (0, 2, 2, 3), (2, 5, 3, 4)}
    image = axes.images[0]
    shown = np.ma.getmaskarray(image.get_array())
    assert not shown[0, 5]
    assert shown[0, 0]
    assert shown[9].all()
    assert image.get_clim() == (-7, 7)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["u  2", "h1  3", "h2  4"]


def test_a_dense_matrix_needs_no_layers() -> None:
    axes = placed_matrix_figure(np.eye(6) * 0.5).axes[0]
    assert axes.images[0].get_clim() == (-0.5, 0.5)
    assert not axes.patches


def test_settling_marks_wait_percentile_and_unsettled() -> None:
    times = np.stack([np.linspace(1, 5, 100), np.append(np.linspace(1, 5, 98), [np.nan, np.nan])])
    axes = settle_figure(times, wait_us=8.5, tau_us=0.75).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert "wait 8.5 µs" in texts
    assert "2.0% unsettled" in texts
    assert any(text == "95%: 4.8" for text in texts)
    assert axes.get_xlim()[1] > 8.5


def test_a_straggler_is_counted_instead_of_squeezing_the_rest() -> None:
    axes = settle_figure([np.append(np.linspace(1, 5, 99), 54.0)], wait_us=8.5).axes[0]
    assert axes.get_xlim()[1] < 12
    assert "1 slower" in [text.get_text() for text in axes.texts]


def test_the_frame_is_the_data_s_and_outsiders_are_counted() -> None:
    rng = np.random.default_rng(0)
    data, samples = rng.uniform(-1, 1, size=(1000, 2)), rng.uniform(-1, 1, size=(1000, 2))
    samples[:3] = 50.0
    left, right = samples_figure(samples, data).axes
    assert left.get_xlim()[1] < 2
    assert right.get_title(loc="left") == "Samples from the run  (1,000, 3 outside)"


def test_settling_of_many_steps_becomes_lines() -> None:
    axes = settle_figure(np.random.default_rng(0).gamma(9, 0.4, size=(40, 64)), wait_us=8.5).axes[0]
    assert axes.get_legend() is not None
    assert to_png(axes.figure, dpi=40)


@settings(max_examples=50)
@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.one_of(st.floats(0, 100), st.just(float("nan"))))
)
def test_settle_percentiles_count_the_unsettled_as_slowest(times: np.ndarray) -> None:
    found = settle_statistics(times)
    assert found.p50_us <= found.p95_us <= found.p99_us <= found.max_us
    assert found.unsettled_share == pytest.approx(np.isnan(times).mean())
    assert np.isinf(found.max_us) == np.isnan(times).any()
    # "95% within p95" must hold for the samples as counted
    assert np.mean(np.where(np.isnan(times), np.inf, times) <= found.p95_us) >= 0.95


def test_norms_scan_chain_and_grids_draw_in_both_themes() -> None:
    rng = np.random.default_rng(0)
    table = {"bits": np.array([4.0, 2.0, 3.0]), "E": np.array([1.0, 3.0, 2.0]), "empty": np.full(3, np.nan)}
    pictures = rng.integers(0, 255, size=(5, 28, 28), dtype=np.uint8)
    for theme in (LIGHT, DARK):
        for figure in (
            norms_figure(rng.lognormal(size=(3, 20)), np.full((3, 20), np.nan), theme=theme),
            chain_figure([rng.normal(size=(30, 2)) for _ in range(9)], list("abcdefghi"), theme=theme),
            picture_grid_figure(pictures, theme=theme),
        ):
            assert to_png(figure, theme, dpi=40).startswith(b"\x89PNG")
        (axes,) = scan_figure(table, "bits", "E", theme=theme).axes
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), [2, 3, 4])
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), [3, 2, 1])
    assert len(chain_figure([rng.normal(size=(30, 2))] * 9, list("abcdefghi")).axes) == 6


def test_a_grid_with_classes_has_one_class_a_column() -> None:
    stack = np.repeat(np.arange(6, dtype=np.uint8)[:, None], 16, axis=1).reshape(6, 4, 4)
    labels = np.array([1, 0, 1, 0, 1, 0])
    axes = picture_grid_figure(stack, labels=labels, class_names=["a", "b"], rows=3, columns=2).axes[0]
    sheet = np.asarray(axes.images[0].get_array())
    assert [sheet[row * 6, 0] for row in range(3)] == [1, 3, 5]
    assert [sheet[row * 6, 6] for row in range(3)] == [0, 2, 4]
    assert [text.get_text() for text in axes.texts] == ["a", "b"]


def test_columns_of_one_quantity_share_an_axes() -> None:
    table = {"steps": np.arange(3.0), "E_euler": np.ones(3), "E_midpoint": np.zeros(3), "p95_us": np.ones(3)}
    series = {"E_euler": ("E", "euler"), "E_midpoint": ("E", "midpoint")}
    first, second = scan_figure(table, "steps", "E_midpoint", units={"p95_us": "us"}, series=series).axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("E", "p95 (µs)")
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["euler", "midpoint"]
    assert second.get_legend() is None
