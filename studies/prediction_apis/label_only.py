"""Labels only: figures 4, 5 and 6 of Tramer et al. 2016 beside ours, rates against budgets.

Run ``ASSAY_DATA=... python studies/prediction_apis/label_only.py --figure 4``; a few minutes
a figure on one core. ``--figure mlp`` is the network of which section 6.2 has numbers and no figure.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from published_svm import published_curve
from victims import BINARY, MULTICLASS, UNITS, Case, cases, line, rule

from assay.errors import BudgetExceeded
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.boundary import Boundary
from assay.extraction.exact.lowd_meek import LowdMeek
from assay.extraction.exact.retraining import AdaptiveRetraining

# Read from the figures: R_test and R_unif of uniform, line-search, adaptive (and Lowd-Meek).
# The text has one number of each for networks, and says that no strategy beats uniform questions.
PUBLISHED = {
    "4": {
        1: ((0.49, 0.50, 0.48, 0.44), (0.50, 0.53, 0.52, 0.51)),
        2: ((0.15, 0.15, 0.13, 0.44), (0.16, 0.21, 0.18, 0.51)),
        5: ((0.063, 0.057, 0.054, 0.44), (0.076, 0.075, 0.071, 0.51)),
        10: ((0.040, 0.019, 0.017, 0.30), (0.034, 0.020, 0.020, 0.38)),
        20: ((0.024, 9.1e-3, 8.0e-3, 0.033), (0.019, 6.8e-3, 4.7e-3, 0.087)),
        50: ((0.011, 6.2e-3, 8.5e-4, 0.0), (6.8e-3, 3.0e-3, 7.1e-4, 0.0)),
        100: ((4.1e-3, 2.4e-3, 3.1e-4, 0.0), (3.5e-3, 1.4e-3, 1.8e-4, 0.0)),
    },
    "5": {
        1: ((0.14, 0.20, 0.20), (0.24, 0.33, 0.30)),
        2: ((0.075, 0.13, 0.080), (0.15, 0.21, 0.16)),
        5: ((0.038, 0.039, 0.031), (0.066, 0.079, 0.063)),
        10: ((0.017, 0.018, 5.3e-3), (0.035, 0.041, 0.020)),
        20: ((7.9e-3, 6.2e-3, 1.3e-3), (0.018, 0.020, 5.0e-3)),
        50: ((2.5e-3, 3.0e-3, 2.3e-4), (7.7e-3, 8.0e-3, 1.1e-3)),
        100: ((1.3e-3, 1.2e-3, 1.4e-4), (3.9e-3, 4.3e-3, 4.8e-4)),
    },
    "6": {
        1: ((0.58, 0.42, 0.76), (0.51, 0.37, 0.70)),
        2: ((0.47, 0.34, 0.64), (0.43, 0.35, 0.61)),
        5: ((0.16, 0.12, 0.079), (0.17, 0.11, 0.072)),
        10: ((0.066, 0.020, 0.012), (0.070, 0.038, 0.013)),
        20: ((0.012, 7.4e-3, 4.7e-3), (0.026, 0.017, 6.8e-3)),
        50: ((6.0e-3, 5.0e-3, 2.9e-3), (0.012, 7.9e-3, 4.7e-3)),
        100: ((4.2e-3, 4.1e-3, 1.6e-3), (9.0e-3, 5.8e-3, 3.3e-3)),
    },
    "mlp": {100: ((8.4e-3,), (1.76e-2,))},
}
KINDS = {"6": ("svm", "svm-rbf"), "mlp": ("network", "mlp")}  # of victim and learner; else both are linear


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--figure", choices=tuple(PUBLISHED), default="4")
    options.add_argument("--factors", default="1,2,5,10,20,50,100", help="queries for each unknown")
    options.add_argument("--bits", default="", help="boundary alone, at these bits instead of budgets")
    options.add_argument("--sets", default="", help="names of the victims, all of the figure unless given")
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--most", type=int, default=20_000, help="leave out sets with larger budgets")
    given = options.parse_args()
    torch.set_num_threads(1)
    names = MULTICLASS if given.figure in ("5", "mlp") else BINARY
    if given.sets:
        names = {name: names[name] for name in given.sets.split(",")}
    kind, learner = KINDS.get(given.figure, ("logistic", "linear"))
    found = cases(names, kind)
    if given.bits:
        precision([int(b) for b in given.bits.split(",")], found)
        return
    strategies = ("uniform", "line-search", "adaptive")
    others = {"4": [LowdMeek(bits=45), Boundary(bits=45)], "5": [Boundary(bits=45)]}.get(given.figure, [])
    again = given.figure == "6"
    print(f"Figure {given.figure}: mean over {', '.join(c.name for c in found)}; {given.seeds} seed(s).")
    print("Cells are R_test / R_unif; the published ones are R_unif in the same order.\n")
    head = ["queries / unknown", "published", *strategies, *(attack.name for attack in others), "s"]
    rule(head[:2] + ["published adaptive, re-run", "carried over (asked)"] * again + head[2:])
    for factor in (int(f) for f in given.factors.split(",")):
        started = time.process_time()
        cells = [
            rates([retraining(strategy, learner, factor, case) for case in found], found, factor, given)
            for strategy in strategies
        ]
        cells += [rates([attack] * len(found), found, factor, given) for attack in others]
        if again:
            cells = [rerun(found, factor, given, carry=carry) for carry in (False, True)] + cells
        published = " ".join(f"{v:g}" for v in PUBLISHED[given.figure].get(factor, ((), ()))[1]) or "-"
        line([factor, published, *cells, f"{time.process_time() - started:.0f}"])


def precision(bits: list[int], found: list[Case]) -> None:
    """Print what `boundary` costs and gives at so many bits for each set."""
    rule(
        ["victim", "bits", "queries", "/ unknown", "round trips", "R_test", "R_unif", "coefficients", "flags"]
    )
    for case in found:
        unknowns = (case.size + 1) * (1 if case.classes == 2 else case.classes)
        for b in bits:
            theft = Boundary(bits=b).run(
                case.model, evaluation=case.rows, uniform=10_000, truth=case.estimator
            )
            cost, worth = theft.record.cost, theft.worth
            cells = [case.name, b, cost.queries, f"{cost.queries / unknowns:.1f}", cost.round_trips]
            cells += [f"{v:.1e}" for v in (worth.r_test.value, worth.r_unif.value)]
            error = "-" if worth.parameter_error is None else f"{worth.parameter_error:.1e}"
            line([*cells, error, ", ".join(worth.flags) or "none"])


def retraining(strategy: str, learner: str, factor: int, case: Case) -> AdaptiveRetraining:
    """Return the attack as the figure has it."""
    if learner != "svm-rbf":
        return AdaptiveRetraining(strategy=strategy, learner=learner, factor=factor)
    # A kernel machine gains from looking often: up to 25 rounds, of two queries or more.
    rounds = max(2, min(25, factor * (case.size + 1) // 2))
    return AdaptiveRetraining(strategy=strategy, learner=learner, factor=factor, rounds=rounds)


def rates(attacks: Sequence[ExactAttack], found: list[Case], factor: int, given: argparse.Namespace) -> str:
    """Return mean ``R_test / R_unif`` over the sets, with what was left out."""
    test, unif, refused, large = [], [], 0, 0
    for attack, case in zip(attacks, found, strict=True):
        unknowns = _unknowns(case, given.figure)
        if factor * unknowns > given.most:
            large += 1
            continue
        for seed in range(given.seeds):
            try:
                theft = attack.run(
                    case.model,
                    budget=factor * unknowns,
                    evaluation=case.rows,
                    uniform=10_000,
                    rng=seed,
                )
            except BudgetExceeded:
                refused += 1
                continue
            test.append(theft.worth.r_test.value)
            unif.append(theft.worth.r_unif.value)
    if not test:
        return "refused"
    left_out = [f"{refused // given.seeds} refused"] if refused else []
    left_out += [f"{large} too large"] if large else []
    return f"{np.mean(test):.1e} / {np.mean(unif):.1e}" + (f" ({', '.join(left_out)})" if left_out else "")


def _unknowns(case: Case, figure: str) -> int:
    """Return the number by which budgets are counted."""
    if figure == "mlp":
        return UNITS * (case.size + 1) + case.classes * (UNITS + 1)
    return (case.size + 1) * (1 if case.classes == 2 else case.classes)


def rerun(found: list[Case], factor: int, given: argparse.Namespace, *, carry: bool) -> str:
    """Return mean ``R_test / R_unif`` of the published attack; a copy after one label is all wrong."""
    test, unif, asked, large = [], [], [], 0
    for case in found:
        if factor * (case.size + 1) > given.most:
            large += 1
            continue
        rows, u = case.rows.x.double().numpy(), np.random.default_rng(999).uniform(-1, 1, (10_000, case.size))
        predict = case.estimator.predict
        for seed in range(given.seeds):
            rng = np.random.default_rng(seed)
            *_, (_, spent, copy) = published_curve(predict, case.size, (factor,), rng, carry=carry)
            asked.append(spent / (case.size + 1))
            for rates_, x in ((test, rows), (unif, u)):
                rates_.append(1.0 if copy is None else float((copy.predict(x) != predict(x)).mean()))
    told = [f"{np.mean(asked):.0f}"] * carry + [f"{large} too large"] * (large > 0)
    return f"{np.mean(test):.1e} / {np.mean(unif):.1e}" + (f" ({', '.join(told)})" if told else "")


if __name__ == "__main__":
    main()
