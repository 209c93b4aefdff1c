"""Exact extraction against peers: the published solvers, and ART's functionally equivalent extraction.

Run ``python benchmarks/exact_extraction.py``; about two minutes on one core. The comparison
with the Adversarial Robustness Toolbox is left out unless it is installed, best in an
environment of its own: ``pip install adversarial-robustness-toolbox``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from reference_extraction import Meter, linear_by_coordinates, softmax_by_cross_entropy
from reference_semantics import images
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from torch import nn

from assay.adapters import CallableModel, SklearnModel, TorchModel
from assay.extraction.exact.boundary import Boundary
from assay.extraction.exact.equation_solving import EquationSolving
from assay.extraction.exact.lowd_meek import LowdMeek
from assay.extraction.exact.relu import ReLU

ROWS = 10_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--most", type=int, default=40_000, help="queries after which ART is stopped")
    given = options.parse_args()
    torch.set_num_threads(1)
    result = {
        "benchmark": "exact_extraction",
        "softmax": softmax(),
        "labels": labels(given.seeds),
        "relu": relu(given.seeds, given.most),
    }
    print(json.dumps(result))


def uniform(size: int) -> np.ndarray:
    return np.random.default_rng(999).uniform(-1, 1, (ROWS, size))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    found = work()
    return found, time.process_time() - started


def softmax() -> dict[str, Any]:
    """Recover softmax regression on digits: cross-entropy by BFGS, and one linear system."""
    x, y = load_digits(return_X_y=True)
    x = x / 8 - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        victim = LogisticRegression(max_iter=200).fit(x, y)
    size, classes = x.shape[1], 10
    points, truth = uniform(size), victim.predict_proba(uniform(size))
    rows = {}
    for factor in (1, 2):
        meter = Meter(victim.predict_proba)
        theta, seconds = timed(
            lambda meter=meter, factor=factor: softmax_by_cross_entropy(
                meter, size, classes, factor * classes * (size + 1), np.random.default_rng(0)
            )
        )
        z = np.c_[points, np.ones(ROWS)] @ theta.T
        scores = np.exp(z - z.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        rows[f"published, {factor} query/unknown"] = row(meter.rows, seconds, truth, scores)
    attack = EquationSolving(model="softmax", checks=0)
    theft, seconds = timed(lambda: attack.run(SklearnModel(victim), rng=0))
    scores = theft.found.model.predict_proba(points)
    rows["equation-solving"] = row(theft.record.cost.queries, seconds, truth, scores)
    show("softmax regression, digits", rows)
    ours, published = rows["equation-solving"], rows["published, 1 query/unknown"]
    return rows | {
        "query_ratio": round(published["queries"] / ours["queries"], 2),
        "time_ratio": round(published["seconds"] / max(ours["seconds"], 1e-4), 1),
        "error_ratio": float(f"{published['largest TV'] / max(ours['largest TV'], 1e-16):.1e}"),
    }


def row(queries: int, seconds: float, truth: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Return the numbers of one line."""
    return {
        "queries": queries,
        "seconds": round(seconds, 3),
        "R_unif": float((truth.argmax(1) != scores.argmax(1)).mean()),
        "largest TV": float(f"{0.5 * np.abs(truth - scores).sum(axis=1).max():.1e}"),
    }


def labels(seeds: int) -> dict[str, Any]:
    """Recover a linear classifier of 108 features from labels, to about 20 bits."""
    size = 108
    found: dict[str, list[tuple[int, int, float, float]]] = {}
    for seed in range(seeds):
        weights = np.random.default_rng(seed).normal(size=size + 1)

        def ask(x: np.ndarray, w: np.ndarray = weights) -> np.ndarray:
            return (x @ w[:-1] + w[-1] > 0).astype(np.int64)

        points = uniform(size)
        meter = Meter(ask)
        solved, seconds = timed(
            lambda meter=meter, seed=seed: linear_by_coordinates(meter, size, 20, np.random.default_rng(seed))
        )
        rate = float((ask(points) != (points @ solved[:-1] + solved[-1] > 0)).mean())
        found.setdefault("published Lowd-Meek", []).append((meter.rows, meter.calls, rate, seconds))
        victim = CallableModel(ask, (size,), 2)
        for attack in (LowdMeek(bits=20), Boundary(bits=20), Boundary(bits=20, fan_out=3)):
            theft, seconds = timed(
                lambda attack=attack, victim=victim, seed=seed: attack.run(victim, rng=seed)
            )
            rate = float((ask(points) != theft.found.model.predict(points)).mean())
            name = attack.name + (", fan_out 3" if getattr(attack, "fan_out", 1) > 1 else "")
            cost = theft.record.cost
            found.setdefault(name, []).append((cost.queries, cost.round_trips, rate, seconds))
    rows = {
        name: dict(
            zip(
                ("queries", "round trips", "R_unif", "seconds"),
                (float(f"{v:.3g}") for v in np.mean(numbers, axis=0)),
                strict=True,
            )
        )
        for name, numbers in found.items()
    }
    show(f"linear, {size} features, labels only, mean of {seeds}", rows)
    published, ours = rows["published Lowd-Meek"], rows["boundary"]
    return rows | {
        "query_ratio": round(published["queries"] / ours["queries"], 2),
        "round_trip_ratio": round(published["round trips"] / ours["round trips"], 1),
    }


