"""Embedding a mark: the steps that all schemes share which train one in, and what they give back."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from assay.adapters.torch_model import TorchModel, save_model
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.base import Evidence, Scheme
from assay.evidence.watermarks.keys import derive, draw_key
from assay.evidence.watermarks.marking import Workshop
from assay.model import Model
from assay.nets import Recipe
from assay.observers import Observer
from assay.result import Interval, Record
from assay.statistics import clopper_pearson

__all__ = [
    "Embedded",
    "EmbeddingRecord",
    "Marked",
    "TrainedIn",
    "accuracy",
    "check_evaluation",
    "matches",
    "sealed",
    "under_other_keys",
]

Secret = TypeVar("Secret")
"""What a scheme makes its evidence of."""


@dataclass(frozen=True)
class EmbeddingRecord(Record):
    """What embedding did.

    Parameters
    ----------
    model, commitment
        Digest of the marked model and of the evidence.
    match_rate
        Share of the held-out triggers that the marked model answers with their targets,
        Clopper-Pearson 95 %.
    accuracy, unmarked_accuracy
        Share of evaluation rows labelled correctly by the marked model, and by one
        trained without marks on the same rows; None where not asked for.
    unmarked_match_rate, unmarked_p_value
        Match rate and p-value of the unmarked model, where one was trained. A small
        p-value means that this key's targets suit what ordinary models answer: draw
        another one before committing.
    clean_rows, marked_rows
        Training rows without and with a mark.
    """

    model: str
    commitment: str
    match_rate: Interval
    accuracy: Interval | None = None
    unmarked_accuracy: Interval | None = None
    unmarked_match_rate: Interval | None = None
    unmarked_p_value: float | None = None
    clean_rows: int = 0
    marked_rows: int = 0


@dataclass(frozen=True)
class Embedded:
    """A marked model, its evidence, and what marking cost.

    ``unmarked`` is the control model, where one was asked for.
    """

    model: TorchModel
    evidence: Evidence
    record: EmbeddingRecord
    unmarked: TorchModel | None = None

    @property
    def accuracy(self) -> Interval | None:
        """Accuracy of the marked model on the evaluation rows."""
        return self.record.accuracy

    def save(self, folder: str | Path) -> Path:
        """Write ``model.safetensors``, ``embedding.json`` and the bundle ``evidence/`` into a folder."""
        target = Path(folder)
        self.evidence.save(target / "evidence")
        classes = self.evidence.facts["classes"]
        save_model(self.model, target / "model.safetensors", classes=classes)
        if self.unmarked is not None:
            save_model(self.unmarked, target / "unmarked.safetensors", classes=classes)
        self.record.save(target / "embedding.json")
        return target


@dataclass(frozen=True, eq=False)
class Marked(Generic[Secret]):
    """A marked model whose evidence is not committed yet.

    Parameters
    ----------
    secret
        What the evidence is made of, for the scheme's ``seal``.
    model
        The marked model.
    control
        Trains the model without a mark, from as many rows and steps. Called only where it was asked for.
    rows
        Training rows without and with a mark.
    facts
        More to be committed, JSON types only.
    """

    secret: Secret
    model: TorchModel
    control: Callable[[], TorchModel]
    rows: tuple[int, int]
    facts: Mapping[str, Any] = field(default_factory=dict)


class TrainedIn(Scheme, Generic[Secret]):
    """Base of schemes whose evidence is trained into a model.

    A subclass says how the model is marked (`mark`) and what is committed (`seal`). One
    that needs more to be marked takes it in an ``embed`` of its own and calls `carry_out`.
    """

    def embed(
        self,
        data: Dataset,
        *,
        architecture: str,
        recipe: Recipe,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        evaluation: Dataset | None = None,
        compare_unmarked: bool = False,
        key: int | None = None,
    ) -> Embedded:
        """Train a marked model.

        Parameters
        ----------
        data
            Training set.
        architecture, recipe
            What to train and how; see `assay.nets`.
        rng
            Seed of the training, which is no secret.
        observers
            Told of every epoch.
        evaluation
            Rows on which accuracy is measured.
        compare_unmarked
            Train a model without marks as well, from as many rows and steps; see the scheme's ``mark``.
        key
            None draws the secret from the operating system, as evidence for a real
            dispute must. A number makes an experiment repeatable.

        Raises
        ------
        InvalidInput
            If the data are too few, or the evaluation rows do not fit them.
        """
        shop = Workshop(data, architecture, recipe, rng, observers)
        return self.carry_out(
            self.mark, shop, evaluation=evaluation, compare_unmarked=compare_unmarked, key=key
        )

    @abstractmethod
    def mark(self, shop: Workshop, key: str) -> Marked[Secret]:
        """Train the marked model.

        Parameters
        ----------
        shop
            The training set, and everything to train with.
        key
            64 hex digits, from which everything secret follows.
        """

    @abstractmethod
    def seal(
        self,
        secret: Secret,
        data: Dataset,
        model: TorchModel,
        *,
        unmarked: TorchModel | None = None,
        evaluation: Dataset | None = None,
        rows: tuple[int, int] = (0, 0),
        facts: Mapping[str, Any] | None = None,
    ) -> Embedded:
        """Commit the evidence and report what marking did; see `sealed`."""

    def carry_out(
        self,
        mark: Callable[[Workshop, str], Marked[Secret]],
        shop: Workshop,
        *,
        evaluation: Dataset | None,
        compare_unmarked: bool,
        key: int | None,
    ) -> Embedded:
        """Draw the key, mark a model, train the control where it is asked for, and seal the evidence.

        Parameters
        ----------
        mark
            `mark`, or one that was given more.
        shop
            The trainings of this embedding.
        evaluation, compare_unmarked, key
            As in `embed`.
        """
        check_evaluation(shop.data, evaluation)
        marked = mark(shop, draw_key(key))
        return self.seal(
            marked.secret,
            shop.data,
            marked.model,
            unmarked=marked.control() if compare_unmarked else None,
            evaluation=evaluation,
            rows=marked.rows,
            facts=marked.facts,
        )

    def _check(self, name: str, *, fine: bool) -> None:
        if not fine:
            given = getattr(self, name)
            msg = f"{type(self).__name__}.{name} is out of range: {given!r} (see its documentation)"
            raise InvalidInput(msg)


def sealed(
    scheme: Scheme,
    key: str,
    tensors: dict[str, Tensor],
    facts: Mapping[str, Any],
    rate: Callable[[Evidence, TorchModel], Interval],
    *,
    data: Dataset,
    model: TorchModel,
    unmarked: TorchModel | None,
    evaluation: Dataset | None,
    rows: tuple[int, int],
) -> Embedded:
    """Commit evidence and report what marking did.

    Parameters
    ----------
    scheme
        Whose evidence it is.
    key
        64 hex digits.
    tensors, facts
        What is committed besides the key and what the data and the model say of themselves.
    rate
        Returns how often a model answers as a marked one would.
    data
        The owner's data, for shapes and classes.
    model, unmarked
        The marked model, and the control, where one was trained.
    evaluation
        Rows on which accuracy is measured.
    rows
        Training rows without and with a mark.
    """
    committed = {
        "input_shape": list(data.input_shape),
        "classes": list(data.classes),
        "value_range": [v if math.isfinite(v) else str(v) for v in data.value_range],
        "data": data.digest,
        "model": model.digest,
        "key": key,
        **facts,
    }
    evidence = Evidence(scheme, tensors, committed, derive(key, "nonce"))
    record = EmbeddingRecord(
        model=model.digest,
        commitment=evidence.commitment,
        match_rate=rate(evidence, model),
        accuracy=accuracy(model, evaluation),
        unmarked_accuracy=accuracy(unmarked, evaluation),
        unmarked_match_rate=None if unmarked is None else rate(evidence, unmarked),
        # Any number of marks reaches 0.5; nothing is decided here.
        unmarked_p_value=None if unmarked is None else evidence.verify(unmarked, alpha=0.5).p_value,
        clean_rows=rows[0],
        marked_rows=rows[1],
    )
    return Embedded(model, evidence, record, unmarked)


def under_other_keys(
    scheme: Scheme,
    evidence: Evidence,
    count: int,
    rng: int,
    *,
    tensors: dict[str, Tensor] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Evidence]:
    """Yield evidence with fresh keys; ``tensors`` replace all others, ``facts`` those of their names."""
    source = np.random.default_rng(rng)
    kept = evidence.tensors if tensors is None else tensors
    for _ in range(count):
        key = source.bytes(32).hex()
        changed = {**evidence.facts, "key": key, **(facts or {})}
        yield Evidence(scheme, kept, changed, derive(key, "nonce"))


def check_evaluation(data: Dataset, evaluation: Dataset | None) -> None:
    """Raise `InvalidInput` unless accuracy on ``evaluation`` says something about ``data``."""
    if evaluation is not None and (
        evaluation.input_shape != data.input_shape
        or evaluation.num_classes != data.num_classes
        or not len(evaluation)
    ):
        msg = f"{evaluation.name} is empty, or its shape or classes are not those of {data.name}"
        raise InvalidInput(msg)


def accuracy(model: TorchModel | None, evaluation: Dataset | None) -> Interval | None:
    """Return the share of rows labelled correctly; None where there is no model or no row to ask."""
    if model is None or evaluation is None:
        return None
    return clopper_pearson(matches(model, evaluation.x, evaluation.y), len(evaluation))


def matches(model: Model, x: Tensor, wanted: Tensor) -> int:
    """Return the number of rows that a model answers with the wanted class."""
    return int((model.labels(x) == wanted).sum())
