"""Data sets and victims of the prediction-API study, as Tramer et al. 2016, table 3, has them."""

from __future__ import annotations

import functools
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from assay.adapters import SklearnModel
from assay.data import Dataset, load_data
from assay.errors import InvalidInput

BINARY = {
    "Circles": "circles",
    "Moons": "moons",
    "Breast Cancer": "breast-cancer-wisconsin.data",
    "Diabetes": "pima-indians-diabetes.csv",
    "Mushrooms": "agaricus-lepiota.data",
    "Adult (Income)": "adult",
}
# Three sets come as raw files of the UCI repository in ASSAY_DATA, or its folder "tabular";
# where a file is missing, a set that everyone has stands in: scikit-learn's 30-column breast
# cancer, one cultivar of wine against the others, odd against even digits.
STANDINS = {
    "Breast Cancer": ("Breast Cancer*", "breast-cancer"),
    "Diabetes": ("Wine*", "wine"),
    "Mushrooms": ("Odd Digits*", "digits"),
}
MULTICLASS = {
    "Blobs": "blobs",
    "Iris": "iris",
    "5-Class": "five-class",
    "Steak": "steak",
    "GSS": "gss",
    "Adult (Race)": "adult:target=race",
    "Digits": "digits",
}

# Kernel machines have the defaults of libsvm's svm-train, C = 1 and gamma = 1 / d: the public code
# of the paper opens files under the name that svm-train gives by default, and the published adaptive
# attack takes that gamma without a search.
UNITS = 20  # hidden units of networks, as published
_TRAINED, _ASKED = 3000, 5000  # rows of kernel machines, which are slow to ask


@dataclass(frozen=True, eq=False)
class Case:
    """A victim with the rows that it was not fitted on, and all rows, in ``[-1, 1]^d``."""

    name: str
    estimator: LogisticRegression | MLPClassifier | SVC
    held_out: Dataset
    rows: Dataset

    @property
    def model(self) -> SklearnModel:
        """The victim, to be asked."""
        return SklearnModel(self.estimator, name=self.name)

    @property
    def size(self) -> int:
        """Features."""
        return self.held_out.x.shape[1]

    @property
    def classes(self) -> int:
        """Classes."""
        return len(self.estimator.classes_)


def cases(names: dict[str, str], kind: str = "logistic") -> list[Case]:
    """Return the fitted victims of all sets that are at hand; says which are not."""
    found = []
    for wanted, given in names.items():
        stored = "." not in given or _stored(given) is not None
        name, spec = (wanted, given) if stored else STANDINS[wanted]
        try:
            found.append(_case(name, spec, kind))
        except InvalidInput as error:
            print(f"(without {name}: {error})\n")
    return found


@functools.cache
def _case(name: str, spec: str, kind: str) -> Case:
    raw, y = _uci(name, spec) if "." in spec else _loaded(spec)
    x = _scaled(raw)
    if name == "Wine*":
        y = (y == 1).astype(np.int64)
    if name == "Odd Digits*":
        y = y % 2
    order = np.random.default_rng(0).permutation(len(x))
    cut = int(0.7 * len(x))
    train, test = order[:cut], order[cut:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 200 steps are the victim's own business
        if kind == "logistic":
            estimator = LogisticRegression(max_iter=200).fit(x[train], y[train])
        elif kind == "network":
            network = MLPClassifier((UNITS,), activation="tanh", max_iter=300, random_state=0)
            estimator = network.fit(x[train], y[train])
        else:
            estimator = SVC(C=1.0, gamma="auto").fit(x[train[:_TRAINED]], y[train[:_TRAINED]])
            order = order[:_ASKED]
    held_out, rows = (
        Dataset.from_arrays(x[part], y[part], value_range=(-1.0, 1.0), name=name) for part in (test, order)
    )
    return Case(name, estimator, held_out, rows)


def _loaded(spec: str) -> tuple[np.ndarray, np.ndarray]:
    data = load_data(spec)
    return data.x.flatten(1).double().numpy(), data.y.numpy()


def _stored(file: str) -> Path | None:
    folder = Path(os.environ.get("ASSAY_DATA", "."))
    return next((path for path in (folder / file, folder / "tabular" / file) if path.is_file()), None)


def _uci(name: str, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a raw file as LIBSVM's version of the set has it."""
    path = _stored(file)
    assert path is not None
    rows = np.array([line.split(",") for line in path.read_text().split()])
    if name == "Mushrooms":
        y, columns = rows[:, 0], np.delete(rows, (0, 11), axis=1).T  # stalk-root is missing too often
        dummies = [column[:, None] == np.unique(column) for column in columns]
        return np.concatenate(dummies, axis=1).astype(float), (y == "p").astype(np.int64)
    rows = rows[(rows != "?").all(axis=1)].astype(float)
    # Breast cancer keeps the number of the sample among its ten columns, as LIBSVM does.
    return rows[:, :-1], (rows[:, -1] == rows[:, -1].max()).astype(np.int64)


def _scaled(x: np.ndarray) -> np.ndarray:
    low, high = x.min(axis=0), x.max(axis=0)
    return 2 * (x - low) / np.where(high > low, high - low, 1.0) - 1


def rule(head: list[str]) -> None:
    """Print the head of a Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head), flush=True)


def line(cells: list[object]) -> None:
    """Print a row of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
