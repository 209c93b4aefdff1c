"""The entangled watermark, key by key: accuracy, copies and false claims.

    ASSAY_DATA=... python studies/entangled/keys.py --task replica --keys 10 --out runs/entangled

Clean models, folds and panel are common to all keys. Models without marks and every finished key are
kept in the folder, so that a run that was stopped goes on where it was. Prints Markdown; with
``--false-claims 100`` further clean models are held against every key.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tables import counted, summary, table, words
from torch import nn
from torch.nn import functional

from assay.adapters import TorchModel, open_model, save_model
from assay.data import Dataset, load_data
from assay.errors import InvalidInput
from assay.evidence import load_evidence
from assay.evidence.watermarks import Entangled
from assay.nets import Network, Recipe, build, train
from assay.registry import register

ADAM = Recipe(epochs=10, optimizer="adam", lr=2e-3, weight_decay=1e-4, schedule="cosine")
QUERIES = 20
APART = 100_000  # between the seeds of keys
OWN, OTHER, CONTROL, FURTHER = 5000, 5100, 7000, 500_000  # seeds of copies and of clean models


@register("fashionreplica", kind="architecture")
def small(input_shape: tuple[int, ...], num_classes: int) -> Network:
    """Two convolutions without normalisation, for images of 14 by 14."""
    body = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(288, 64),
        nn.ReLU(),
    )
    return Network("fashionreplica", input_shape, num_classes, body, 64)


@dataclass(frozen=True)
class Task:
    """Data and networks; ``own`` are the owner's rows, ``other`` are as many that the owner never saw."""

    data: str
    rows: int
    architecture: str
    recipe: Recipe
    pool: int = 1


TASKS = {
    "replica": Task("fashion-mnist", 6000, "fashionreplica", ADAM, pool=2),
    "fashion": Task("fashion-mnist", 8000, "cnn-16", replace(ADAM, epochs=8)),
    "cifar": Task("cifar10", 8000, "cnn-16", replace(ADAM, epochs=12, augment="flip")),
}


