"""Decision trees: table 6 of Tramer et al. 2016 beside ours.

Run ``ASSAY_DATA=... python studies/prediction_apis/trees.py``; two minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from markdown import table
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from assay.adapters import SklearnModel
from assay.data.catalogue import require_stored
from assay.data.coded import CodedTable, code_table
from assay.data.sources import adult, gss, steak  # noqa: F401 - registers where they are stored
from assay.data.table import read_table
from assay.defences.categories import Categories
from assay.defences.leaf_identity import LeafIdentity
from assay.errors import InvalidInput
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.path_finding import PathFinding
from assay.model import Access, Model

UNIFORM = 10_000
# 1 - R_test, 1 - R_unif in per cent, and queries: bottom-up, then top-down.
PUBLISHED = {
    "Steak": ((92.45, 86.40, 3_652), (100.0, 100.0, 4_013)),
    "GSS": ((99.98, 99.61, 7_434), (100.0, 99.65, 2_752)),
}
METHODS = {
    "published bottom-up, re-run": PathFinding(method="line-search", verify=0, precision=None, fields=False),
    "bottom-up": PathFinding(method="bottom-up", fields=False),
    "top-down": PathFinding(method="top-down", fields=False),
    "top-down, fields": PathFinding(method="top-down"),
}


class AnyTree(LeafIdentity):
    """Leaf identities of regression trees as well, which have no scores."""

    needs = Access.LABELS


@dataclass(frozen=True, eq=False)
class Victim:
    """A tree, the service that shows it, and inputs to compare on."""

    name: str
    rows: int
    tree: Any
    service: Model
    domain: Domain
    x: np.ndarray
    front: Categories

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return what the owner's tree says about raw rows."""
        return np.asarray(self.tree.predict(self.front.encode(x)))


def surveys() -> list[Victim]:
    """Return the trees of the surveys that are at hand; says which are not."""
    makers = {
        "Steak": (
            "steak",
            2,
            "How do you like your steak prepared?",
            {"drop": ("RespondentID", "Do you eat steak?")},
            193,
        ),
        "GSS": (
            "gss",
            1,
            "Happiness of marriage",
            {"drop": ("year", "id"), "numbers": ("age", "children")},
            159,
        ),
        "Adult (Income)": ("adult", 1, "income", {}, 200),
    }
    found = []
    for name, (source, header, target, options, leaves) in makers.items():
        try:
            read = read_table(require_stored(source), header=header, name=source)
        except InvalidInput as error:
            print(f"(without {name}: {error})\n")
            continue
        coded = code_table(read, target, **options)
        found.append(_victim(name, coded, DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0)))
    return found


def bundled() -> list[Victim]:
    """Return trees of sets that come with scikit-learn."""
    found = []
    for name, loader, estimator in (
        ("Breast Cancer*", load_breast_cancer, DecisionTreeClassifier(random_state=0)),
        ("Digits*", load_digits, DecisionTreeClassifier(max_leaf_nodes=100, random_state=0)),
        ("Diabetes* (regression)", load_diabetes, DecisionTreeRegressor(max_leaf_nodes=49, random_state=0)),
        ("Diabetes* (regression)", load_diabetes, DecisionTreeRegressor(max_leaf_nodes=155, random_state=0)),
    ):
        x, y = loader(return_X_y=True)
        keep = x.max(axis=0) > x.min(axis=0)
        x = x[:, keep]
        names = tuple(str(i) for i in range(x.shape[1]))
        coded = CodedTable(x, y, names, ((),) * x.shape[1], ())
        found.append(_victim(name, coded, estimator))
    return found


def _victim(name: str, coded: CodedTable, estimator: Any) -> Victim:
    front = Categories(categories=coded.sizes)
    tree = estimator.fit(front.encode(coded.x), coded.y)
    coarse = np.array(coded.sizes) > 0
    low = np.where(coarse, 0.0, coded.x.min(axis=0))
    high = np.where(coarse, np.array(coded.sizes) - 1.0, coded.x.max(axis=0))
    # A regression tree's leaves differ in value; its confidence says nothing.
    service = front.wear(AnyTree(digits=5).serve(tree, name))
    some = np.random.default_rng(0).permutation(len(coded.x))[:10_000]
    return Victim(name, len(coded.x), tree, service, Domain(low, high, coded.sizes), coded.x[some], front)


def rate(victim: Victim, copy: Any, x: np.ndarray) -> float:
    """Return the share of rows, in per cent, on which the copy says what the tree says."""
    ours, theirs = copy.predict(x), victim.predict(x)
    same = np.isclose(ours, theirs, rtol=0, atol=1e-5) if theirs.dtype.kind == "f" else ours == theirs
    return 100 * float(same.mean())


def identities(victim: Victim) -> int:
    """Return how many different answers the leaves give."""
    inner = victim.tree.tree_
    inside = LeafIdentity(digits=5)
    if hasattr(victim.tree, "classes_"):
        model = inside.wear(SklearnModel(victim.tree))
        shown = np.column_stack([model._value, model._confidence])  # noqa: SLF001 - the owner's own view
    else:
        shown = np.round(inner.value[:, 0], 5)
    return len(np.unique(shown[inner.feature < 0], axis=0))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", help="sets whose name contains this")
    given = options.parse_args()
    torch.set_num_threads(1)
    rows: list[list[object]] = []
    for victim in [*surveys(), *bundled()]:
        if given.only and given.only.casefold() not in victim.name.casefold():
            continue
        u = victim.domain.uniform(UNIFORM, np.random.default_rng(999))
        leaves = f"{victim.tree.get_n_leaves()} / {identities(victim)} / {victim.tree.get_depth()}"
        size = f"{victim.rows:,} x {victim.domain.size}"
        for method, (test, unif, queries) in zip(
            ("published: bottom-up", "published: top-down"), PUBLISHED.get(victim.name, ()), strict=False
        ):
            rows.append(
                [victim.name, "", "", method, f"{test:.2f}", f"{unif:.2f}", f"{queries:,}", "", "", ""]
            )
        for method, attack in METHODS.items():
            started = time.process_time()
            theft = attack.run(victim.service, domain=victim.domain)
            seconds = time.process_time() - started
            cost = theft.record.cost
            rows.append(
                [
                    victim.name,
                    size,
                    leaves,
                    method,
                    f"{rate(victim, theft.found.model, victim.x):.2f}",
                    f"{rate(victim, theft.found.model, u):.2f}",
                    f"{cost.queries:,}",
                    cost.round_trips,
                    f"{seconds:.1f}",
                    ", ".join(theft.worth.flags),
                ]
            )
    head = ["set", "rows x features", "leaves / identities / depth", "method"]
    table([*head, "1 - R_test %", "1 - R_unif %", "queries", "rounds", "s", "flags"], rows)


if __name__ == "__main__":
    main()
