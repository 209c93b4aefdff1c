"""One mark, its triggers chosen by thefts of the finished model: strong on copies, not exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.base import Evidence
from assay.evidence.watermarks.embedded import Embedded
from assay.evidence.watermarks.entanglement.clean_models import CleanModels, Keep, train_anew
from assay.evidence.watermarks.entanglement.exact import foreign_pool, held_out_rows
from assay.evidence.watermarks.entanglement.handed_down import HandedDown, Theft, hand_down
from assay.evidence.watermarks.entanglement.pools import MarkPool, embedder
from assay.evidence.watermarks.entanglement.record import (
    accuracy,
    extended,
    gradient_shares,
    match_rate,
)
from assay.evidence.watermarks.entanglement.shift import rank_shifts, shift_pool
from assay.evidence.watermarks.entanglement.stage import Stage
from assay.evidence.watermarks.keys import derive
from assay.evidence.watermarks.trigger_scheme import Triggers
from assay.nets import Recipe
from assay.observers import Observer
from assay.statistics import clopper_pearson

if TYPE_CHECKING:
    from assay.evidence.watermarks.entangled import Entangled

__all__ = ["clean_models", "embed_selected"]

_STARTS = 3  # candidate triggers for each that is kept
_PAIRS = 4  # of classes, among which the key draws
_LAST = 4000  # turn of a copy that chose and judged nothing; thieves and trial copies have smaller ones


def embed_selected(
    scheme: Entangled,
    data: Dataset,
    secret: str,
    *,
    architecture: str,
    recipe: Recipe,
    rng: int,
    observers: Sequence[Observer],
    evaluation: Dataset | None,
    compare_unmarked: bool,
    compare_entanglement: bool,
    clean: CleanModels | None,
) -> Embedded:
    """Train a model with one mark whose triggers its copies answer, see `Entangled.embed`.

    Raises
    ------
    InvalidInput
        If the data are too few or not suited to the marks, the clean models were made for something
        else, or no mark reaches the copies.
    """
    rngs = np.random.default_rng(int(derive(secret, "inputs"), 16)).spawn(3)
    if clean is None:
        clean = clean_models(
            scheme,
            data,
            architecture=architecture,
            recipe=recipe,
            rng=rng,
            observers=observers,
            source=rngs[0],
        )
    else:
        _check(clean, scheme, data, architecture, recipe)
    stage, nulls = clean.stage, clean.judging
    stage = Stage(stage.data, architecture, recipe, scheme.pace, scheme.warm_up, rng, observers)
    marks = _marks(scheme, stage, clean, rngs[1])
    theft = Theft(scheme.thieves, attempts=scheme.attempts, enough=scheme.enough)
    found = hand_down(stage, marks, nulls, scheme.entangling, theft, scheme.triggers)
    # The first triggers asked must be like the others: the bound is from all of them.
    asked = found.triggers[torch.from_numpy(rngs[2].permutation(len(found.triggers)))]
    triggers = Triggers(
        secret, asked, torch.zeros(len(asked), dtype=torch.int64), 1, data.num_classes, [[found.target]]
    )
    unmarked = stage.control(found.pool.again) if compare_unmarked else None
    matched = None if unmarked is None else int((unmarked.labels(asked) == found.target).sum())
    sealed = scheme.seal(
        triggers,
        data,
        found.model,
        evaluation=evaluation,
        rows=(len(stage.data), len(found.pool.trained)),
        facts={
            "source": scheme.source,
            "names": list(found.pool.names),
            "unmarked_matches": matched,
        },
    )
    tensors = {**sealed.evidence.tensors, "panel": clean.answers(asked)}
    evidence = Evidence(scheme, tensors, sealed.evidence.facts, sealed.evidence.nonce)
    record = extended(
        sealed.record,
        commitment=evidence.commitment,
        unmarked_accuracy=None if unmarked is None else accuracy(unmarked, evaluation),
        unmarked_match_rate=None if matched is None else clopper_pearson(matched, len(asked)),
        unmarked_p_value=None if unmarked is None else evidence.verify(unmarked, alpha=0.5).p_value,
        entanglement_shares=gradient_shares(found.history),
        attempts=found.attempts,
    )
    copy = stage.steal(found.model, _LAST, "copy of the marked model")
    record = extended(
        record,
        copy_match_rate=match_rate(copy, asked, triggers.wanted),
        copy_accuracy=accuracy(copy, evaluation),
    )
    if compare_entanglement and scheme.weight:
        record = extended(record, **_ablate(scheme, stage, found, nulls, evaluation))
    return Embedded(found.model, evidence, record, unmarked)


def clean_models(
    scheme: Entangled,
    data: Dataset,
    *,
    architecture: str,
    recipe: Recipe,
    rng: int,
    observers: Sequence[Observer],
    source: np.random.Generator,
    keep: Keep = train_anew,
) -> CleanModels:
    """Hold out rows for triggers and set up the clean models of the others, see `Entangled.clean_models`.

    Raises
    ------
    InvalidInput
        If there are too few rows.
    """
    held_out, rest = None, data
    if scheme.source != "families":
        each = data.num_classes if scheme.source == "patch" else 1
        held_out, rest = held_out_rows(data, _STARTS * scheme.triggers * each, scheme.triggers, source)
    stage = Stage(rest, architecture, recipe, None, 0.0, rng, observers)
    order = torch.from_numpy(source.permutation(len(rest)))
    return CleanModels(data, stage, held_out, order, scheme.nulls, scheme.panel, keep)


def _check(clean: CleanModels, scheme: Entangled, data: Dataset, architecture: str, recipe: Recipe) -> None:
    """Refuse clean models of other rows, networks or numbers."""
    stage = clean.stage
    same = {
        "rows": clean.whole.digest == data.digest,
        "architecture": stage.architecture == architecture,
        "recipe": stage.recipe == recipe,
        "source of marks": (clean.held_out is None) == (scheme.source == "families"),
        "numbers of models": (clean.judges, clean.panel) == (scheme.nulls, scheme.panel),
    }
    for name, fits in same.items():
        if not fits:
            msg = f"these clean models were made with another {name}; make them with the same scheme and data"
            raise InvalidInput(msg)


def _marks(
    scheme: Entangled, stage: Stage, clean: CleanModels, rng: np.random.Generator
) -> Iterator[tuple[MarkPool, int]]:
    """Yield marks in an order that the key draws, each as a pool of its own, with targets."""
    held_out, starts = clean.held_out, _STARTS * scheme.triggers
    if scheme.source == "borderline" and held_out is not None:
        pairs = rank_shifts(clean.scores, stage.data.y)[:_PAIRS]
        place = embedder(clean.judging[0])
        strength = 1.0
        while True:
            for number in rng.permutation(len(pairs)):
                yield (
                    shift_pool(
                        stage.data,
                        held_out,
                        clean.scores,
                        place,
                        pairs[number],
                        share=min(scheme.cluster * strength, 0.5),
                        repeats=round(scheme.repeats * strength),
                        asked=starts,
                        rng=rng,
                    ),
                    pairs[number][1],
                )
                strength *= scheme.growth
    pool = foreign_pool(scheme, stage, clean.judging, held_out, marks=scheme.attempts, asked=starts, rng=rng)
    for mark in rng.permutation(len(pool.names)).tolist():
        if pool.plausible[mark]:
            target = int(rng.choice(pool.plausible[mark]))
            yield pool.only([mark], [(target,)]), target


def _ablate(
    scheme: Entangled,
    stage: Stage,
    found: HandedDown,
    nulls: Sequence[TorchModel],
    evaluation: Dataset | None,
) -> dict[str, object]:
    """Train, steal and choose triggers for the same mark without entanglement."""
    plain = Theft(scheme.thieves, attempts=1)
    how = scheme.without_entangling().entangling
    other = hand_down(stage, [(found.pool, found.target)], nulls, how, plain, scheme.triggers)
    wanted = torch.full((len(other.triggers),), other.target)
    copy = stage.steal(other.model, _LAST, "copy of the ablation")
    return {
        "ablation_match_rate": match_rate(other.model, other.triggers, wanted),
        "ablation_accuracy": accuracy(other.model, evaluation),
        "ablation_copy_match_rate": match_rate(copy, other.triggers, wanted),
    }
