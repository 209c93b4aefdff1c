"""Services with hidden feature extraction: table 7 of Tramer et al. 2016 beside ours.

Run ``ASSAY_DATA=... python studies/prediction_apis/services.py``; a minute on one core.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from markdown import table
from sklearn.datasets import load_digits, load_iris, make_circles
from sklearn.linear_model import LogisticRegression

from assay.adapters import SklearnModel
from assay.data.catalogue import require_stored
from assay.data.coded import code_table
from assay.data.sources import adult  # noqa: F401 - registers where it is stored
from assay.data.table import read_table
from assay.defences.hidden_features import HiddenFeatures
from assay.errors import InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.bin_search import BinSearch
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.equation_solving import EquationSolving
from assay.model import Model

# One-hot encoding, binning, queries, seconds, dollars; 100 % agreement in every case.
PUBLISHED = {
    "Circles": (False, True, 278, 28, 0.03),
    "Digits": (False, False, 650, 70, 0.07),
    "Iris": (False, True, 644, 68, 0.07),
    "Adult": (True, True, 1_485, 149, 0.15),
}
PRICE = 1e-4  # dollars a query
BINS = 10
UNIFORM = 10_000


def raw(name: str) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Return raw rows with numbers in [-1, 1], classes, and the number of categories of each feature."""
    if name == "Adult":
        coded = code_table(read_table(require_stored("adult"), name="adult"), "income")
        x, y, sizes = coded.x, coded.y, coded.sizes
    else:
        if name == "Circles":
            x, y = make_circles(5_000, factor=0.5, noise=0.05, random_state=0)
        else:
            x, y = {"Digits": load_digits, "Iris": load_iris}[name](return_X_y=True)
        sizes = (0,) * x.shape[1]
    low, high = x.min(axis=0), x.max(axis=0)
    scaled = 2 * (x - low) / np.where(high > low, high - low, 1.0) - 1
    return np.where(np.array(sizes) > 0, x, scaled), y, sizes


def served(name: str) -> tuple[Model, Domain, np.ndarray, list[ExactAttack]]:
    """Return the service, what it accepts, its rows, and the attacks for it."""
    x, y, sizes = raw(name)
    _, binned, *_ = PUBLISHED[name]
    high = np.where(np.array(sizes) > 0, np.array(sizes) - 1.0, 1.0)
    domain = Domain(np.where(np.array(sizes) > 0, 0.0, -1.0), high, sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 200 steps are the victim's own business
        if not binned:
            model = SklearnModel(LogisticRegression(max_iter=200).fit(x, y), name=name)
            return model, domain, x, [EquationSolving(checks=0)]
        front = HiddenFeatures.quantiles(x, sizes, BINS)
        model = SklearnModel(LogisticRegression(max_iter=200).fit(front.encode(x), y), name=name)
    return front.wear(model), domain, x, [BinSearch(epsilon=e, checks=0) for e in (1e-3, 1e-6)]


def _by(attack: ExactAttack) -> str:
    return f"{attack.name}, epsilon {attack.epsilon:g}" if isinstance(attack, BinSearch) else attack.name


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    rows: list[list[object]] = []
    for name, (one_hot, binned, queries, seconds, dollars) in PUBLISHED.items():
        what = " + ".join(w for w, on in (("one-hot", one_hot), ("binning", binned)) if on) or "neither"
        rows.append([name, what, "published", f"{queries:,}", "", "100", "", seconds, f"{dollars:.2f}"])
        try:
            service, domain, x, attacks = served(name)
        except InvalidInput as error:
            print(f"(without {name}: {error})\n")
            continue
        some = torch.from_numpy(x[np.random.default_rng(0).permutation(len(x))[:UNIFORM]])
        truth = service.labels(some)
        for attack in attacks:
            started = time.process_time()
            theft = attack.run(service, domain=domain, uniform=UNIFORM, price=PRICE)
            spent = time.process_time() - started
            agree = float((truth == theft.surrogate.labels(some)).double().mean())
            cost = theft.record.cost
            rows.append(
                [
                    name,
                    what,
                    _by(attack),
                    f"{cost.queries:,}",
                    cost.round_trips,
                    f"{100 * agree:.2f}",
                    f"{100 * (1 - theft.worth.r_unif.value):.2f}",
                    f"{spent:.1f}",
                    f"{cost.dollars:.2f}",
                ]
            )
    head = ["set", "hidden", "by", "queries", "rounds", "same on data %", "same on uniform %", "s", "$"]
    table(head, rows)


if __name__ == "__main__":
    main()
