"""The thefts of the study: a real victim, what each attack asks it, and what the copies are worth.

Everything is kept in a folder, so that prices can be worked out again without stealing again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from assay.adapters import TorchModel
from assay.data import Dataset, load_data
from assay.data.pools import foreign
from assay.errors import AssayError
from assay.extraction import Attack, CopyCat, Jacobian, Knockoff, LabelQuery, LogitQuery
from assay.nets import Network, build, train
from assay.nets.suggest import suggest_recipe

STUDENT = {"architecture": "cnn-16", "epochs": 8, "batch_size": 128, "lr": 0.05}


@dataclass(frozen=True)
class Scene:
    """The owner's and the thieves' data: disjoint, drawn once."""

    private: Dataset  # trained the victim and the estimator
    traffic: Dataset  # what the owner trusts to be honest
    honest: Dataset  # further honest queries, for the simulated users
    own: Dataset  # inputs of the task that a thief may have
    evaluation: Dataset
    foreign: dict[str, Dataset]  # other real inputs in the victim's shape


class Recorder:
    """A victim that keeps what it was asked, in order."""

    def __init__(self, victim: TorchModel) -> None:
        self.victim = victim
        self.asked: list[torch.Tensor] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.victim, name)

    def labels(self, x: torch.Tensor) -> torch.Tensor:
        """Answer, and keep the question."""
        self.asked.append(x.detach().clone())
        return self.victim.labels(x)

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """Answer, and keep the question."""
        self.asked.append(x.detach().clone())
        return self.victim.scores(x)


def scene(name: str, private: int, pool: int) -> Scene:
    data, test = load_data(name, split="train"), load_data(name, split="test")
    order = np.random.default_rng(0).permutation(len(data))
    parts = np.split(order, np.cumsum([private, 4000, 8000, pool]))
    held = np.random.default_rng(1).permutation(len(test))
    others = {}
    for other in ("cifar10", "cifar100", "mnist"):
        if other == name:
            continue
        try:
            found = load_data(other, split="train", limit=pool, rng=2)
        except AssayError as error:
            print(f"without {other}: {error}", flush=True)
            continue
        others[other] = foreign(found, data.input_shape, data.classes, value_range=data.value_range)
    return Scene(
        data.subset(parts[0], "private"),
        data.subset(parts[1], "traffic"),
        data.subset(parts[2], "honest"),
        data.subset(parts[3], "own"),
        test.subset(held[:4000], "evaluation"),
        others,
    )


def victim(folder: Path, data: Dataset, architecture: str, epochs: int | None) -> TorchModel:
    file = folder / "victim.pt"
    network = build(architecture, data.input_shape, data.num_classes, 0)
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
    else:
        recipe = suggest_recipe(architecture, len(data))
        recipe = recipe if epochs is None else type(recipe)(**{**vars(recipe), "epochs": epochs})
        train(network, data, recipe, rng=0)
        torch.save(network.state_dict(), file)
    return TorchModel(network.eval(), name="victim")


def attacks(where: Scene, student: dict) -> dict[str, tuple[Attack, Dataset]]:
    """Every attack with its pool; the first word says where the inputs come from."""
    natural = {k: v for k, v in where.foreign.items() if k != "cifar100"} or {}
    found: dict[str, tuple[Attack, Dataset]] = {
        "in-distribution, labels": (LabelQuery(**student), where.own),
        "in-distribution, scores": (LogitQuery(**student), where.own),
        "jacobian (away)": (Jacobian(**{**student, "per_round": 2000}), where.own),
        "jacobian (target)": (Jacobian(**{**student, "per_round": 2000}, direction="target"), where.own),
    }
    for name, pool in natural.items():
        found[f"copycat {name}"] = (CopyCat(**student), pool)
        found[f"knockoff {name}"] = (Knockoff(**student), pool)
    for kind in ("noise", "inversions", "blends", "shuffles", "sign-noise"):
        few = where.own.subset(range(1000))
        found[f"knockoff {kind}"] = (Knockoff(**student, inputs=kind), few)
    return found


def steal(folder: Path, where: Scene, model: TorchModel, budget: int, student: dict) -> list[dict]:
    """Run every attack once; return what the copies are worth, and keep what was asked."""
    rows = []
    for name, (attack, pool) in attacks(where, student).items():
        base = folder / f"theft-{name.replace(' ', '-').replace(',', '').replace('(', '').replace(')', '')}"
        record = base.with_suffix(".json")
        if not record.exists():
            listening, begun = Recorder(model), time.perf_counter()
            theft = attack.run(listening, pool, budget=budget, evaluation=where.evaluation, rng=1)
            queries = theft.record.cost.queries
            asked = torch.cat(listening.asked)[:queries]  # what follows measures the copy
            np.save(base.with_suffix(".npy"), asked.numpy())
            row = {
                "attack": name,
                "queries": queries,
                "accuracy": theft.record.accuracy.value,
                "fidelity": theft.record.fidelity.value,
                "victim_accuracy": theft.record.victim_accuracy.value,
                "seconds": time.perf_counter() - begun,
            }
            record.write_text(json.dumps(row))
        rows.append(json.loads(record.read_text()) | {"inputs": str(base.with_suffix(".npy"))})
        print({k: v for k, v in rows[-1].items() if k != "inputs"}, flush=True)
    return rows


def seconds_per_item(ask: Callable[[torch.Tensor], object], x: torch.Tensor, repeats: int = 5) -> float:
    """Return the median time of an answer, in batches of 64 as a gateway sends them."""
    ask(x[:64])
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for part in x[:512].split(64):
            ask(part)
        times.append((time.perf_counter() - begun) / len(x[:512]))
    return float(np.median(times))


__all__ = [
    "STUDENT",
    "Network",
    "Recorder",
    "Scene",
    "attacks",
    "scene",
    "seconds_per_item",
    "steal",
    "victim",
]
