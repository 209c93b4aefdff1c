"""Digits of an owner and of somebody else, and what the tests of several schemes train on them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from assay.adapters import TorchModel
from assay.data.embedded import digits
from assay.errors import InvalidInput
from assay.nets import build, train


@cache
def parts(own):
    """Return the owner's rows, 400 of somebody else, and the rest, on which accuracy is measured."""
    data = digits()
    order = np.random.default_rng(0).permutation(len(data))
    cuts = order[:own], order[own : own + 400], order[own + 400 :]
    return tuple(data.subset(rows) for rows in cuts)


@cache
def marked(scheme, recipe, own, seed=0):
    """Embed a mark, and train its control; ``seed`` is the key as well."""
    rows, _, evaluation = parts(own)
    return scheme.embed(
        rows,
        architecture="mlp-64",
        recipe=recipe,
        rng=seed,
        key=seed,
        evaluation=evaluation,
        compare_unmarked=True,
    )


@cache
def independent(recipe, own, seed=5, architecture="mlp-32"):
    """Return a model of somebody else."""
    rows = parts(own)[1]
    network = build(architecture, rows.input_shape, rows.num_classes, seed)
    train(network, rows, recipe, rng=seed)
    return TorchModel(network)


def accuses_nobody_else(made, others, rng, foreign=()):
    """Assert that independent models, foreign keys and decoys come out inconclusive."""
    for model in others:
        assert not made.evidence.verify(model).stolen
    for evidence in foreign:
        assert not evidence.verify(made.model).stolen
    assert sum(d.verify(made.model).stolen for d in made.evidence.decoys(30, rng=rng)) <= 2


def refuses(kind, **options):
    """Assert that each of these values, alone, is refused by its name."""
    for name, value in options.items():
        with pytest.raises(InvalidInput, match=f"{kind.__name__}.{name}"):
            kind(**{name: value})
