"""What a study comes to: steps, and the cells of its tables; kept beside a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from assay.errors import InvalidInput
from assay.study.step import Step

__all__ = ["Cell", "Plan"]

_SCHEMA = 1


@dataclass(frozen=True)
class Cell:
    """A row of a table: where in the grid it stands, and which step finds it.

    Parameters
    ----------
    table
        ``"models"``, ``"extractions"``, ``"removals"``, ``"verdicts"`` or ``"panel"``.
    row
        Coordinates, and whatever else is known beforehand.
    key
        Of the step.
    about
        Keys of further steps whose facts the row shows, by name.
    """

    table: str
    row: dict[str, Any]
    key: str
    about: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The steps of a study, each once, and the cells that show them.

    Examples
    --------
    >>> plan = Plan((Step("data", {"source": "iris"}),), ())
    >>> again = Plan.from_json(plan.to_json("a study"), "a study")
    >>> again.steps[0].key == plan.steps[0].key, Plan.from_json(plan.to_json("a study"), "another") is None
    (True, True)
    """

    steps: tuple[Step, ...]
    cells: tuple[Cell, ...]

    @property
    def seconds(self) -> float:
        """Estimated core-seconds."""
        return sum(step.seconds for step in self.steps)

    @cached_property
    def by_key(self) -> Mapping[str, Step]:
        """The steps by their keys."""
        return {step.key: step for step in self.steps}

    @cached_property
    def longest(self) -> float:
        """Estimated seconds of the longest chain of steps: no number of cores is faster."""
        ends: dict[str, float] = {}
        for step in self.steps:
            stack = [step]
            while stack:
                one = stack[-1]
                missing = [self.by_key[p] for p in one.parents if p not in ends and p in self.by_key]
                if missing:
                    stack += missing
                    continue
                stack.pop()
                ends[one.key] = one.seconds + max((ends.get(p, 0.0) for p in one.parents), default=0.0)
        return max(ends.values(), default=0.0)

    def to_json(self, study: str) -> str:
        """Return JSON text; ``study`` names the study whose plan it is."""
        steps = [{**s.to_dict(), "memory": s.memory, "gpus": s.gpus} for s in self.steps]
        return json.dumps(
            {"schema": _SCHEMA, "study": study, "steps": steps, "cells": [vars(c) for c in self.cells]},
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str, study: str) -> Plan | None:
        """Return what `to_json` wrote, keys included; None if it is another study's.

        The keys are those under which the steps were run, also where a later version of
        the library would call the same steps by others.

        Raises
        ------
        InvalidInput
            If it is no plan.
        """
        try:
            data = json.loads(text)
            if data["schema"] != _SCHEMA or data["study"] != study:
                return None
            return cls(tuple(map(_step, data["steps"])), tuple(Cell(**c) for c in data["cells"]))
        except (ValueError, KeyError, TypeError) as error:
            msg = f"the plan of the run cannot be read: {error}"
            raise InvalidInput(msg) from error


def _step(data: dict[str, Any]) -> Step:
    given = {**data, "inputs": {k: v if isinstance(v, str) else tuple(v) for k, v in data["inputs"].items()}}
    key = given.pop("key")
    step = Step(**given)
    vars(step)["key"] = key  # in place of the one that this version would compute
    return step
