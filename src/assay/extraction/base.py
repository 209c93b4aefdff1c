"""The extraction contract: a metered victim and a pool go in, a copy and its worth come out."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from assay.adapters.base import BatchedModel
from assay.adapters.torch_model import TorchModel, save_model
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.extraction.exact.worth import ExactWorth
from assay.ledger import Ledger, Recorded
from assay.model import Access, Model, require
from assay.observers import Observer
from assay.result import Cost, CurvePoint, Interval, Record
from assay.statistics import wilson

__all__ = ["Attack", "Extraction", "ExtractionRecord", "check_fits", "worth"]


@dataclass(frozen=True)
class ExtractionRecord(Record):
    """What an extraction cost and what the copy is worth.

    Parameters
    ----------
    attack, parameters
        Registered name and hyperparameters.
    victim, surrogate
        Digests of the two models.
    cost
        Queries and round trips spent on the victim. Measuring fidelity is the owner's
        business and is not counted.
    fidelity
        Share of evaluation rows on which copy and victim agree, Wilson 95 % interval.
    accuracy, victim_accuracy
        Share of evaluation rows labelled correctly by copy and victim.
    curve
        Fidelity and accuracy after fewer queries, where the attack was asked for it.
    exact
        What an attack that recovers parameters found (see `assay.extraction.exact`).
    seed, versions, schema
        Provenance.
    """

    attack: str
    parameters: dict[str, Any]
    victim: str
    surrogate: str
    cost: Cost
    fidelity: Interval | None = None
    accuracy: Interval | None = None
    victim_accuracy: Interval | None = None
    curve: tuple[CurvePoint, ...] = ()
    exact: ExactWorth | None = None
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = 1


@dataclass(frozen=True)
class Extraction:
    """A copy of a model with the record of how it was made."""

    surrogate: BatchedModel
    record: ExtractionRecord

    def save(self, folder: str | Path) -> Path:
        """Write ``surrogate.safetensors`` and ``extraction.json`` into a folder."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        save_model(self.surrogate, target / "surrogate.safetensors")
        self.record.save(target / "extraction.json")
        return target


