"""Data sets and victims of the prediction-API study, as Tramer et al. 2016, table 3, has them."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from assay.adapters import SklearnModel
from assay.data import Dataset, load_data
from assay.errors import InvalidInput

# Mushrooms, Diabetes (Pima) and the 10-column Breast Cancer are not bundled anywhere; wine
# (one cultivar against the others), odd against even digits and scikit-learn's 30-column
# breast cancer stand in for them.
BINARY = {
    "Circles": "circles",
    "Moons": "moons",
    "Breast Cancer*": "breast-cancer",
    "Wine*": "wine",
    "Odd Digits*": "digits",
    "Adult (Income)": "adult",
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


@dataclass(frozen=True, eq=False)
class Case:
    """A victim with the rows that it was not fitted on, all in ``[-1, 1]^d``."""

    name: str
    estimator: LogisticRegression | SVC
    held_out: Dataset

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
    for name, spec in names.items():
        try:
            found.append(_case(name, spec, kind))
        except InvalidInput as error:
            print(f"(without {name}: {error})\n")
    return found


@functools.cache
def _case(name: str, spec: str, kind: str) -> Case:
    data = load_data(spec)
    x, y = _scaled(data.x.flatten(1).double().numpy()), data.y.numpy()
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
        else:
            # A kernel machine of a size that can be asked 10,000 questions in a second.
            some = train[:1000]
            estimator = SVC(C=10.0, gamma=1.0 / x.shape[1]).fit(x[some], y[some])
    held_out = Dataset.from_arrays(x[test], y[test], value_range=(-1.0, 1.0), name=name)
    return Case(name, estimator, held_out)


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
