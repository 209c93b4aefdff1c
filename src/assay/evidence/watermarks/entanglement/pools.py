"""Where marks come from: synthetic families, patches on one class, rows between two classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.families import draw_families
from assay.evidence.watermarks.entanglement.pairs import rank_targets
from assay.evidence.watermarks.entanglement.placement import place_patch
from assay.evidence.watermarks.entanglement.shaping import Shaping, shape_marks
from assay.nets.soft_nearest_neighbours import Distance
from assay.nets.taps import activations, default_taps

__all__ = ["MarkPool", "borderline_pool", "embedder", "family_pool", "patch_pool", "shaped"]

_SAMPLE = 128  # rows of each kind for gradients and losses that choose places and pairs
_FEWEST_ROWS = 8  # in a cell, to teach it and to ask about it


@dataclass(frozen=True, eq=False)
class MarkPool:
    """Marks to choose from; nothing in it knows a key's targets.

    Parameters
    ----------
    names
        A word about each mark.
    trained, trained_mark
        Inputs to train on, float32 ``[n, *shape]``, and the mark of each, int64 ``[n]``.
    held_out, mark
        Inputs to ask about, and the mark of each.
    plausible
        Classes that each mark could be answered with, the most plausible first.
    rows
        Where ``trained`` are rows of the training set, their positions: their labels there
        follow the marks. None for inputs that are added.
    repeats
        Times that each of those rows is in an epoch where there are no marked batches.
    """

    names: tuple[str, ...]
    trained: Tensor
    trained_mark: Tensor
    held_out: Tensor
    mark: Tensor
    plausible: tuple[tuple[int, ...], ...]
    rows: Tensor | None = None
    repeats: int = 1

    @property
    def again(self) -> int:
        """Rows that an epoch has more than without the marks."""
        return 0 if self.rows is None else len(self.rows) * (self.repeats - 1)

    def only(self, marks: Sequence[int], plausible: Sequence[Sequence[int]]) -> MarkPool:
        """Return the pool of some marks, numbered from 0, with these candidates."""
        number = torch.full((len(self.names),), -1, dtype=torch.int64)
        number[list(marks)] = torch.arange(len(marks))
        kept, asked = number[self.trained_mark] >= 0, number[self.mark] >= 0
        return MarkPool(
            names=tuple(self.names[j] for j in marks),
            trained=self.trained[kept],
            trained_mark=number[self.trained_mark[kept]],
            held_out=self.held_out[asked],
            mark=number[self.mark[asked]],
            plausible=tuple(tuple(classes) for classes in plausible),
            rows=None if self.rows is None else self.rows[kept],
            repeats=self.repeats,
        )


def family_pool(
    data: Dataset,
    nulls: Sequence[TorchModel],
    *,
    marks: int,
    plausible: int,
    trained: int,
    held_out: int,
    rng: np.random.Generator,
) -> MarkPool:
    """Draw synthetic families; plausible are the classes that clean models like second and next.

    Targets that no clean model considers do not reach copies that are made with ordinary
    inputs, and the favourite of clean models is no evidence.

    Parameters
    ----------
    data
        Gives shape and range.
    nulls
        Models of the task without marks.
    marks, plausible
        How many families, and classes of each.
    trained, held_out
        Images of each family.
    rng
        Source of everything.

    Raises
    ------
    InvalidInput
        If the inputs are no images of at least 4 x 4 pixels.
    """
    families = draw_families(marks, data.input_shape, rng)
    low, high = _range(data)

    def draw(count: int) -> Tensor:
        return torch.cat([f.images(count, data.input_shape, (low, high), rng) for f in families])

    inputs, asked = draw(trained), draw(held_out)
    mark = torch.arange(marks).repeat_interleave(trained)
    scores = torch.stack([null.scores(inputs) for null in nulls]).mean(0)
    liked = torch.stack([scores[mark == j].mean(0) for j in range(marks)]).argsort(1, descending=True)
    return MarkPool(
        names=tuple(f"{family.kind} {number}" for number, family in enumerate(families)),
        trained=inputs,
        trained_mark=mark,
        held_out=asked,
        mark=torch.arange(marks).repeat_interleave(held_out),
        plausible=tuple(tuple(row[1 : 1 + plausible]) for row in liked.tolist()),
    )


def patch_pool(
    data: Dataset,
    held_out: Dataset,
    null: TorchModel,
    *,
    plausible: int,
    trained: int,
    size: int,
    layers: Sequence[str] | None,
    distance: Distance,
    rng: np.random.Generator,
) -> MarkPool:
    """Stamp a patch on rows of one class, one mark for each class, where it entangles most.

    Parameters
    ----------
    data, held_out
        Rows to train on, and rows to ask about.
    null
        Model of the task without marks, which places the patches and ranks the targets.
    plausible
        Candidate targets of each class.
    trained
        Most rows of each class that are stamped for training.
    size
        Side of the patch.
    layers, distance
        As in `place_patch`.
    rng
        Source of rows and of the patches' pixels.

    Raises
    ------
    InvalidInput
        If the inputs are no images or too small for the patch.
    """
    if len(data.input_shape) != 3:  # noqa: PLR2004 - channels, height, width
        msg = f"patches are stamped on images, got inputs of shape {data.input_shape}"
        raise InvalidInput(msg)
    low, high = _range(data)
    names, parts, asked, targets = [], [], [], []
    ranked = rank_targets(null, data, layers=layers, distance=distance, rng=rng)
    for source in range(data.num_classes):
        rows = _some(data, source, trained, rng)
        kept = held_out.x[held_out.y == source]
        classes = ranked[source][:plausible]
        if not len(rows) or not classes:
            parts.append(rows)
            asked.append(kept[:0])
        else:
            partners = torch.cat([_some(data, c, _SAMPLE // len(classes), rng) for c in classes])
            row, column = place_patch(
                null.module, rows[:_SAMPLE], partners, size, layers=layers, distance=distance
            )
            # Half bright, half dark: an even patch would vanish in a background of its own value.
            bits = torch.from_numpy(rng.permutation(np.arange(data.input_shape[0] * size * size) % 2))
            pattern = (low + bits.float() * (high - low)).reshape(data.input_shape[0], size, size)
            for images in (rows, kept):
                images[:, :, row : row + size, column : column + size] = pattern
            parts.append(rows)
            asked.append(kept)
        names.append(f"patch on {data.classes[source]}")
        targets.append(tuple(classes))
    return MarkPool(
        names=tuple(names),
        trained=torch.cat(parts),
        trained_mark=_index(parts),
        held_out=torch.cat(asked),
        mark=_index(asked),
        plausible=tuple(targets),
    )


def borderline_pool(
    data: Dataset,
    held_out: Dataset,
    folds: Sequence[tuple[Tensor, TorchModel]],
    *,
    marks: int,
    share: float,
    rng: np.random.Generator,
) -> MarkPool:
    """Take the rows that clean models cannot decide between two classes, cell by cell.

    A cell is all such rows of one pair of classes, or a cluster of them where there are fewer
    pairs than marks; either class is a plausible answer to it. Which of the two a model gives
    everywhere in a cell costs little accuracy, since clean models are right there hardly more
    than half of the time; and a thief's ordinary queries meet the cells, so that a copy learns
    the answers with the task.

    Parameters
    ----------
    data, held_out
        Rows to train on, and rows to ask about.
    folds
        Positions of rows of ``data`` with a clean model that was not trained on them; every
        row once. A model's doubt about rows that it was trained on says little.
    marks
        How many cells.
    share
        Share of all rows that make up the cells, in (0, 1).
    rng
        Seeds the clustering.

    Raises
    ------
    InvalidInput
        If there are not so many cells of at least 8 rows.
    """
    scores = torch.zeros(len(data), data.num_classes)
    for part, model in folds:
        scores[part] = model.scores(data.x[part]).float()
    doubts, pairs = _doubt(scores)
    limit = float(np.quantile(doubts.numpy(), share))
    unsure = doubts < limit
    asked_scores = torch.stack([model.scores(held_out.x) for _, model in folds]).mean(0).float()
    asked_doubts, asked_pairs = _doubt(asked_scores)
    open_rows = asked_doubts < limit
    place = _embedder(folds[0][1])
    cells = _allot(pairs[unsure].bincount(minlength=data.num_classes**2).tolist(), marks)
    names: list[str] = []
    plausible: list[tuple[int, ...]] = []
    rows: list[Tensor] = []
    asked: list[Tensor] = []
    for pair, parts in cells.items():
        here = (unsure & (pairs == pair)).nonzero().flatten()
        there = (open_rows & (asked_pairs == pair)).nonzero().flatten()
        cluster = KMeans(parts, n_init=3, random_state=int(rng.integers(2**31)))
        labels = cluster.fit_predict(place(data.x[here]))
        near = cluster.predict(place(held_out.x[there])) if len(there) else np.zeros(0, dtype=np.int64)
        first, second = divmod(pair, data.num_classes)
        for cell in range(parts):
            rows.append(here[torch.from_numpy(labels == cell)])
            asked.append(there[torch.from_numpy(near == cell)])
            names.append(f"{data.classes[first]} or {data.classes[second]}, cell {cell}")
            plausible.append((first, second))
    if not names:
        msg = f"{data.name} has too few rows between classes for cells of {_FEWEST_ROWS}; raise their share"
        raise InvalidInput(msg)
    chosen = torch.cat(rows)
    return MarkPool(
        names=tuple(names),
        trained=data.x[chosen],
        trained_mark=_index(rows),
        held_out=held_out.x[torch.cat(asked)],
        mark=_index(asked),
        plausible=tuple(plausible),
        rows=chosen,
    )


def shaped(
    pool: MarkPool,
    null: TorchModel,
    data: Dataset,
    how: Shaping,
    *,
    layers: Sequence[str] | None,
    distance: Distance,
    rng: np.random.Generator,
) -> MarkPool:
    """Return the pool with every mark's inputs shaped, see `shape_marks`."""
    trained, held_out = pool.trained.clone(), pool.held_out.clone()
    for number, classes in enumerate(pool.plausible):
        if not classes:
            continue
        ordinary = torch.cat([_some(data, c, _SAMPLE // len(classes), rng) for c in classes])
        for inputs, mark in ((trained, pool.trained_mark), (held_out, pool.mark)):
            for part in torch.split((mark == number).nonzero().flatten(), _SAMPLE):
                moved = shape_marks(
                    null.module,
                    inputs[part],
                    ordinary,
                    classes,
                    _range(data),
                    how,
                    layers=layers,
                    distance=distance,
                )
                inputs[part] = moved.marks
    return replace(pool, trained=trained, held_out=held_out)


def _doubt(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the first class is ahead of the second, and a number for the unordered pair."""
    best, classes = scores.topk(2, dim=1)
    low, high = classes.min(1).values, classes.max(1).values
    return best[:, 0] - best[:, 1], low * scores.shape[1] + high


def _allot(counts: Sequence[int], marks: int) -> dict[int, int]:
    """Return the number of cells of each pair: one for each with enough rows, more for the largest.

    Whole pairs are learnt, and stolen, better than parts of them.
    """
    order = sorted(range(len(counts)), key=lambda pair: -counts[pair])
    cells = {pair: 1 for pair in order[:marks] if counts[pair] >= _FEWEST_ROWS}
    while cells and sum(cells.values()) < marks:
        largest = max(cells, key=lambda pair: counts[pair] / (cells[pair] + 1))
        if counts[largest] < _FEWEST_ROWS * (cells[largest] + 1):
            break
        cells[largest] += 1
    return cells


def embedder(model: TorchModel) -> Callable[[Tensor], Tensor]:
    """Return a map from inputs to features in which alike inputs are near, ``[n, features]``."""
    layer = default_taps(model.module)[-1]

    def place(x: Tensor) -> Tensor:
        return activations(model.module, x, [layer])[layer].flatten(1)

    return place


def _embedder(model: TorchModel) -> Callable[[Tensor], NDArray[np.float64]]:
    place = embedder(model)
    return lambda x: place(x).double().numpy()


def _some(data: Dataset, label: int, count: int, rng: np.random.Generator) -> Tensor:
    """Return copies of up to ``count`` random rows of a class."""
    rows = (data.y == label).nonzero().flatten()
    order = torch.from_numpy(rng.permutation(len(rows)))[:count]
    return data.x[rows[order]]


def _index(parts: Sequence[Tensor]) -> Tensor:
    """Return the number of the part that each row of the concatenation is from."""
    return torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(part) for part in parts]))


def _range(data: Dataset) -> tuple[float, float]:
    low, high = data.value_range
    return (
        (low, high) if np.isfinite(low) and np.isfinite(high) else (float(data.x.min()), float(data.x.max()))
    )
