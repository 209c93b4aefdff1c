"""Query strategies: what to ask next, given what the answers so far have taught.

The loop of active extraction: propose inputs, ask the victim, train the copy on
everything answered so far, repeat. A strategy is one file that says what to propose
and what to ask for; what it needs to decide stands in a `Learned`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.data.pools import foreign
from assay.errors import InvalidInput
from assay.extraction.base import Extraction, worth
from assay.extraction.student import Student
from assay.ledger import Ledger, Recorded
from assay.model import Access, Model
from assay.nets import Network, train
from assay.observers import Observer
from assay.result import CurvePoint

__all__ = ["Learned", "QueryStrategy", "Ranked"]


@dataclass
class Learned:
    """What a strategy knows between two rounds.

    Parameters
    ----------
    pool
        The attacker's inputs.
    generator
        Source of everything random that the strategy draws.
    round
        Rounds finished.
    network
        The copy as trained so far, None before the first round.
    x
        Inputs asked so far, ``[n, *shape]``, in the order in which they were asked.
    answers
        What the victim said to them: int64 ``[n]`` or probabilities ``[n, k]``.
    taken
        Rows of the pool that were asked, bool ``[len(pool)]``.
    """

    pool: Dataset
    generator: torch.Generator
    round: int = 0
    network: Network | None = None
    x: Tensor = field(default_factory=lambda: torch.empty(0))
    answers: Tensor = field(default_factory=lambda: torch.empty(0))
    taken: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))

    @property
    def labels(self) -> Tensor:
        """The classes that the victim gave, int64 ``[n]``."""
        return self.answers.argmax(1) if self.answers.is_floating_point() else self.answers


@dataclass(frozen=True, kw_only=True)
class QueryStrategy(Student):
    """Base of attacks that choose or make their queries, in rounds.

    A subclass writes `propose`. It may also replace `ask` (what is asked for) and
    `learn` (how the copy is trained), which is all that the strategies of Dziedzic et
    al. 2022, table 2, differ in.

    Parameters
    ----------
    queries
        Most queries to ask; None for as many as budget and pool allow.
    per_round
        Most queries between two trainings, at least 1; None for all in one round.
    adapt
        Whether a pool of another task is brought into the victim's shape and number of
        classes first (see `assay.data.pools.foreign`); refused otherwise.
    """

    asks_pool: ClassVar[bool] = False

    queries: int | None = None
    per_round: int | None = 1000
    adapt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("queries", "per_round"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise InvalidInput(msg)

    @abstractmethod
    def propose(self, learned: Learned, count: int) -> Tensor:
        """Return the next inputs to ask, at most ``count``; none ends the attack.

        Rows taken from the pool must be marked in ``learned.taken``. A smaller
        ``count`` must give a prefix of what a larger one gives.
        """

    def ask(self, oracle: Ledger, x: Tensor) -> Tensor:
        """Return the victim's answers: scores if this attack needs them, else labels."""
        return oracle.scores(x) if Access.SCORES in self.needs else oracle.labels(x)

    def learn(
        self,
        learned: Learned,
        rng: int,
        observers: Sequence[Observer],
        checkpoint: Path | None,
    ) -> Network:
        """Return a copy trained from scratch on everything answered so far."""
        pool = learned.pool
        network = self.student(pool, rng)
        data = Dataset(learned.x, learned.labels, pool.classes, pool.value_range, f"queries of {self.name}")
        train(
            network,
            data,
            self.recipe,
            targets=learned.answers,
            rng=rng,
            observers=observers,
            checkpoint=checkpoint,
            task=self.name,
        )
        return network

    def limit(self, oracle: Ledger, pool: Dataset) -> int:
        """Return the most queries that this run may ask."""
        bounds = (self.queries, oracle.remaining, len(pool))
        return min(bound for bound in bounds if bound is not None)

    def targets(self, oracle: Ledger, pool: Dataset) -> Tensor:
        """Return the answers to the whole pool, as an attack without strategy would."""
        return self.ask(oracle, pool.x)

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
        """Steal ``victim``; see `assay.extraction.base.Attack.run`.

        A point of the curve is the same attack with fewer ``queries``, on the answers
        that are already paid for.
        """
        if self.adapt and len(pool):
            pool = foreign(pool, victim.input_shape, victim.num_classes)
        if curve and (evaluation is None or min(curve) < 1):
            msg = "an extraction curve needs an evaluation set and numbers of queries of at least 1"
            raise InvalidInput(msg)
        with tempfile.TemporaryDirectory() as scratch:
            book = Path(journal) if journal is not None else Path(scratch) / "answers.jsonl"
            found = super().run(
                victim,
                pool,
                budget=budget,
                evaluation=evaluation,
                rng=rng,
                observers=observers,
                journal=book if journal is not None or curve else None,
                checkpoint=checkpoint,
                price=price,
            )
            if not curve or evaluation is None:
                return found
            points = list(found.record.curve)
            theirs = victim.labels(evaluation.x)
            for queries in sorted(q for q in set(curve) if q < found.record.cost.queries):
                shorter = dataclasses.replace(self, queries=queries, adapt=False)
                with Ledger(Recorded(book), self.needs, journal=book) as oracle:
                    copy = shorter.steal(oracle, pool, rng=rng, observers=observers)
                value = worth(theirs, shorter.wrap(copy, pool), evaluation)
                points.append(CurvePoint(queries, value["fidelity"].value, value["accuracy"].value))
        ordered = tuple(sorted(points, key=lambda point: point.queries))
        return Extraction(found.surrogate, dataclasses.replace(found.record, curve=ordered))

    def wrap(self, network: nn.Module, pool: Dataset) -> Model:
        """Return a trained copy as a model that can be asked."""
        from assay.adapters.torch_model import TorchModel

        return TorchModel(network, pool.input_shape, pool.num_classes, name=self.name)

    def steal(
        self,
        oracle: Ledger,
        pool: Dataset,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Propose, ask and learn until nothing is left to ask."""
        most = self.limit(oracle, pool)
        if most < 1:
            msg = f"the attack {self.name} has nothing to ask: the pool or the budget is empty"
            raise InvalidInput(msg)
        self.student(pool, rng)  # a wrong architecture costs no query
        learned = Learned(
            pool,
            torch.Generator().manual_seed(rng),
            x=pool.x[:0],
            taken=torch.zeros(len(pool), dtype=torch.bool),
        )
        while len(learned.x) < most:
            room = most - len(learned.x)
            asked = self.propose(learned, room if self.per_round is None else min(room, self.per_round))
            if not len(asked):
                break
            answers = self.ask(oracle, asked)
            learned.answers = torch.cat([learned.answers, answers]) if len(learned.x) else answers
            learned.x = torch.cat([learned.x, asked])
            learned.round += 1
            learned.network = self.learn(learned, rng, observers, _file(checkpoint, learned.round))
        if learned.network is None:
            msg = f"the attack {self.name} found nothing to ask in {pool.name}"
            raise InvalidInput(msg)
        return learned.network


@dataclass(frozen=True, kw_only=True)
class Ranked(QueryStrategy):
    """Base of strategies that rank the rows of the pool and ask the best ones first.

    Entropy, gap, k-centre and DeepFool differ in `utility` alone; the first round,
    before there is a copy to judge by, is drawn at random unless `utility` can do without.
    """

    @abstractmethod
    def utility(self, learned: Learned, rows: Tensor) -> Tensor:
        """Return how much each row ``[m]`` of the pool is worth asking, float ``[m]``."""

    def propose(self, learned: Learned, count: int) -> Tensor:
        """Return the rows of greatest utility that were not asked yet."""
        rows = (~learned.taken).nonzero()[:, 0]
        # Ties, and there are many in the first round, fall at random and not by the order of the pool.
        rows = rows[torch.randperm(len(rows), generator=learned.generator)]
        values = self.utility(learned, rows)
        best = rows[values.argsort(descending=True, stable=True)[:count]]
        learned.taken[best] = True
        return learned.pool.x[best]


def _file(checkpoint: Path | None, finished: int) -> Path | None:
    # A file for each round: an interrupted attack loads the finished rounds and goes on in the last.
    if checkpoint is None or finished == 1:
        return checkpoint
    return checkpoint.with_name(f"{checkpoint.stem}.round-{finished}{checkpoint.suffix}")
