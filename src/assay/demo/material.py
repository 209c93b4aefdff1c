"""Who has which rows, and how everything in the demo is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from assay.data import Augment, Dataset, Split, commit_split, load_data
from assay.nets import Recipe

__all__ = ["Material", "Plan", "gather"]


@dataclass(frozen=True)
class Plan:
    """How large the demo is.

    Parameters
    ----------
    pool
        Rows of the owner's pool; a secret half of them trains the victim.
    others
        Rows that thieves and innocent parties own; what is left of the 1,797 digits
        measures accuracy and fidelity.
    queries
        Queries that the two query thieves buy: their own rows and altered copies of them.
    references
        Reference models with which the owner finds rows that tell.
    independents
        Innocent models, at most 12.
    walk_rows, descent_rows
        Rows tested by blind walks and by MinGD.
    epochs
        Epochs of the victim, the references and the innocent models.
    alpha
        Level of every test.
    """

    pool: int = 1200
    others: int = 400
    queries: int = 4000
    references: int = 24
    independents: int = 12
    walk_rows: int = 200
    descent_rows: int = 100
    epochs: int = 40
    alpha: float = 0.01

    @property
    def recipe(self) -> Recipe:
        """How owner and innocent parties train; long enough to know the training rows by heart."""
        return Recipe(
            epochs=self.epochs,
            batch_size=32,
            optimizer="adam",
            lr=3e-3,
            weight_decay=0.0,
            schedule="cosine",
            precision="fp32",
        )


@dataclass(frozen=True)
class Material:
    """The rows of everybody.

    Parameters
    ----------
    split
        The owner's pool with its secret coin: ``split.private`` trains the victim,
        ``split.control`` trains nothing of the owner's.
    others
        Rows of the same kind that never were the owner's.
    queries
        What the query thieves ask: ``others`` and altered copies of them.
    evaluation
        Rows that train nothing.
    seeds
        One seed for each purpose. The split has its own, because the seed is the secret.
    """

    split: Split
    others: Dataset
    queries: Dataset
    evaluation: Dataset
    seeds: dict[str, int]


def gather(plan: Plan, seed: int) -> Material:
    """Load the digits and share them out."""
    purposes = ("shuffle", "split", "key", "training", "references", "register", "thefts", "innocents")
    state = np.random.SeedSequence(seed).generate_state(len(purposes))
    seeds = dict(zip(purposes, map(int, state), strict=True))
    digits = load_data("digits", limit=1797, rng=seeds["shuffle"])
    others = digits.subset(range(plan.pool, plan.pool + plan.others), "other digits")
    return Material(
        # A seed makes the demo repeatable. Evidence for a real dispute leaves it out, so that
        # the split comes from the operating system's source of secrets.
        split=commit_split(digits.subset(range(plan.pool), "digits"), rng=seeds["split"]),
        others=others,
        queries=_stretch(others, plan.queries, seeds["thefts"]),
        evaluation=digits.subset(range(plan.pool + plan.others, len(digits)), "unseen digits"),
        seeds=seeds,
    )


def _stretch(rows: Dataset, count: int, seed: int) -> Dataset:
    """Return rows followed by copies of them, shifted by up to a pixel and with noise."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(rows), (max(0, count - len(rows)),), generator=generator)
    x = Augment(flip=False)(rows.x[index], generator).contiguous()
    x = (x + 0.05 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return rows.concat(Dataset(x, rows.y[index], rows.classes, rows.value_range), name="queries")
