"""Steps: pure functions of configuration, inputs, seed and version, named by the digest of all four."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

from assay.errors import InvalidInput
from assay.registry import get, register

if TYPE_CHECKING:
    from assay.study.context import Context

__all__ = ["Step", "StepFunction", "canonical", "step_kind", "step_version", "topological"]

Inputs = Mapping[str, str | tuple[str, ...]]


class StepFunction(Protocol):
    """What a registered step does: files into ``context.out``, small facts returned."""

    version: int

    def __call__(self, context: Context) -> dict[str, Any]:
        """Run the step."""


def step_kind(
    name: str, *, version: int = 1
) -> Callable[[Callable[[Context], dict[str, Any]]], StepFunction]:
    """Register a function as a kind of step.

    Parameters
    ----------
    name
        How plans call it.
    version
        Part of every key. Raise it when the function's results change, and everything
        that was computed by the old one, and whatever depends on it, is computed anew.

    Examples
    --------
    >>> @step_kind("example-sum")
    ... def example_sum(context):
    ...     "Add two numbers."
    ...     return {"sum": context.config["a"] + context.config["b"]}
    >>> step_version("example-sum")
    1
    """

    def decorate(function: Callable[[Context], dict[str, Any]]) -> StepFunction:
        made = cast("StepFunction", function)
        made.version = version
        return register(name, "step")(made)

    return decorate


def step_version(kind: str) -> int:
    """Return the version of a kind of step."""
    return int(get(kind, "step").target.version)


def canonical(value: Any) -> str:
    """Return JSON text that is the same for equal values, whatever the order of their keys.

    Raises
    ------
    InvalidInput
        If the value has something that JSON has not.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        msg = f"a step's configuration must be plain JSON: {error}"
        raise InvalidInput(msg) from error


@dataclass(frozen=True, eq=False)
class Step:
    """One computation of a study.

    Parameters
    ----------
    kind
        Registered kind of step.
    config
        JSON types only.
    inputs
        Names of inputs, each with the key of the step that makes it, or with several keys.
    seed
        Of everything random.
    label
        What people read; not part of the key, so that two studies may name the same
        computation differently and share it.
    seconds, memory, gpus
        Estimated core-seconds, bytes and GPUs; not part of the key.

    Examples
    --------
    >>> one = Step("train", {"architecture": "mlp", "epochs": 2}, seed=1)
    >>> two = Step("train", {"epochs": 2, "architecture": "mlp"}, seed=1, label="another name")
    >>> one.key == two.key, one.key == Step("train", dict(one.config), seed=2).key
    (True, False)
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Inputs = field(default_factory=dict)
    seed: int = 0
    label: str = ""
    seconds: float = 1.0
    memory: int = 0
    gpus: float = 0.0

    @cached_property
    def key(self) -> str:
        """SHA-256 of kind, version, configuration, input keys and seed."""
        content = [self.kind, step_version(self.kind), self.config, self.inputs, self.seed]
        return hashlib.sha256(canonical(content).encode()).hexdigest()

    @cached_property
    def parents(self) -> tuple[str, ...]:
        """Keys of all inputs."""
        found: list[str] = []
        for value in self.inputs.values():
            found += [value] if isinstance(value, str) else value
        return tuple(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "key": self.key,
            "kind": self.kind,
            "config": dict(self.config),
            "inputs": {k: v if isinstance(v, str) else list(v) for k, v in self.inputs.items()},
            "seed": self.seed,
            "label": self.label,
            "seconds": self.seconds,
        }


def topological(steps: Iterable[Step]) -> list[Step]:
    """Return the steps, each once, after everything that they need.

    Raises
    ------
    InvalidInput
        If an input is missing among the steps. There are no cycles: a key contains the
        keys of its inputs.
    """
    known = {step.key: step for step in steps}
    order: list[Step] = []
    state: dict[str, bool] = {}  # False: on the way, True: done
    for first in known.values():
        stack = [first]
        while stack:
            step = stack[-1]
            if state.get(step.key):
                stack.pop()
                continue
            missing = [p for p in step.parents if not state.get(p)]
            unknown = [p for p in missing if p not in known]
            if unknown:
                msg = f"the step {step.label or step.kind} needs {unknown[0][:12]}, which is not in the plan"
                raise InvalidInput(msg)
            if missing:
                stack += [known[p] for p in missing]
                continue
            state[step.key] = True
            order.append(step)
            stack.pop()
    return order
