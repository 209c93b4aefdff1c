"""Many marks under an exact test: chosen by rehearsals under other keys, aimed by the true one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.embedded import Embedded
from assay.evidence.watermarks.entanglement.pools import (
    MarkPool,
    borderline_pool,
    family_pool,
    patch_pool,
    shaped,
)
from assay.evidence.watermarks.entanglement.record import (
    EntangledRecord,
    accuracy,
    extended,
    gradient_shares,
    match_rate,
)
from assay.evidence.watermarks.entanglement.rehearsal import (
    Cast,
    choose_marks,
    draw_rehearsals,
    rehearse,
)
from assay.evidence.watermarks.entanglement.shaping import Shaping
from assay.evidence.watermarks.entanglement.stage import Stage
from assay.evidence.watermarks.keys import derive
from assay.evidence.watermarks.trigger_scheme import Triggers
from assay.nets import Recipe
from assay.observers import Observer

if TYPE_CHECKING:
    from assay.evidence.watermarks.entangled import Entangled

__all__ = ["embed_exact", "foreign_pool", "held_out_rows"]

_MOST_HELD_OUT = 0.2
_SPARE = 2  # marks rehearsed for each one that is kept
_IMAGES = 100  # of each family or patched class
_PATCH = 5  # the shortest side holds so many patches


def embed_exact(
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
) -> Embedded:
    """Train a model whose marks got their targets from the key, see `Entangled.embed`.

    Raises
    ------
    InvalidInput
        If the data are too few or not suited to the marks.
    """
    rngs = np.random.default_rng(int(derive(secret, "inputs"), 16)).spawn(3)
    held_out, clean = _split(scheme, data, rngs[0])
    stage = Stage(clean, architecture, recipe, scheme.pace, scheme.warm_up, rng, observers)
    pool = _pool(scheme, stage, held_out, rngs[1])
    cast, before = _rehearse(scheme, stage, pool, rngs[2])
    triggers = _in_turns(secret, pool, cast, data.num_classes)
    pool = pool.only(cast.marks, cast.choices)
    model, history = stage.mark(pool, triggers.targets, scheme.entangling)
    sealed = scheme.seal(
        triggers,
        data,
        model,
        unmarked=stage.control() if compare_unmarked else None,
        evaluation=evaluation,
        rows=(len(clean), len(pool.trained)),
        facts={"source": scheme.source, "names": list(pool.names)},
    )
    record = extended(
        sealed.record,
        rehearsed_rate=before,
        chosen_rate=None if before is None else cast.transfer,
        entanglement_shares=gradient_shares(history),
    )
    if compare_entanglement:
        record = _ablate(scheme, stage, pool, triggers, model, record, evaluation)
    return Embedded(model, sealed.evidence, record, sealed.unmarked)


def _split(scheme: Entangled, data: Dataset, rng: np.random.Generator) -> tuple[Dataset | None, Dataset]:
    """Return the rows to be asked about, if any, and the rows to train on."""
    if scheme.source == "families":
        return None, data
    # A borderline row is one in ten; a patched class one in as many as there are.
    marks = scheme.marks
    each = 4 / scheme.share if scheme.source == "borderline" else 2 * data.num_classes / marks
    return held_out_rows(data, round(each * scheme.triggers), scheme.triggers, rng)


def held_out_rows(
    data: Dataset, wanted: int, fewest: int, rng: np.random.Generator
) -> tuple[Dataset, Dataset]:
    """Return rows to be asked about, at most a fifth of all, and rows to train on.

    Raises
    ------
    InvalidInput
        If they are fewer than ``fewest``.
    """
    most = min(wanted, int(_MOST_HELD_OUT * len(data)))
    if most < fewest:
        msg = (
            f"{data.name} has {len(data)} rows, too few to hold out {fewest} for triggers; ask for fewer, or "
            "use source='families'"
        )
        raise InvalidInput(msg)
    order = rng.permutation(len(data))
    return data.subset(order[:most]), data.subset(order[most:])


def _pool(scheme: Entangled, stage: Stage, held_out: Dataset | None, rng: np.random.Generator) -> MarkPool:
    """Return marks to choose from."""
    data, spare = stage.data, _SPARE if scheme.rehearsals else 1
    if scheme.source == "borderline" and held_out is not None:
        order = torch.from_numpy(rng.permutation(len(data)))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        nulls = [stage.clean(0, halves[1]), stage.clean(1, halves[0])]
        cells = math.ceil(scheme.marks * (1 + spare) / 2)
        folds = list(zip(halves, nulls, strict=True))
        return borderline_pool(data, held_out, folds, marks=cells, share=scheme.share, rng=rng)
    asked = 2 * _SPARE * math.ceil(scheme.triggers / scheme.marks)
    return foreign_pool(
        scheme,
        stage,
        [stage.clean(0), stage.clean(1)],
        held_out,
        marks=scheme.marks * spare,
        asked=asked,
        rng=rng,
    )


def foreign_pool(
    scheme: Entangled,
    stage: Stage,
    nulls: Sequence[TorchModel],
    held_out: Dataset | None,
    *,
    marks: int,
    asked: int,
    rng: np.random.Generator,
) -> MarkPool:
    """Return marks that are no ordinary inputs: families without ``held_out`` rows, else patches."""
    # Two or three candidates are rehearsed well enough to be compared; more are not.
    data, plausible = stage.data, scheme.candidates
    if held_out is None:
        pool = family_pool(
            data, nulls, marks=marks, plausible=plausible, trained=_IMAGES, held_out=asked, rng=rng
        )
    else:
        pool = patch_pool(
            data,
            held_out,
            nulls[0],
            plausible=plausible,
            trained=_IMAGES,
            size=max(3, min(data.input_shape[1:], default=0) // _PATCH),
            layers=scheme.layers,
            distance=scheme.distance,
            rng=rng,
        )
    if scheme.source == "patch" if scheme.shape is None else scheme.shape:
        pool = shaped(
            pool, nulls[0], data, Shaping(), layers=scheme.layers, distance=scheme.distance, rng=rng
        )
    return pool


def _rehearse(
    scheme: Entangled, stage: Stage, pool: MarkPool, rng: np.random.Generator
) -> tuple[Cast, float | None]:
    """Return what rehearsals under other keys recommend, and the match rate before choosing."""
    mark = pool.mark.numpy()

    def answers(turn: int, targets: np.ndarray) -> np.ndarray:
        number = f"{turn + 1} of {scheme.rehearsals}"
        cast = np.flatnonzero(targets >= 0).tolist()
        part = pool.only(cast, [pool.plausible[j] for j in cast])
        rehearsed, _ = stage.mark(
            part, targets[cast], scheme.entangling, 1000 + turn, f"model of rehearsal {number}"
        )
        copy = stage.steal(rehearsed, 1000 + turn, f"copy of rehearsal {number}")
        return copy.labels(pool.held_out).numpy()

    drawn = draw_rehearsals(pool.plausible, scheme.rehearsals, rng, scheme.marks)
    found = rehearse(drawn, mark, answers)
    cast = choose_marks(
        found,
        mark,
        pool.plausible,
        marks=scheme.marks,
        candidates=scheme.candidates,
        triggers=scheme.triggers,
    )
    return cast, found.transfer if scheme.rehearsals else None


def _ablate(
    scheme: Entangled,
    stage: Stage,
    pool: MarkPool,
    triggers: Triggers,
    model: TorchModel,
    record: EntangledRecord,
    evaluation: Dataset | None,
) -> EntangledRecord:
    """Copy the model, and train and copy one whose marks are not entangled."""
    plain, _ = stage.mark(
        pool,
        triggers.targets,
        scheme.without_entangling().entangling,
        task="ablation without entanglement",
    )
    stolen = stage.steal(model, 3000, "copy of the marked model")
    plain_stolen = stage.steal(plain, 3000, "copy of the ablation")
    wanted = triggers.wanted
    return replace(
        record,
        copy_match_rate=match_rate(stolen, triggers.inputs, wanted),
        copy_accuracy=accuracy(stolen, evaluation),
        ablation_match_rate=match_rate(plain, triggers.inputs, wanted),
        ablation_accuracy=accuracy(plain, evaluation),
        ablation_copy_match_rate=match_rate(plain_stolen, triggers.inputs, wanted),
    )


def _in_turns(secret: str, pool: MarkPool, cast: Cast, classes: int) -> Triggers:
    """Return the chosen triggers, the marks taking turns, with candidates and key."""
    marks = len(cast.marks)
    order = torch.tensor(cast.triggers, dtype=torch.int64).T.flatten()
    return Triggers(
        secret, pool.held_out[order], torch.arange(len(order)) % marks, marks, classes, cast.choices
    )
