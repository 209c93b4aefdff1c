"""Dataset inference: whether a suspect was trained, directly or through the victim, on secret rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.base import Evidence, Finding, Scheme
from assay.evidence.dataset_inference import classic, labels
from assay.evidence.dataset_inference.blind_walk import BlindWalk
from assay.evidence.dataset_inference.decide import Decider
from assay.evidence.dataset_inference.mingd import MinGD
from assay.evidence.dataset_inference.references import References, row_digests, train_references
from assay.evidence.dataset_inference.secret import draw_secret
from assay.evidence.dataset_inference.stored import stored_secret
from assay.ledger import Ledger
from assay.model import Access, Model
from assay.nets import Network, Recipe
from assay.observers import Observer
from assay.registry import register

__all__ = ["DatasetInference"]


@register("dataset-inference", kind="evidence")
@dataclass(frozen=True)
class DatasetInference(Scheme):
    """Tell from a secret split of the training data whether a model descends from it.

    The owner splits a pool of rows by a secret random draw into *private* rows, which
    train the victim, and *control* rows, which train nothing. A suspect that never met
    the victim or its data cannot tell them apart, so that its scores are exchangeable
    between the sides: both tests offered here are exact in finite samples, for any
    suspect, and a p-value needs no independent models.

    Parameters
    ----------
    embedding
        What the suspect is asked about each row. ``"informative"`` (default): one clean
        label, or the scores where the suspect gives them, on the rows whose membership
        shows most in reference models. ``"blind-walk"``: distances to the decision
        boundary along random rays, labels only. ``"mingd"``: distances by gradient
        descent, weights needed.
    access
        For ``"informative"``: ``"labels"``, ``"scores"``, or ``"auto"``, which takes
        scores where the suspect offers them.
    decide
        ``"betting"`` stops as soon as the evidence suffices; ``"permutation"`` asks
        about all rows that the budget covers and tests once. ``"auto"`` bets on
        informative rows and permutes for the other embeddings.
    keep
        Rows kept in the evidence, most informative first, at least 8.
    references
        Reference models trained at registration when none are given; more find better
        rows. 0 is possible for the classic embeddings: rows are then drawn at random
        and the scorer is fitted on the victim itself, on half of them.
    architecture, recipe
        Of the references; the victim's architecture and a suggested recipe by default.
    scorer
        For the classic embeddings: ``"ridge"`` (logistic) or ``"paper"`` (the published
        regressor).
    walk, descent
        Settings of the two classic embeddings.
    stratify
        Condition on the number of private rows in each class.
    resamples
        Monte Carlo draws of the permutation test, at least 99.
    batch
        Rows asked at a time when betting; the wealth is looked at after each batch.
    paper_compat
        Report the published harmonic-mean aggregate in the details. It is not a p-value.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference: Ownership Resolution in Machine
    Learning", ICLR 2021 (setting, blind walk, MinGD). The choice of rows, the scores and
    the tests are ours.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data import commit_split, load_data
    >>> from assay.nets import build, train
    >>> split = commit_split(load_data("digits", limit=600), rng=1)
    >>> network = build("mlp-64", (1, 8, 8), 10)
    >>> recipe = Recipe(epochs=30, optimizer="adam", lr=3e-3, weight_decay=0.0, batch_size=32)
    >>> _ = train(network, split.private, recipe)
    >>> victim = TorchModel(network, (1, 8, 8), 10)
    >>> scheme = DatasetInference(keep=300, references=8, recipe=recipe, decide="permutation")
    >>> evidence = scheme.register(victim, split.private, split.control, rng=2)
    >>> evidence.verify(victim).decision
    'stolen'
    """

    scheme: ClassVar[str] = "dataset-inference"
    embedding: Literal["informative", "blind-walk", "mingd"] = "informative"
    access: Literal["auto", "labels", "scores"] = "auto"
    decide: Literal["auto", "betting", "permutation"] = "auto"
    keep: int = 2000
    references: int = 8
    architecture: str | None = None
    recipe: Recipe | None = None
    scorer: Literal["ridge", "paper"] = "ridge"
    walk: BlindWalk = field(default_factory=BlindWalk)
    descent: MinGD = field(default_factory=MinGD)
    stratify: bool = True
    resamples: int = 9999
    batch: int = 16
    paper_compat: bool = False

    def __post_init__(self) -> None:
        fewest = 2 if self.embedding == "informative" else 0
        ranges = {
            "embedding": self.embedding in ("informative", "blind-walk", "mingd"),
            "access": self.access in ("auto", "labels", "scores"),
            "decide": self.decide in ("auto", "betting", "permutation"),
            "scorer": self.scorer in ("ridge", "paper"),
            "keep": self.keep >= 8,  # noqa: PLR2004 - fewer cannot reach any usual alpha
            "references": self.references >= fewest and self.references != 1,
            "resamples": self.resamples >= 99,  # noqa: PLR2004
            "batch": self.batch >= 1,
        }
        for name, fine in ranges.items():
            if not fine:
                value = getattr(self, name)
                msg = f"DatasetInference.{name} is out of range: {value!r} (see its documentation)"
                raise InvalidInput(msg)

    @property
    def needs(self) -> Access:
        """Least access: labels, or weights for MinGD."""
        if self.embedding == "mingd":
            return Access.WEIGHTS
        return Access.SCORES if self.embedding == "informative" and self.access == "scores" else Access.LABELS

    def grant(self, offered: Access) -> Access:
        """Take scores where they are offered and wanted."""
        if self.embedding == "informative" and self.access == "auto" and Access.SCORES in offered:
            return Access.SCORES
        return self.needs

    @property
    def betting(self) -> bool:
        """Whether the deciding test is sequential."""
        return self.decide == "betting" or (self.decide == "auto" and self.embedding == "informative")

    def decider(self, alpha: float, rng: int) -> Decider:
        """Return the test that decides."""
        return Decider(self.betting, alpha, self.batch, self.resamples, rng)

    def register(
        self,
        victim: Model,
        private: Dataset,
        control: Dataset,
        *,
        references: References | None = None,
        queries: Dataset | None = None,
        rng: int = 0,
        observers: Sequence[Observer] = (),
    ) -> Evidence:
        """Make evidence from the secret split, before any dispute.

        Parameters
        ----------
        victim
            The owner's model. Informative rows do not depend on it; its digest is
            recorded.
        private, control
            The two sides of a uniformly random split of one pool (see
            `assay.data.commit_split`). If they are no random split the p-values mean
            nothing.
        references
            What reference models of the pool answer (see `panel`); trained here if not
            given.
        queries
            Rows outside the pool that thieves might ask about; references are then
            copied as well (see `train_references`).
        rng
            Seed of the references and of whatever else is drawn. It must not be the
            seed of the split.
        observers
            Told about progress.

        Raises
        ------
        InvalidInput
            If the sides are empty, share rows, differ in shape or classes, or do not fit
            the victim.
        """
        if min(len(private), len(control)) < 4:  # noqa: PLR2004
            msg = f"at least 4 rows a side are needed, got {len(private)} private and {len(control)} control"
            raise InvalidInput(msg)
        both = private.concat(control, name="pool")
        order = _blind_order(both)
        pool = both.subset(order)
        coin = (torch.arange(len(pool)) < len(private))[order]
        _check_victim(victim, pool)
        if references is None and self.references:
            references = self.panel(victim, pool, queries=queries, rng=rng, observers=observers)
        elif references is not None:
            references = references.aligned(pool)
        if self.embedding == "informative":
            assert references is not None  # __post_init__ asks for at least 2
            tensors, facts = labels.prepare(self, pool, coin, references)
        else:
            tensors, facts = classic.prepare(self, victim, pool, coin, references, rng, observers)
        return Evidence(
            self,
            tensors,
            {
                **facts,
                "input_shape": list(pool.input_shape),
                "classes": list(pool.classes),
                "value_range": list(pool.value_range),
                "victim": victim.digest,
                "pool_rows": len(pool),
            },
        )

    def panel(
        self,
        victim: Model,
        pool: Dataset,
        *,
        queries: Dataset | None = None,
        rng: int = 0,
        observers: Sequence[Observer] = (),
    ) -> References:
        """Train the references of a pool once, for all victims whose sides come from it.

        Parameters
        ----------
        victim
            Its architecture is the references', unless the scheme names another.
        pool
            Private and control rows together, in any order.
        queries, rng, observers
            See `train_references`.
        """
        name = self.architecture
        if name is None and Access.WEIGHTS in victim.access and isinstance(victim.module, Network):
            name = victim.module.architecture
        return train_references(
            pool.subset(_blind_order(pool)),
            self.references,
            architecture=name,
            recipe=self.recipe,
            queries=queries,
            rng=rng,
            observers=observers,
        )

    def examine(
        self,
        evidence: Evidence,
        oracle: Ledger,
        *,
        alpha: float,
        rng: int,
        observers: Sequence[Observer] = (),
    ) -> Finding:
        """Ask the suspect about the kept rows and test."""
        if self.embedding == "informative":
            return labels.examine(self, evidence, oracle, alpha, rng, observers)
        return classic.examine(self, evidence, oracle, alpha, rng, observers)

    def pictures(self, evidence: Evidence, most: int) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the first rows that a suspect is asked about, with their side."""
        sides = evidence.tensors["coin"].bool().tolist()
        for row, private in zip(evidence.tensors["x"][:most], sides, strict=False):
            yield "private" if private else "control", row

    def decoys(self, evidence: Evidence, count: int, rng: int) -> Iterator[Evidence]:
        """Yield evidence about the same rows with sides drawn afresh."""
        secret = stored_secret(evidence)
        generator = np.random.default_rng(rng)
        for _ in range(count):
            coin = torch.from_numpy(draw_secret(secret, generator))
            yield Evidence(self, {**evidence.tensors, "coin": coin}, evidence.facts)


def _blind_order(pool: Dataset) -> torch.Tensor:
    """Return an order that depends on nothing but the rows.

    It says nothing about the sides, and ties between equally informative rows are
    broken alike for every split.
    """
    return torch.from_numpy(np.argsort(row_digests(pool), kind="stable"))


def _check_victim(victim: Model, pool: Dataset) -> None:
    if tuple(victim.input_shape) != pool.input_shape or victim.num_classes != pool.num_classes:
        msg = (
            f"{victim.name} takes inputs of shape {tuple(victim.input_shape)} and has {victim.num_classes} "
            f"classes; the rows have shape {pool.input_shape} and {pool.num_classes} classes"
        )
        raise InvalidInput(msg)
