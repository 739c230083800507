"""Own data: what is read, and how what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.devices.errors import DataError
from labctl.models.points import PointTable, load_points

POINTS = np.array([[1.0, 20.0], [2.0, 10.0], [4.0, 60.0]])


def test_npy_npz_and_csv_give_the_same_table(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    np.savez(tmp_path / "a.npz", points=POINTS)
    np.savez(tmp_path / "two.npz", other=np.zeros(3), points=POINTS)
    (tmp_path / "plain.csv").write_text("1,20\n2,10\n4,60\n")
    (tmp_path / "header.csv").write_text("# lab 3\nx; y\n1;20\n\n2;10\n4;60\n", encoding="utf-8-sig")
    (tmp_path / "tab.csv").write_text("name\tx\ty\na\t1\t20\nb\t2\t10\nc\t4\t60\n")
    tables = [
        load_points(tmp_path / "a.npy"),
        load_points(tmp_path / "a.npz"),
        load_points(tmp_path / "two.npz", key="points"),
        load_points(tmp_path / "plain.csv"),
        load_points(str(tmp_path / "header.csv")),
        load_points(tmp_path / "tab.csv", columns=["x", "y"]),
        load_points(tmp_path / "tab.csv", columns=[1, 2]),
    ]
    for table in tables:
        np.testing.assert_allclose(table.affine.restore(table.points), POINTS)
        np.testing.assert_allclose(table.points.std(axis=0), 1.0)
        assert table.checksum() == tables[0].checksum()
        assert table.dim == 2


def test_draws_are_rows_of_the_table() -> None:
    table = PointTable.standardised(POINTS, labels=[0, 1, 1], n_classes=2)
    drawn, labels = table.draw(500, np.random.default_rng(0))
    assert labels is not None
    rows = {tuple(p): int(c) for p, c in zip(table.points, [0, 1, 1], strict=True)}
    assert all(rows[tuple(p)] == c for p, c in zip(drawn, labels, strict=True))
    assert len({tuple(p) for p in drawn}) == 3


def test_columns_are_chosen(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.hstack([POINTS, POINTS[:, ::-1]]))
    table = load_points(tmp_path / "wide.npy", columns=[3, 1])
    np.testing.assert_allclose(table.affine.restore(table.points), POINTS)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([[1.0, 2.0], [np.nan, 3.0]]), "point 1, column 0 is nan"),
        (np.array([[1.0, 2.0], [3.0, np.inf]]), "point 1, column 1 is inf"),
        (np.array([[1.0, 2.0]]), r"1 point\(s\): 2 or more"),
        (np.array([[1.0], [2.0]]), r"1 column\(s\): 2 or more"),
        (np.zeros((4, 2, 2)), r"shape \(4, 2, 2\)"),
        (np.arange(5.0), r"shape \(5,\)"),
        (np.array([[1.0, 2.0], [3.0, 2.0]]), "column 1 is 2.0 throughout"),
        (np.array([[1, 2], [3, 4]], dtype=complex), "complex128"),
        (np.array([["a", "b"], ["c", "d"]]), "real numbers"),
    ],
)
def test_tables_that_make_no_sense_are_refused_with_the_file_named(
    tmp_path: Path, array: np.ndarray, said: str
) -> None:
    path = tmp_path / "mine.npy"
    np.save(path, array)
    with pytest.raises(DataError, match=rf"mine\.npy.*{said}"):
        load_points(path)


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.random.default_rng(0).random((50, 2)))
    np.savez(tmp_path / "whole.npz", POINTS)
    for name in ("whole.npy", "whole.npz"):
        whole = (tmp_path / name).read_bytes()
        for length in (len(whole) - 7, len(whole) // 2, 20, 3, 0):
            cut = tmp_path / f"cut{name[5:]}"
            cut.write_bytes(whole[:length])
            with pytest.raises(DataError, match=r"cut\.np"):
                load_points(cut)
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="objects"):
        load_points(tmp_path / "objects.npy")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2\n3,4,5\n", "line 2 has 3 fields"),
        ("x,y\n1,2\n3,four\n", "line 3, column y: 'four'"),
        ("", "empty"),
        ("x,y\n", r"0 point\(s\)"),
        ("1\n2\n", r"1 column\(s\)"),
        ("1,2\nnan,3\n", "point 1, column 0 is nan"),
    ],
)
def test_csv_that_makes_no_sense(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"mine\.csv.*{said}"):
        load_points(path)


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_points(tmp_path / "none.npy")
    with pytest.raises(DataError, match=r"\.txt.*\.npy, \.npz, \.csv"):
        load_points(tmp_path / "a.txt")
    np.savez(tmp_path / "two.npz", a=POINTS, b=POINTS)
    with pytest.raises(DataError, match="holds a, b"):
        load_points(tmp_path / "two.npz")
    np.save(tmp_path / "a.npy", POINTS)
    with pytest.raises(DataError, match="no column 2; columns 0 to 1"):
        load_points(tmp_path / "a.npy", columns=[0, 2])
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe1,2\n")
    with pytest.raises(DataError, match="UTF-8"):
        load_points(tmp_path / "bytes.csv")
    with pytest.raises(DataError, match="labels 0 to 2: 0 to 1"):
        PointTable.standardised(POINTS, labels=[0, 1, 2], n_classes=2)
