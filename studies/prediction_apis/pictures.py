"""What kernel regressions and softmax models show of their training data, as a page of pictures.

Run ``python studies/prediction_apis/pictures.py --out pictures``; half a minute on one core. Each theft
is written as `assay extract --out` writes it, and ``pictures/report/report.html`` is what
`assay report pictures --out pictures/report` makes of both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from markdown import table
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from assay.adapters import SklearnModel, TorchModel
from assay.data import Dataset
from assay.extraction.exact import Domain, ExactExtraction
from assay.extraction.exact.inversion import Inversion, differentiable, invert
from assay.extraction.exact.kernel_leakage import KernelLeakage
from assay.extraction.exact.kernel_net import KernelNet
from assay.report import build_report, load_entries

GAMMA, REPRESENTERS = 0.01, 20


def leaked(train: Dataset) -> tuple[ExactExtraction, str]:
    """Return the theft of a kernel regression, and how far the worst representer is from a row."""
    x = train.x.flatten(1).double().numpy()
    rows = x[:REPRESENTERS]
    features = np.exp(-GAMMA * ((x[:, None] - rows) ** 2).sum(-1))
    fitted = LogisticRegression(max_iter=2000).fit(features, train.y.numpy())
    victim = TorchModel(KernelNet(rows, fitted.coef_, fitted.intercept_, GAMMA), (1, 8, 8), 10, name="kernel")
    theft = KernelLeakage(starts=0).run(victim, truth=rows, evaluation=train, uniform=2000)
    return theft, f"{theft.worth.parameter_error:.1e} (Euclidean, of {REPRESENTERS} rows)"


def inverted(train: Dataset) -> tuple[ExactExtraction, str]:
    """Return the theft of a softmax model, and how far inverting the copy is from inverting the victim."""
    fitted = LogisticRegression(max_iter=1000).fit(train.x.flatten(1).double().numpy(), train.y.numpy())
    domain = Domain.box(64)
    victim = SklearnModel(fitted, (1, 8, 8), name="softmax")
    theft = Inversion(steps=500).run(victim, domain=domain, evaluation=train, uniform=2000)
    images, _ = invert(differentiable(fitted), domain, 10, steps=500)
    gap = np.abs(images - theft.found.parameters["images"]).max()
    return theft, f"{gap:.1e} (of a pixel, victim against copy)"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=Path("pictures"))
    out = options.parse_args().out
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:1257]
    train = Dataset.from_arrays(
        x[order].reshape(-1, 1, 8, 8) / 8 - 1, y[order], value_range=(-1.0, 1.0), name="digits"
    )
    made = [leaked(train), inverted(train)]
    for theft, _ in made:
        theft.save(out / theft.record.attack)
    entries = load_entries(out / theft.record.attack for theft, _ in made)
    build_report(entries, "What copies show").save(out / "report")
    table(
        ["attack", "queries", "largest difference"],
        [[theft.record.attack, theft.record.cost.queries, gap] for theft, gap in made],
    )


if __name__ == "__main__":
    main()
