"""Sets that a data folder or the operating system holds, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from assay.data.archive import npz
from assay.data.catalogue import Card, Parts, require_stored, source
from assay.data.cifar import read_cifar
from assay.data.dataset import Dataset
from assay.data.idx import idx, is_idx
from assay.data.sheets import is_sheets, sheets
from assay.data.table import read_table

__all__ = ["adult", "cifar10", "cifar100", "fashion_mnist", "gss", "mnist", "steak"]

_STEAL_ML = "it is in the data folder of github.com/ftramer/Steal-ML"


@source(
    "mnist",
    Card(
        "stored",
        "60,000 + 10,000 images 1x28x28, 10 classes",
        "download storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz into mnist/",
        "CC BY-SA 3.0",
        ("mnist/mnist.npz", "mnist.npz", "mnist"),
    ),
)
def mnist() -> Dataset | Parts:
    """Handwritten digits of LeCun et al. 1998: mnist.npz or IDX files."""
    return _images(require_stored("mnist"))


@source(
    "fashion-mnist",
    Card(
        "stored",
        "60,000 + 10,000 images 1x28x28, 10 classes",
        "install the package dataset-fashion-mnist (Debian, Ubuntu), or download the four IDX files from "
        "github.com/zalandoresearch/fashion-mnist into fashion-mnist/",
        "MIT",
        ("fashion-mnist",),
    ),
)
def fashion_mnist() -> Dataset | Parts:
    """Pictures of clothes of Xiao et al. 2017, as IDX files."""
    return _images(require_stored("fashion-mnist"))


@source(
    "cifar10",
    Card(
        "stored",
        "50,000 + 10,000 images 3x32x32, 10 classes",
        "unpack www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "cite Krizhevsky 2009",
        ("cifar10", "cifar-10-batches-bin"),
    ),
)
def cifar10() -> Dataset | Parts:
    """CIFAR-10: sheets of tiles, or the official binary version."""
    return _images(require_stored("cifar10"))


@source(
    "cifar100",
    Card(
        "stored",
        "up to 50,000 + 10,000 images 3x32x32, 100 classes",
        "unpack www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "cite Krizhevsky 2009",
        ("cifar100", "cifar-100-binary"),
    ),
)
def cifar100() -> Dataset | Parts:
    """CIFAR-100 with fine labels: sheets of tiles, or the official binary version."""
    return _images(require_stored("cifar100"))


@source(
    "adult",
    Card(
        "stored",
        "32,561 rows of 108 (income, 2 classes) or 105 (race, 5 classes)",
        f"{_STEAL_ML} as aws_adult.csv; a similar set is openml:adult:version=2",
        "CC BY 4.0",
        tuple(f"{folder}aws_adult.csv{gz}" for folder in ("tabular/", "") for gz in ("", ".gz")),
    ),
)
def adult(target: Literal["income", "race"] = "income") -> Dataset:
    """Adult census; ``?`` is a category, numbers are scaled to [0, 1]."""
    table = read_table(require_stored("adult"), name=f"adult-{target}")
    return table.encode(target)[0]


@source(
    "gss",
    Card(
        "stored",
        "16,127 complete rows of 101, 3 classes",
        f"{_STEAL_ML} as GSShappiness.csv",
        "General Social Survey, NORC: free, cite it",
        tuple(f"{folder}GSShappiness.csv{gz}" for folder in ("tabular/", "") for gz in ("", ".gz")),
    ),
)
def gss() -> Dataset:
    """Happiness of marriage in the General Social Survey; age and children are categories ("89 OR OLDER")."""
    table = read_table(require_stored("gss"), name="gss")
    return table.encode("Happiness of marriage", drop=("year", "id"), missing="drop")[0]


@source(
    "steak",
    Card(
        "stored",
        "331 complete rows of 40, 5 classes",
        f"{_STEAL_ML} as steak.csv",
        "FiveThirtyEight, CC BY 4.0",
        tuple(f"{folder}steak.csv{gz}" for folder in ("tabular/", "") for gz in ("", ".gz")),
    ),
)
def steak() -> Dataset:
    """How people like their steak, a survey; the file has a second header row."""
    table = read_table(require_stored("steak"), header=2, name="steak")
    target = "How do you like your steak prepared?"
    return table.encode(target, drop=("RespondentID",), missing="drop")[0]


def _images(place: Path) -> Dataset | Parts:
    """Read whatever form a stored set of images has."""
    if place.suffix == ".npz":
        return npz(str(place))
    if is_idx(place):
        return idx(str(place))
    if is_sheets(place):
        return sheets(str(place))
    return read_cifar(place)