class Attack(ABC):
    """Base of every extraction attack; subclasses are registered frozen dataclasses.

    A subclass states ``needs`` and writes `steal`; it sees the victim only as a
    `Ledger` that grants exactly ``needs``.

    Attributes
    ----------
    name
        Registered name.
    needs
        Access to the victim without which the attack cannot work.
    private_data
        Whether the pool must be the victim's own training data.
    asks_pool
        Whether the attack asks the victim about every row of the pool. Such an attack
        gets no larger pool than its budget pays for.
    needs_pool
        Whether the attack needs inputs of the attacker at all.
    """

    name: ClassVar[str]
    needs: ClassVar[Access]
    private_data: ClassVar[bool] = False
    asks_pool: ClassVar[bool] = True
    needs_pool: ClassVar[bool] = True

    @abstractmethod
    def steal(
        self,
        oracle: Ledger,
        pool: Dataset,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module | BatchedModel:
        """Return a copy of the model behind ``oracle``: a module from inputs to logits, or a model.

        Parameters
        ----------
        oracle
            The victim; rows are asked in the order of the pool, so that a curve can
            replay a shorter attack from the answers of a longer one.
        pool
            The attacker's inputs; must not be modified.
        rng
            Seed of everything random. Global random state must be left alone.
        observers
            Told about training.
        checkpoint
            File from which an interrupted training goes on.
        """

    def run(
        self,
        victim: Model,
        pool: Dataset,
        *,
        budget: int | None = None,
        evaluation: Dataset | None = None,
        curve: Sequence[int] = (),
        rng: int = 0,
        observers: Sequence[Observer] = (),
        journal: str | Path | None = None,
        checkpoint: str | Path | None = None,
        price: float = 0.0,
    ) -> Extraction:
        """Steal ``victim`` with the inputs of ``pool``.

        Parameters
        ----------
        victim
            The model to copy.
        pool
            The attacker's inputs; their labels are used only by attacks that steal data.
        budget
            Largest number of queries. A pool of which every row is asked is cut to it.
        evaluation
            Rows on which fidelity and accuracy are measured; none of them should be in
            the pool.
        curve
            Smaller numbers of queries at which the copy is measured as well, each by an
            attack of its own that replays answers already paid for. Needs ``evaluation``.
        rng
            Seed; the same seed gives the same copy.
        observers, journal, price
            See `assay.ledger.Ledger`.
        checkpoint
            File from which an interrupted training goes on.

        Raises
        ------
        AccessDenied, BudgetExceeded, InvalidInput
            If the victim offers too little, or the inputs do not fit it.
        """
        require(victim, self.needs, f"the attack {self.name}")
        check_fits(victim, pool)
        if evaluation is not None:
            check_fits(victim, evaluation)
        if curve and (evaluation is None or min(curve) < 1):
            msg = "an extraction curve needs an evaluation set and numbers of queries of at least 1"
            raise InvalidInput(msg)
        if budget is not None and self.asks_pool and 0 <= budget < len(pool):
            pool = pool.subset(range(budget))
        if not len(pool):
            msg = f"the attack {self.name} has no inputs to work with: the pool or the budget is empty"
            raise InvalidInput(msg)
        with tempfile.TemporaryDirectory() as scratch:
            book = Path(journal) if journal is not None else Path(scratch) / "answers.jsonl"
            keep = journal is not None or bool(curve)
            with Ledger(
                victim,
                self.needs,
                budget=budget,
                journal=book if keep else None,
                price=price,
                observers=observers,
            ) as oracle:
                network = self.steal(
                    oracle,
                    pool,
                    rng=rng,
                    observers=observers,
                    checkpoint=None if checkpoint is None else Path(checkpoint),
                )
                cost = oracle.cost
            smaller = []
            for queries in sorted(q for q in set(curve) if q < cost.queries):
                # Answers already paid for: the journal is asked, never the victim.
                with Ledger(Recorded(book), self.needs, journal=book) as oracle:
                    part = self.steal(oracle, pool.subset(range(queries)), rng=rng, observers=observers)
                smaller.append((queries, _wrap(part, pool, self.name)))
        surrogate = _wrap(network, pool, f"{self.name} copy of {victim.name}")
        shown: dict[str, Interval] = {}
        points: list[CurvePoint] = []
        if evaluation is not None and len(evaluation):
            theirs = victim.labels(evaluation.x)
            shown = worth(theirs, surrogate, evaluation)
            for queries, copy in [*smaller, (cost.queries, surrogate)]:
                found = worth(theirs, copy, evaluation)
                points.append(CurvePoint(queries, found["fidelity"].value, found["accuracy"].value))
        record = ExtractionRecord(
            attack=self.name,
            # Through JSON, so that a saved record compares equal to this one.
            parameters=json.loads(json.dumps(dataclasses.asdict(cast("Any", self)))),
            victim=victim.digest,
            surrogate=surrogate.digest,
            cost=cost,
            curve=tuple(points),
            seed=rng,
            versions={"assay": metadata.version("assay-ml"), "torch": torch.__version__},
            fidelity=shown.get("fidelity"),
            accuracy=shown.get("accuracy"),
            victim_accuracy=shown.get("victim_accuracy"),
        )
        return Extraction(surrogate, record)


def _wrap(network: nn.Module | BatchedModel, pool: Dataset, name: str) -> BatchedModel:
    if isinstance(network, BatchedModel):
        return network
    return TorchModel(network, pool.input_shape, pool.num_classes, name=name)


def check_fits(victim: Model, data: Dataset) -> None:
    """Raise `InvalidInput` unless inputs and classes of ``data`` are those of ``victim``."""
    if data.input_shape != tuple(victim.input_shape) or data.num_classes != victim.num_classes:
        msg = (
            f"{data.name} has inputs of shape {data.input_shape} and {data.num_classes} classes, but "
            f"{victim.name} takes {tuple(victim.input_shape)} and has {victim.num_classes} classes"
        )
        raise InvalidInput(msg)


def worth(theirs: Tensor, copy: Model, evaluation: Dataset) -> dict[str, Interval]:
    """Return fidelity, accuracy and victim_accuracy of a copy; ``theirs`` are the victim's labels."""
    ours, n = copy.labels(evaluation.x), len(evaluation)
    return {
        "fidelity": wilson(int((theirs == ours).sum()), n),
        "accuracy": wilson(int((ours == evaluation.y).sum()), n),
        "victim_accuracy": wilson(int((theirs == evaluation.y).sum()), n),
    }
