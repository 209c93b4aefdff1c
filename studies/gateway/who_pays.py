"""Who pays what: thefts of a real model, priced by the published scheme and by a calibrated policy.

    python studies/gateway/who_pays.py --out runs/gateway [--data fashion-mnist] [--budget 10000]

Steals the model in every way once (the slow part, kept in the folder), calibrates a policy
as `assay calibrate` does, and prices what each thief asked. Prints Markdown tables.
Natural out-of-distribution inputs (CIFAR, MNIST) are taken from ASSAY_DATA where they are.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from published import Scheme
from thefts import STUDENT, Scene, scene, steal, victim

from assay.adapters import TorchModel
from assay.data import Dataset
from assay.extraction import Knockoff
from assay.gateway.calibrate import Calibrated, calibrate
from assay.gateway.pricing import item_units
from assay.gateway.simulation import attack_cost, play
from assay.leakage import Estimator
from assay.privacy import ORDERS, compose, renyi, to_epsilon

RATES = {"Python": 0.38e6, "browser": 1e6, "native core": 50e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--architecture", default="cnn-16")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--student", default="cnn-16")
    parser.add_argument("--private", type=int, default=20_000)
    parser.add_argument("--budget", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    chosen.out.mkdir(parents=True, exist_ok=True)
    where = scene(chosen.data, chosen.private, chosen.budget)
    model = victim(chosen.out, where.private, chosen.architecture, chosen.epochs)
    thefts = steal(chosen.out, where, model, chosen.budget, STUDENT | {"architecture": chosen.student})
    found = calibration(where, model)
    rows = [priced(found, model, where, theft) for theft in thefts]
    rows += price_aware(chosen.out, found, model, where, thefts, STUDENT | {"architecture": chosen.student})
    record = found.record.to_dict()
    kept = ("honest", "attackers", "hashes_per_unit", "inference_seconds", "estimator_seconds", "threshold")
    result = {"rows": rows, "calibration": {k: record[k] for k in kept}, "options": vars(chosen)}
    (chosen.out / "who-pays.json").write_text(json.dumps(result, indent=1, default=str))
    print(honest_table(found), thief_table(rows), work_table(rows, found), sep="\n\n")


def calibration(where: Scene, model: TorchModel) -> Calibrated:
    """Calibrate as the command does; thieves' foreign data are not shown to it, other foreign data are."""
    others = {k: v for k, v in where.foreign.items() if k == "cifar100"}
    return calibrate(model, where.private, where.traffic, others=others)


def log_q_of(estimator: Estimator, model: TorchModel, x: torch.Tensor) -> np.ndarray:
    return np.concatenate([estimator.log_q(p, scores=model.scores(p)) for p in x.split(2000)])


def priced(found: Calibrated, model: TorchModel, where: Scene, theft: dict) -> dict:
    """Price one theft both ways."""
    estimator, policy = found.estimator, found.policy
    stream = log_q_of(estimator, model, torch.from_numpy(np.load(theft["inputs"])))
    honest = log_q_of(estimator, model, where.honest.x)
    unit = float(item_units(policy, honest).mean())
    cost = attack_cost(policy, theft["attack"], stream, honest, queries=len(stream), rng=0)
    # In the order in which the thief asked; the simulation draws from the same queries at random.
    alone = float(play(policy, stream[None]).units.sum() + policy.pricing.deposit_units) / len(stream)
    rdp = compose(renyi(stream, estimator.sigma, ORDERS))
    return {
        **{k: theft[k] for k in ("attack", "queries", "accuracy", "fidelity", "victim_accuracy")},
        "cost_ratio": float(np.mean(item_units(policy, stream) / policy.pricing.base_units - 1))
        / float(np.mean(item_units(policy, honest) / policy.pricing.base_units - 1)),
        "epsilon_composed": float(to_epsilon(rdp, ORDERS, 1e-5)[0]),
        "published": asdict(Scheme(honest, estimator.sigma).bill(stream)),
        "stateless": cost.stateless,
        "single": alone / unit,
        "after_100": cost.after_100,
        "detected": cost.detected,
        "split": asdict(cost.split),
        "padded": asdict(cost.padded),
        "best": asdict(cost.best),
        "cheap_half": cost.cheap_half,
        "hashes": cost.best.ratio * unit * policy.pricing.hashes_per_unit * len(stream),
    }