def network(size: int, hidden: int, classes: int, seed: int) -> nn.Sequential:
    """Return a random two-layer network in float64."""
    rng = np.random.default_rng(seed)
    layers = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, classes)).double()
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            layer.weight.copy_(torch.from_numpy(rng.normal(size=layer.weight.shape) / layer.in_features**0.5))
            layer.bias.copy_(torch.from_numpy(0.1 * rng.normal(size=layer.bias.shape)))
    return layers.eval()


def trained(seed: int) -> nn.Sequential:
    """Return a 784-4-10 network trained on digits of 28 x 28 pixels."""
    data = images(28)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = MLPClassifier((4,), max_iter=30, learning_rate_init=0.01, random_state=seed)
        fitted.fit(data.x.flatten(1).double().numpy(), data.y.numpy())
    layers = network(784, 4, 10, seed)
    with torch.no_grad():
        for layer, weights, bias in zip(
            (layers[0], layers[2]), fitted.coefs_, fitted.intercepts_, strict=True
        ):
            layer.weight.copy_(torch.from_numpy(weights.T))
            layer.bias.copy_(torch.from_numpy(bias))
    return layers


def relu(seeds: int, most: int) -> dict[str, Any]:
    """Recover two-layer ReLU networks; ART sees logits, we see scores only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from art.attacks.extraction import FunctionallyEquivalentExtraction
            from art.estimators.classification import BlackBoxClassifierNeuralNetwork
    except ImportError:
        print("(without ART: pip install adversarial-robustness-toolbox)\n")
        FunctionallyEquivalentExtraction = BlackBoxClassifierNeuralNetwork = None  # type: ignore[assignment,misc]  # optional peer
    rows: dict[str, dict[str, Any]] = {}
    # The third has the shape of ART's own demonstration, and is trained on digits of that size.
    for size, hidden, classes in ((10, 4, 3), (64, 4, 10), (784, 4, 10), (64, 32, 5)):
        found: dict[str, list[tuple[float, float, float]]] = {"relu": [], "ART": []}
        for seed in range(seeds):
            victim = trained(seed) if size == 784 else network(size, hidden, classes, seed)
            points = uniform(size)
            truth = answers(victim, points)
            opened = TorchModel(victim, (size,), classes)
            theft, seconds = timed(lambda opened=opened, seed=seed: ReLU().run(opened, rng=seed))
            copied = theft.surrogate.labels(torch.from_numpy(points)).numpy()
            wrong = float((copied != truth.argmax(1)).mean())
            found["relu"].append((theft.record.cost.queries, seconds, wrong))
            if FunctionallyEquivalentExtraction is None or hidden > 4:
                continue
            meter = Meter(lambda x, victim=victim: answers(victim, x), most=most)
            peer = BlackBoxClassifierNeuralNetwork(meter, (size,), classes, channels_first=False)
            np.random.seed(seed)  # noqa: NPY002 - ART draws from the global generator
            started = time.process_time()
            try:
                attack = FunctionallyEquivalentExtraction(peer, num_neurons=hidden)
                with np.errstate(all="ignore"):
                    copied = attack.extract(points[:500]).predict(points)
                wrong = float((copied.argmax(1) != truth.argmax(1)).mean())
            except (AssertionError, TimeoutError):
                wrong = 1.0  # it raises when it has not found exactly as many kinks as there are units
            found["ART"].append((meter.rows, time.process_time() - started, wrong))
        for name, numbers in found.items():
            if numbers:
                table = np.array(numbers)
                rows[f"{name} {size}-{hidden}-{classes}"] = {
                    "exact": f"{int((table[:, 2] == 0).sum())} of {len(table)}",
                    "queries": round(float(table[:, 0].mean())),
                    "seconds": round(float(table[:, 1].mean()), 2),
                    "R_unif": float(f"{table[:, 2].mean():.2g}"),
                }
    show("two-layer ReLU networks (R_unif 1: no copy at all)", rows)
    return rows


def answers(net: nn.Module, x: np.ndarray) -> np.ndarray:
    """Return logits."""
    with torch.no_grad():
        found: np.ndarray = net(torch.from_numpy(np.atleast_2d(x)).double()).numpy()
    return found


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print a table."""
    names = list(next(iter(rows.values())))
    print(f"{title:46}" + "".join(f"{name:>14}" for name in names))
    for label, numbers in rows.items():
        print(f"{label:46}" + "".join(f"{numbers[name]!s:>14}" for name in names))
    print()


if __name__ == "__main__":
    main()
