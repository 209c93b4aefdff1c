"""Models behind confidences: table 4 of Tramer et al. 2016 beside ours, and linear models of all sets.

Run ``ASSAY_DATA=... python studies/prediction_apis/scores.py``; two minutes on one core.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import torch
from markdown import table
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from victims import MULTICLASS, cases

from assay.adapters import SklearnModel
from assay.data import Dataset, load_data
from assay.errors import InvalidInput
from assay.extraction.exact.algebraic_mlp import AlgebraicMLP
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.equation_solving import EquationSolving

# Model, queries, 1 - R_test and 1 - R_unif in per cent, seconds on a laptop of 2016.
PUBLISHED = [
    ("softmax", 265, 99.96, 99.75, 2.6),
    ("softmax", 530, 100.0, 100.0, 3.1),
    ("one-vs-rest", 265, 99.98, 99.98, 2.8),
    ("one-vs-rest", 530, 100.0, 100.0, 3.5),
    ("MLP", 1_112, 98.17, 94.32, 155),
    ("MLP", 2_225, 98.68, 97.23, 168),
    ("MLP", 4_450, 99.89, 99.82, 195),
    ("MLP", 11_125, 99.96, 99.99, 89),
]
UNIFORM = 10_000


def race() -> tuple[np.ndarray, np.ndarray, Dataset]:
    """Return training rows of Adult (Race) in [-1, 1], and the rows kept aside."""
    data = load_data("adult:target=race")
    x, y = 2 * data.x.double().numpy() - 1, data.y.numpy()
    order = np.random.default_rng(0).permutation(len(x))
    cut = int(0.7 * len(x))
    rest = order[cut:]
    held_out = Dataset.from_arrays(x[rest], y[rest], value_range=(-1.0, 1.0), name="Adult (Race)")
    return x[order[:cut]], y[order[:cut]], held_out


def table_4() -> None:
    """Print softmax, one-vs-rest and MLP on Adult (Race)."""
    try:
        x, y, held_out = race()
    except InvalidInput as error:
        print(f"(without table 4: {error})\n")
        return
    linear = LogisticRegression(max_iter=200)
    victims: dict[str, tuple[Any, list[ExactAttack]]] = {
        "softmax": (linear, [EquationSolving(model="softmax", checks=0)]),
        "one-vs-rest": (
            OneVsRestClassifier(linear),
            [
                EquationSolving(model="one-vs-rest", checks=0),
                EquationSolving(model="one-vs-rest", queries=146, design="uniform", checks=0),
            ],
        ),
        "MLP": (
            MLPClassifier((20,), activation="tanh", max_iter=60, random_state=0),
            [AlgebraicMLP(hidden=20), AlgebraicMLP()],
        ),
    }
    rows: list[list[object]] = []
    for name, (estimator, attacks) in victims.items():
        rows += [
            [model, "published", f"{queries:,}", "", f"{test:.2f}", f"{unif:.2f}", "", "", seconds]
            for model, queries, test, unif, seconds in PUBLISHED
            if model == name
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # epochs and steps are the victim's own business
            estimator.fit(x, y)
        for attack in attacks:
            started = time.process_time()
            theft = attack.run(
                SklearnModel(estimator, name=name), evaluation=held_out, uniform=UNIFORM, truth=estimator
            )
            rows.append([name, _by(attack), *_cells(theft, time.process_time() - started)])
    print("Adult (Race), 105 features, 5 classes.\n")
    table(_HEAD, rows)


def all_sets() -> None:
    """Print softmax and one-vs-rest on every multiclass set, with as few queries as identify them."""
    rows: list[list[object]] = []
    for case in cases(MULTICLASS):
        published = (case.size + 1) * case.classes
        started = time.process_time()
        theft = EquationSolving(model="softmax", checks=0).run(
            case.model, evaluation=case.held_out, uniform=UNIFORM, truth=case.estimator
        )
        rows.append([case.name, f"{published:,}", *_cells(theft, time.process_time() - started)])
    print("Softmax on every set; the published attack needed c(d + 1) queries for R = 0.\n")
    table(["set", "published queries", *_HEAD[2:]], rows)


_HEAD = [
    "model",
    "by",
    "queries",
    "rounds",
    "1 - R_test %",
    "1 - R_unif %",
    "max TV on uniform",
    "largest parameter error",
    "s",
]


def _by(attack: ExactAttack) -> str:
    if isinstance(attack, AlgebraicMLP):
        return attack.name + (", width known" if attack.hidden else ", width found out")
    if isinstance(attack, EquationSolving) and attack.design == "uniform":
        return f"{attack.name}, uniform inputs"
    return attack.name


def _cells(theft: Any, seconds: float) -> list[object]:
    worth, cost = theft.worth, theft.record.cost
    return [
        f"{cost.queries:,}",
        cost.round_trips,
        f"{100 * (1 - worth.r_test.value):.2f}",
        f"{100 * (1 - worth.r_unif.value):.2f}",
        worth.tv_unif_max,
        worth.parameter_error,
        f"{seconds:.1f}",
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    table_4()
    all_sets()


if __name__ == "__main__":
    main()
