"""The steps that load data and train the models of a pool, with what they cost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.errors import InvalidInput
from assay.nets import Recipe
from assay.registry import nearest
from assay.study.check import Shape, fits, recipe_of, shape_of
from assay.study.estimate import ask_seconds, train_seconds
from assay.study.file import Study
from assay.study.step import Step
from assay.study.store import Store

__all__ = ["Material", "plain", "seed_of"]

_LARGEST_SEED = 2**31 - 1
_PROCESS, _NUMBER = 600 * 2**20, 4  # bytes of a process that does nothing yet, and of a float32
_OVERHEAD = 0.5
_WHOLE = 1.0


def seed_of(*names: str | int) -> int:
    """Return a seed that depends on names and numbers, and on nothing else.

    Examples
    --------
    >>> seed_of("verify", 1) == seed_of("verify", 1), seed_of("verify", 1) == seed_of("verify", 2)
    (True, False)
    """
    text = "/".join(map(str, names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % _LARGEST_SEED


def plain(config: Any) -> dict[str, Any]:
    """Return a dataclass of hyperparameters as plain JSON types."""
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return found


class Material:
    """Makes the steps of one study.

    Parameters
    ----------
    study
        Its tables.
    store
        For the shapes of data that were loaded before.
    add
        Keeps a step; returns the one that is there already if there is.
    """

    def __init__(self, study: Study, store: Store | None, add: Callable[[Step], Step]) -> None:
        self.study, self.file, self.store, self.add = study, study.file, store, add
        self._data: dict[str, tuple[Step, Shape]] = {}
        self._bytes: dict[str, int] = {}
        self._recipes: dict[tuple[Any, ...], Recipe] = {}

    def data(self, name: str) -> tuple[Step, Shape]:
        """Return the step that loads a data set, and its shape."""
        if name not in self._data:
            table = self.file.data[name]
            config: dict[str, Any] = {
                "source": table.source,
                "split": table.split,
                "limit": table.limit,
                "parts": table.parts,
            }
            if table.pooled is not None:
                config["pooled"] = table.pooled
            path = Path(table.source.split(":", 1)[-1]).expanduser()
            if path.is_file():
                config["file"] = hashlib.sha256(path.read_bytes()).hexdigest()
            step = self.add(Step("data", config, {}, table.seed, f"data {name}", 5.0))
            shape = shape_of(self.study, name, step.key, self.store)
            self._data[name] = step, shape
            self._bytes[step.key] = sum(table.parts.values()) * math.prod(shape.input_shape) * _NUMBER
        return self._data[name]

    def memory(self, step: Step) -> int:
        """Return the bytes that a step may need: a process with torch, and its data twice."""
        data = step.inputs.get("data")
        return _PROCESS + 2 * self._bytes.get(data if isinstance(data, str) else "", 0)

    def part(self, data: str, name: str, *place: str | int) -> int:
        """Return the rows of a part, which must exist."""
        parts = self.file.data[data].parts
        if name not in parts:
            raise InvalidInput(
                f"{self.study.where(*place)}: " + nearest(name, list(parts), f"part of {data}")
            )
        return parts[name]

    def recipe(self, options: str | dict[str, Any], *place: str | int) -> Recipe:
        """Return a recipe, read once."""
        if place not in self._recipes:
            self._recipes[place] = recipe_of(self.study, options, *place)
        return self._recipes[place]

    def train(
        self,
        data: str,
        architecture: str,
        recipe: Recipe,
        draws: list[dict[str, Any]],
        seed: int,
        label: str,
        evaluation: str,
    ) -> Step:
        """Return the step that trains a network."""
        step, shape = self.data(data)
        rows = sum(round(self.file.data[data].parts[d["part"]] * d["share"]) for d in draws)
        config = {
            "architecture": architecture,
            "recipe": plain(recipe),
            "rows": draws,
            "evaluation": evaluation,
        }
        cost = train_seconds(architecture, shape.input_shape, shape.classes, rows, recipe.epochs)
        return self.add(Step("train", config, {"data": step.key}, seed, label, cost + _OVERHEAD))

    def half(self, victim: str, index: int, side: str = "in") -> dict[str, Any]:
        """Return the private share of a pool (or the rest) under the coin of a number."""
        table = self.file.victim[victim]
        return {
            "part": table.pool,
            "share": table.private,
            "seed": seed_of("coin", table.data, table.pool, index),
            "side": side,
        }

    def pool_model(self, victim: str, index: int) -> Step:
        """Return the model trained on the private share of a number: a victim, or a reference for others."""
        table = self.file.victim[victim]
        _, shape = self.data(table.data)
        self.part(table.data, table.pool, "victim", victim, "pool")
        self.part(table.data, table.evaluation, "victim", victim, "evaluation")
        if table.architecture is None:
            msg = (
                f"{self.study.where('victim', victim)}: [victim.{victim}] must have 'architecture' or 'model'"
            )
            raise InvalidInput(msg)
        fits(self.study, table.architecture, shape, "victim", victim, "architecture")
        recipe = self.recipe(table.recipe, "victim", victim, "recipe")
        return self.train(
            table.data,
            table.architecture,
            recipe,
            [self.half(victim, index)],
            index,
            f"model {index} of {victim}",
            table.evaluation,
        )

    def test_seconds(self, victim: str) -> float:
        """Return the estimated cost of one verification."""
        about = self.file.victim[victim]
        if about.architecture is None:
            return 1.0
        _, shape = self.data(about.data)
        return 0.2 + ask_seconds(about.architecture, shape.input_shape, shape.classes, 5000)
