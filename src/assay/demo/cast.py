"""Everybody who has a model: the owner, six thieves, and people who did nothing wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch

from assay.adapters import TorchModel
from assay.data import Dataset
from assay.demo.material import Material, Plan
from assay.extraction import (
    DataTheft,
    Distillation,
    Extraction,
    FineTuning,
    LabelQuery,
    LogitQuery,
    SourceCopy,
)
from assay.nets import build, train

__all__ = ["VICTIM", "innocents", "thefts"]

VICTIM = "mlp-128"
_THIEF = "mlp-256-128"  # thieves who ask do not know the victim's architecture
_INNOCENT = (VICTIM, "mlp-64", "cnn-8", "mlp-256-128", "mlp-32-32", "cnn-4")


def thefts(victim: TorchModel, material: Material, plan: Plan) -> Iterator[tuple[str, Extraction]]:
    """Yield the six thefts by name, one after another."""
    private, others, queries = material.split.private, material.others, material.queries
    rng, evaluation = material.seeds["thefts"], material.evaluation
    curve = (plan.queries // 16, plan.queries // 4)
    # The file was copied.
    yield "source-copy", SourceCopy().run(victim, others, rng=rng, evaluation=evaluation)
    # Training rows and answers were used for a smaller, or cheaper, model.
    distillation = Distillation(architecture=_THIEF)
    yield "distillation", distillation.run(victim, private, rng=rng, evaluation=evaluation)
    # Only the training rows were taken; this model never met the victim.
    data_theft = DataTheft(architecture="cnn-8")
    yield "data-theft", data_theft.run(victim, private, rng=rng, evaluation=evaluation)
    # The file was copied and trained on.
    yield "fine-tuning", FineTuning().run(victim, others, rng=rng, evaluation=evaluation)
    # The service was asked, and answered with labels, or with probabilities.
    label_query = LabelQuery(architecture=_THIEF)
    yield "label-query", label_query.run(victim, queries, rng=rng, evaluation=evaluation, curve=curve)
    logit_query = LogitQuery(architecture=_THIEF)
    yield "logit-query", logit_query.run(victim, queries, rng=rng, evaluation=evaluation, curve=curve)


def innocents(material: Material, plan: Plan) -> Iterator[tuple[str, TorchModel]]:
    """Yield models that owe the victim nothing.

    One half of them trained on other rows. The other half are the harder case: each
    trained on rows of the owner's pool, drawn without regard to the secret coin, as
    somebody would who collected the same public images.
    """
    sources = ("other rows", "pool rows")
    for index, (architecture, source) in enumerate(product(_INNOCENT, sources)):
        if index >= plan.independents:
            return
        seed = material.seeds["innocents"] + index
        rows = material.others if source == "other rows" else _half(material.split.pool, seed)
        network = build(architecture, rows.input_shape, rows.num_classes, seed)
        train(network, rows, plan.recipe, rng=seed)
        yield f"{architecture}, {source}", TorchModel(network)


def _half(pool: Dataset, seed: int) -> Dataset:
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    return pool.subset(order[: len(pool) // 2])
