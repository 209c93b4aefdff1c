"""The removal contract: a copied model and the thief's data go in, a washed model comes out."""

from __future__ import annotations

import dataclasses
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import nn

from assay.adapters.torch_model import TorchModel, save_model
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.model import Access, Model, require
from assay.observers import Observer
from assay.result import Interval, Record
from assay.statistics import wilson

__all__ = ["Removal", "RemovalRecord", "Removed"]


@dataclass(frozen=True)
class RemovalRecord(Record):
    """What a removal attack did to a model and what is left of its worth.

    Whether evidence was washed out is for its test to say; accuracy stands beside that
    answer, because a model that lost both was destroyed rather than washed.

    Parameters
    ----------
    removal, parameters
        Registered name and hyperparameters.
    model, washed
        Digests of the model before and after.
    accuracy_before, accuracy
        Share of evaluation rows labelled correctly before and after, Wilson 95 %
        intervals.
    fidelity
        Share of evaluation rows on which the washed model agrees with the one before.
    rows
        Rows of data that the attack was given.
    seconds
        Wall-clock time of the attack, without its evaluation.
    measured
        What the attack says of itself, such as how often the thief's own mark works.
    seed, versions, schema
        Provenance.
    """

    removal: str
    parameters: dict[str, Any]
    model: str
    washed: str
    accuracy_before: Interval | None = None
    accuracy: Interval | None = None
    fidelity: Interval | None = None
    rows: int = 0
    seconds: float = 0.0
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = 1
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Removed:
    """A washed model with the record of how it was washed."""

    model: TorchModel
    record: RemovalRecord

    def save(self, folder: str | Path) -> Path:
        """Write ``model.safetensors`` and ``removal.json`` into a folder."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        save_model(self.model, target / "model.safetensors")
        self.record.save(target / "removal.json")
        return target


class Removal(ABC):
    """Base of every removal attack; subclasses are registered frozen dataclasses.

    The thief holds the copy's weights and knows that there may be evidence inside, but
    not which. A subclass writes `wash`.

    Attributes
    ----------
    name
        Registered name.
    needs
        Access to the copy; weights, for every removal.
    """

    name: ClassVar[str]
    needs: ClassVar[Access] = Access.WEIGHTS

    @property
    def needs_data(self) -> bool:
        """Whether the attack, with these hyperparameters, can do nothing without data."""
        return True

    @abstractmethod
    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Return a washed copy of ``module``, in evaluation mode.

        Parameters
        ----------
        module
            From inputs ``[n, *shape]`` to logits ``[n, classes]``; must not be modified,
            nor run in training mode (`assay.removal.layers.copied` gives a copy to work
            on).
        data
            The thief's data; must not be modified. None only if ``needs_data`` is false.
        rng
            Seed of everything random. Global random state must be left alone.
        observers
            Told about training.
        checkpoint
            File from which an interrupted training goes on.
        """

    def measure(self, washed: nn.Module, data: Dataset | None, rng: int) -> dict[str, float]:  # noqa: ARG002 - for subclasses
        """Return what the attack can say of its own success; nothing, unless a subclass knows more.

        Parameters
        ----------
        washed
            The washed network, in evaluation mode; must not be modified.
        data
            The evaluation data, or the thief's where there are none.
        rng
            Seed that the attack had.
        """
        return {}

    def run(
        self,
        model: Model,
        data: Dataset | None = None,
        *,
        evaluation: Dataset | None = None,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        checkpoint: str | Path | None = None,
    ) -> Removed:
        """Wash ``model`` and measure what is left of it.

        Parameters
        ----------
        model
            The copy; it must offer its weights and stays as it is.
        data
            The thief's data, which may be few rows and need not be the victim's.
        evaluation
            Rows on which accuracy and fidelity are measured; none of them should be in
            ``data``.
        rng
            Seed; the same seed gives the same washed model.
        observers
            Told about training.
        checkpoint
            File from which an interrupted training goes on.

        Raises
        ------
        AccessDenied
            If the model does not offer its weights.
        InvalidInput
            If data are missing or do not fit the model, if the network has no weights of
            the kind that the attack changes, or if it ends in weights that are not finite.
        """
        require(model, self.needs, f"the removal {self.name}")
        if data is None and self.needs_data:
            msg = f"the removal {self.name} needs data with these settings; pass some of the thief's"
            raise InvalidInput(msg)
        for given in (data, evaluation):
            if given is not None:
                _check_fits(model, given)
        started = time.perf_counter()
        washed = self.wash(
            model.module,
            data,
            rng=rng,
            observers=observers,
            checkpoint=None if checkpoint is None else Path(checkpoint),
        )
        seconds = time.perf_counter() - started
        _check_finite(washed, self.name)
        device = next((p.device for p in washed.parameters()), torch.device("cpu"))
        after = TorchModel(
            washed,
            model.input_shape,
            model.num_classes,
            name=f"{model.name} after {self.name}",
            device=device,
        )
        shown = {} if evaluation is None else _worth(model, after, evaluation)
        record = RemovalRecord(
            removal=self.name,
            # Through JSON, so that a saved record compares equal to this one.
            parameters=json.loads(json.dumps(dataclasses.asdict(cast("Any", self)))),
            model=model.digest,
            washed=after.digest,
            rows=0 if data is None else len(data),
            seconds=seconds,
            seed=rng,
            versions={"assay": metadata.version("assay-ml"), "torch": torch.__version__},
            accuracy_before=shown.get("accuracy_before"),
            accuracy=shown.get("accuracy"),
            fidelity=shown.get("fidelity"),
            measured=self.measure(washed, data if evaluation is None else evaluation, rng),
        )
        return Removed(after, record)


def _check_fits(model: Model, data: Dataset) -> None:
    if data.input_shape != tuple(model.input_shape) or data.num_classes != model.num_classes:
        msg = (
            f"{data.name} has inputs of shape {data.input_shape} and {data.num_classes} classes, but "
            f"{model.name} takes {tuple(model.input_shape)} and has {model.num_classes} classes"
        )
        raise InvalidInput(msg)
    if not len(data):
        msg = f"{data.name} is empty; a removal needs rows to work with and to be measured on"
        raise InvalidInput(msg)


def _check_finite(washed: nn.Module, name: str) -> None:
    for value in chain(washed.parameters(), washed.buffers()):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            msg = f"the removal {name} ended in weights that are not finite; use gentler settings"
            raise InvalidInput(msg)


def _worth(before: Model, after: Model, evaluation: Dataset) -> dict[str, Interval]:
    old, new, n = before.labels(evaluation.x), after.labels(evaluation.x), len(evaluation)
    return {
        "accuracy_before": wilson(int((old == evaluation.y).sum()), n),
        "accuracy": wilson(int((new == evaluation.y).sum()), n),
        "fidelity": wilson(int((new == old).sum()), n),
    }