class Study:
    """One task: its rows, its clean models, and what happens to a key."""

    def __init__(self, task: Task, scheme: Entangled, folder: Path) -> None:
        self.task, self.scheme, self.folder = task, scheme, folder
        rows = load_data(task.data, split="train")
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        self.own = self.part(rows, order[: task.rows])
        self.other = self.part(rows, order[task.rows : 2 * task.rows])
        test = load_data(task.data, split="test")
        self.test = self.part(test, torch.arange(len(test)))
        self.clean = scheme.clean_models(
            self.own, architecture=task.architecture, recipe=task.recipe, rng=0, keep=self.keep
        )

    def part(self, data: Dataset, rows: torch.Tensor) -> Dataset:
        """Return some rows, pooled as the task says."""
        return Dataset(
            functional.avg_pool2d(data.x[rows], self.task.pool), data.y[rows], data.classes, data.value_range
        )

    def keep(self, name: str, training: Callable[[], TorchModel]) -> TorchModel:
        """Open a model of an earlier run, or train it and keep it."""
        path = self.folder / "clean" / f"{name.replace(' ', '-')}.safetensors"
        if not path.exists():
            say(f"{name}: training")
            path.parent.mkdir(parents=True, exist_ok=True)
            save_model(training(), path, classes=self.own.classes)
        found = open_model(path)
        assert isinstance(found, TorchModel)
        return found

    def fit(self, data: Dataset, seed: int, targets: torch.Tensor | None = None) -> TorchModel:
        """Train a fresh network, on the labels or on a victim's answers."""
        network = build(self.task.architecture, data.input_shape, data.num_classes, seed)
        train(network, data, self.task.recipe, targets=targets, rng=seed)
        return TorchModel(network, data.input_shape, data.num_classes)

    def accuracy(self, model: TorchModel) -> float:
        """Return the share of test rows that are answered correctly."""
        return float((model.labels(self.test.x) == self.test.y).float().mean())

    def controls(self, count: int) -> list[float]:
        """Return the accuracy of models that were trained on the owner's rows without a mark."""
        rows = self.clean.stage.data
        trained = (
            self.keep(f"control {turn}", lambda turn=turn: self.fit(rows, CONTROL + turn))  # type: ignore[misc]
            for turn in range(count)
        )
        return [self.accuracy(model) for model in trained]

    def further(self, turn: int) -> TorchModel:
        """Return a clean model that nobody chose or tested by, of these rows or of others."""
        data = (self.clean.stage.data, self.other)[turn % 2]
        source = torch.Generator().manual_seed(FURTHER + turn)
        rows = torch.randperm(len(data), generator=source)[: round(0.8 * len(data))]
        return self.keep(f"further {turn}", lambda: self.fit(data.subset(rows), FURTHER + turn))

    def key(self, key: int) -> dict:
        """Mark a model with a key, steal it, and return what was found."""
        path = self.folder / f"key-{key}" / "found.json"
        if path.exists():
            return json.loads(path.read_text())
        started, seed = time.process_time(), APART * (key + 1)
        try:
            made = self.scheme.embed(
                self.own,
                architecture=self.task.architecture,
                recipe=self.task.recipe,
                rng=seed,
                key=key,
                evaluation=self.test,
                compare_unmarked=True,
                clean=self.clean,
            )
        except InvalidInput as error:
            return {"key": key, "refused": str(error)}
        rows = self.clean.stage.data
        models = {"marked": made.model, "unmarked": made.unmarked} | {
            f"{kind} {turn}": self.fit(data, seed + first + turn, made.model.labels(data.x))
            for kind, data, first, count in (("own", rows, OWN, 2), ("other", self.other, OTHER, 1))
            for turn in range(count)
        }
        asked, panel = made.evidence.tensors["triggers"], made.evidence.tensors["panel"]
        target = made.evidence.facts["choices"][0][0]
        found = {
            "key": key,
            "mark": made.evidence.facts["names"][0],
            "marked_rows": made.record.marked_rows,
            "attempts": [asdict(attempt) for attempt in made.record.attempts],
            "triggers": len(asked),
            "panel": (panel == target).double().mean(1).tolist(),
            "bound": self.test_of(made.evidence, made.model)[1],
            "match": {k: float((m.labels(asked) == target).double().mean()) for k, m in models.items()},
            "p": {k: self.test_of(made.evidence, m)[0] for k, m in models.items()},
            "accuracy": {k: self.accuracy(m) for k, m in models.items()},
            "seconds": time.process_time() - started,
        }
        made.save(path.parent)
        path.write_text(json.dumps(found, indent=1))
        return found

    def test_of(self, evidence, model) -> tuple[float, float]:  # noqa: ANN001 - Evidence and Model
        """Return the p-value of one look at 20 answers, and the bound that it is against."""
        verdict = evidence.verify(model, alpha=0.5, budget=QUERIES)
        return float(verdict.p_value), float(verdict.details["false_positive_bound"])

    def false_claims(self, key: int, models: Sequence[TorchModel]) -> list[float]:
        """Return the p-values of clean models under a key."""
        evidence = load_evidence(self.folder / f"key-{key}" / "evidence")
        return [self.test_of(evidence, model)[0] for model in models]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=TASKS, default="replica")
    parser.add_argument("--keys", type=int, default=10, help="how many keys")
    parser.add_argument("--first", type=int, default=0, help="the first key; settings are chosen on others")
    parser.add_argument(
        "--controls", type=int, default=8, help="unmarked models, besides one a key, that the cost is against"
    )
    parser.add_argument("--false-claims", type=int, default=0, help="further clean models for every key")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="of the scheme")
    parser.add_argument("--out", type=Path, required=True, help="folder to keep everything in")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    changed = {name: json.loads(value) for name, value in (part.split("=", 1) for part in given.set)}
    study = Study(TASKS[given.task], Entangled(stop_early=False, **changed), given.out / given.task)
    unmarked = study.controls(given.controls)
    rows = []
    for key in range(given.first, given.first + given.keys):
        row = study.key(key)
        say(f"key {key}: {row.get('refused') or row['match']}")
        rows.append(row)
    done = [row for row in rows if "refused" not in row]
    unmarked += [row["accuracy"]["unmarked"] for row in done]
    if not done:
        sys.exit("every key was refused")
    found = summary(done, unmarked) | {"refused": len(rows) - len(done)}
    if given.false_claims:
        models = [study.further(turn) for turn in range(given.false_claims)]
        p = [value for row in done for value in study.false_claims(row["key"], models)]
        found["false_claims"] = {"models": len(p), **counted(p)}
    if given.json:
        print(json.dumps({"scheme": asdict(study.scheme), "rows": rows, "summary": found}, indent=1))
        return
    print(table(done, float(np.mean(unmarked))), words(found), sep="\n\n")


if __name__ == "__main__":
    main()
