"""Countermeasures: what each costs the attacker, and what it costs honest users.

Run ``ASSAY_DATA=... python studies/prediction_apis/countermeasures.py`` for figure 7 of Tramer et
al. 2016 beside ours, and with ``--grid`` for every countermeasure against one victim.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from victims import MULTICLASS, Case, cases, line, rule

from assay.adapters import SklearnModel
from assay.defences import Noise, Rounding, TopOne
from assay.errors import AssayError
from assay.extraction.exact.boundary import Boundary
from assay.extraction.exact.equation_solving import EquationSolving
from assay.extraction.exact.retraining import AdaptiveRetraining
from assay.model import Access, Model

DIGITS = (2, 3, 4, 5, None)
# R_test of softmax victims for 2, 3, 4, 5 and all decimals, read from figure 7.
PUBLISHED = {
    1: (3.2e-3, 4.6e-4, 3.0e-4, 2.4e-5, 0.0),
    2: (1.2e-3, 9.3e-5, 1.1e-5, 0.0, 0.0),
    5: (4.7e-4, 2.8e-5, 1.1e-5, 0.0, 0.0),
    10: (2.7e-4, 1.9e-5, 1.1e-5, 0.0, 0.0),
    20: (1.7e-4, 1.8e-5, 1.1e-5, 0.0, 0.0),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--grid", action="store_true", help="every countermeasure, one victim")
    options.add_argument("--set", default="Steak", help="the victim of --grid")
    options.add_argument("--factors", default="1,2,5,10,20", help="queries for each unknown")
    options.add_argument("--sets", default=",".join(MULTICLASS), help="victims of figure 7")
    options.add_argument("--digits", default="2,3,4,5,all", help="decimals of figure 7")
    options.add_argument("--seeds", type=int, default=1)
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.grid:
        grid(cases({given.set: MULTICLASS[given.set]})[0])
    else:
        names = {name: MULTICLASS[name] for name in given.sets.split(",")}
        digits = [None if k == "all" else int(k) for k in given.digits.split(",")]
        figure([int(f) for f in given.factors.split(",")], given.seeds, names, digits)


def figure(factors: list[int], seeds: int, names: dict[str, str], wanted: list[int | None]) -> None:
    """Print figure 7: softmax victims that round, by set, decimals and budget."""
    print(f"Figure 7: softmax victims that round, R_test (R_unif), {seeds} seed(s).\n")
    head = ["set", "queries / unknown", *("all" if k is None else f"{k} decimals" for k in wanted), "s"]
    rule(head)
    rates: dict[tuple[int, int | None], list[tuple[float, float]]] = {}
    found = sorted(cases(names), key=lambda case: case.classes * case.size)
    for case in found:
        for factor in factors:
            started = time.process_time()
            row: list[object] = [case.name, factor]
            for digits in wanted:
                mean = np.mean([rounded(case, factor, digits, seed) for seed in range(seeds)], axis=0)
                rates.setdefault((factor, digits), []).append((mean[0], mean[1]))
                row.append(f"{mean[0]:.1e} ({mean[1]:.1e})")
            line([*row, f"{time.process_time() - started:.1f}"])
    for factor in factors:
        means = [np.mean(rates[factor, digits], axis=0) for digits in wanted]
        line([f"mean of {len(found)}", factor, *(f"{m[0]:.1e} ({m[1]:.1e})" for m in means), ""])
        line(
            [
                "published mean of 7",
                factor,
                *(f"{PUBLISHED[factor][DIGITS.index(k)]:.1e}" for k in wanted),
                "",
            ]
        )


def rounded(case: Case, factor: int, digits: int | None, seed: int) -> tuple[float, float]:
    """Extract a victim that shows so many decimals; return ``R_test`` and ``R_unif``."""
    budget = factor * case.classes * (case.size + 1)
    # With all decimals d + 1 answers are enough, and exact.
    attack = EquationSolving(
        model="softmax",
        design="axes" if digits is None else "uniform",
        queries=None if digits is None else budget,
        checks=0,
    )
    victim = case.model if digits is None else Rounding(digits=digits).wear(case.model)
    return against(case, attack.run(victim, budget=budget, rng=seed).surrogate)


def against(case: Case, copy: Model) -> tuple[float, float]:
    """Return ``R_test`` and ``R_unif`` of a copy against the victim without its countermeasure."""
    uniform = torch.from_numpy(np.random.default_rng(999).uniform(-1, 1, (10_000, case.size)))
    test = case.rows.x.double()
    wrong = [float((case.model.labels(x) != copy.labels(x)).double().mean()) for x in (test, uniform)]
    return wrong[0], wrong[1]


def grid(case: Case) -> None:
    """Print what every countermeasure leaves of an attack at 1, 5 and 20 queries an unknown."""
    forest = RandomForestClassifier(50, random_state=0)
    x = case.held_out.x.double().numpy()
    wearers: dict[str, Callable[[], Model]] = {
        "none": lambda: case.model,
        **{f"{k} decimals": lambda k=k: Rounding(digits=k).wear(case.model) for k in (5, 4, 3, 2, 1)},
        "top-1 score": lambda: TopOne().wear(case.model),
        **{f"noise {s:g}": lambda s=s: Noise(scale=s).wear(case.model) for s in (1e-4, 1e-3, 1e-2, 1e-1)},
        "labels": lambda: SklearnModel(case.estimator, access=Access.LABELS),
        "random forest": lambda: SklearnModel(forest.fit(x, case.estimator.predict(x))),
    }
    plain = brier(case.model, case)
    print(f"{case.name}, {case.size} features, {case.classes} classes: R_unif (R_test) of the best attack.\n")
    rule(["countermeasure", "1 query / unknown", "5", "20", "honest Brier change"])
    for name, wear in wearers.items():
        victim = wear()
        reference = victim if name == "random forest" else case.model
        row: list[object] = [name, *(best(victim, case, factor, reference) for factor in (1, 5, 20))]
        loss = None if name in ("labels", "random forest") else brier(victim, case) - plain
        line([*row, "-" if loss is None else f"{loss:+.1e}"])


def best(victim: Model, case: Case, factor: int, reference: Model) -> str:
    """Run what fits the answers and return the rates of the best copy with its name."""
    budget = factor * case.classes * (case.size + 1)
    # With float64 answers the fewest queries are enough and exact; further ones average noise.
    attacks = [Boundary(bits=40), AdaptiveRetraining(factor=factor)]
    if Access.SCORES in victim.access:
        attacks += [EquationSolving(model="softmax", checks=0, design="uniform", queries=budget)]
    uniform = torch.from_numpy(np.random.default_rng(999).uniform(-1, 1, (10_000, case.size)))
    found: list[tuple[float, float, str]] = []
    for attack in attacks:
        try:
            copy = attack.run(victim, budget=budget).surrogate
        except AssayError:
            continue
        rates = [
            float((reference.labels(x) != copy.labels(x)).double().mean())
            for x in (uniform, case.held_out.x.double())
        ]
        found.append((rates[0], rates[1], attack.name))
    rate, test, name = min(found)
    return f"{rate:.1e} ({test:.1e}) {name}"


def brier(victim: Model, case: Case) -> float:
    """Return the mean squared error of the scores that honest users get."""
    scores = victim.scores(case.held_out.x.double()).double().numpy()
    truth = np.eye(case.classes)[case.held_out.y.numpy()]
    return float(((scores - truth) ** 2).sum(axis=1).mean())


if __name__ == "__main__":
    main()