def price_aware(
    folder: Path, found: Calibrated, model: TorchModel, where: Scene, thefts: list[dict], student: dict
) -> list[dict]:
    """Return what copies are worth that were made of the cheaper half of a theft's queries alone."""
    rows = []
    for theft in thefts:
        if not theft["attack"].startswith("knockoff") and theft["attack"] != "in-distribution, scores":
            continue
        file = folder / f"cheap-{theft['attack'].replace(' ', '-').replace(',', '')}.json"
        if not file.exists():
            x = torch.from_numpy(np.load(theft["inputs"]))
            values = log_q_of(found.estimator, model, x)
            half = x[torch.from_numpy(np.argsort(values, kind="stable")[: len(x) // 2].copy())]
            pool = Dataset(half, torch.zeros(len(half), dtype=torch.int64), where.private.classes)
            copy = Knockoff(**student).run(model, pool, evaluation=where.evaluation, rng=1)
            np.save(file.with_suffix(".npy"), half.numpy())
            row = {
                "attack": f"{theft['attack']}, cheap half",
                "queries": len(half),
                "accuracy": copy.record.accuracy.value,
                "fidelity": copy.record.fidelity.value,
                "victim_accuracy": theft["victim_accuracy"],
                "inputs": str(file.with_suffix(".npy")),
            }
            file.write_text(json.dumps(row))
        rows.append(priced(found, model, where, json.loads(file.read_text())))
        print({k: rows[-1][k] for k in ("attack", "accuracy", "stateless")}, flush=True)
    return rows


def honest_table(found: Calibrated) -> str:
    lines = ["| honest user | leakage | units a query | time, mean | 95 % below |", "|---|---|---|---|---|"]
    lines += [
        f"| {r.name} | {r.cost_ratio:.2f} | {r.units:.2f} | {r.overhead:.2f} x | {r.worst:.2f} x |"
        for r in found.record.honest
    ]
    return "\n".join(lines)


def thief_table(rows: list[dict]) -> str:
    columns = (
        *("theft", "queries", "accuracy", "fidelity", "published: one account", "ten accounts", "padded"),
        *("ours: one account", "best split", "best padding", "cheapest plan"),
    )
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in sorted(rows, key=lambda r: -r["accuracy"]):
        paper = row["published"]
        old = [paper[k] / paper["honest"] for k in ("single", "split", "padded")]
        new = [row["single"], row["split"]["ratio"], row["padded"]["ratio"], row["best"]["ratio"]]
        cells = [
            row["attack"],
            f"{row['queries']:,}",
            f"{100 * row['accuracy']:.1f}",
            f"{100 * row['fidelity']:.1f}",
            *(_times(v) for v in (*old, *new)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def work_table(rows: list[dict], found: Calibrated) -> str:
    head = " | ".join(f"{name}, {rate / 1e6:g} MH/s" for name, rate in RATES.items())
    lines = [
        f"| theft | leakage | hashes, cheapest plan | {head} | plain inference |",
        "|---|---|---|---|---|---|---|",
    ]
    seconds = found.policy.pricing.inference_seconds
    for row in sorted(rows, key=lambda r: -r["accuracy"]):
        times = [f"{row['hashes'] / rate:,.2f} s" for rate in RATES.values()]
        lines.append(
            f"| {row['attack']} | {row['cost_ratio']:.2f} | {row['hashes']:.3g} | {' | '.join(times)} "
            f"| {row['queries'] * seconds:,.1f} s |"
        )
    return "\n".join(lines)


def _times(value: float) -> str:
    return f"{value:,.0f} x" if value >= 20 else f"{value:.2f} x"


if __name__ == "__main__":
    main()
