"""Disentangling: extract the copy again while classes are pushed apart inside the network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import predict, train
from assay.nets.soft_nearest_neighbours import Distance
from assay.observers import Observer
from assay.registry import register
from assay.removal.layers import copied
from assay.removal.neighbour_pressure import Group, NeighbourPressure
from assay.removal.retraining import Retrained
from assay.removal.tuning import check_choice

__all__ = ["Disentangling"]


@register("disentangling", kind="removal")
@dataclass(frozen=True, kw_only=True)
class Disentangling(Retrained):
    """Learn from the copy's answers while minimising the soft nearest neighbour loss of classes.

    An adaptive thief who knows that marks may be entangled, but neither the trigger nor
    its pair of classes, guesses pairs, or takes all classes, and does the reverse: rows
    that the copy answers alike are drawn together and others pushed away. After every
    ordinary batch comes one with this term. An interrupted training starts afresh.

    Parameters
    ----------
    start
        ``"fresh"``: a network that is drawn afresh; ``"copy"``: the copy itself, which
        keeps its input normalisation and needs a smaller ``lr``.
    groups
        ``"all"`` classes, or random ``"pairs"`` of them.
    pairs
        Number of pairs that are guessed, at least 1; one of them for each batch.
    weight
        Norm of the term's gradient as a share of the ordinary one's, at least 0.
    distance
        ``"cosine"`` or ``"euclidean"``.

    References
    ----------
    Jia, Choquette-Choo, Chandrasekaran and Papernot, "Entangled Watermarks as a Defense
    against Model Extraction", USENIX Security 2021, section 6.3 (adaptive attacks); here
    the weight is balanced against the ordinary gradient, without which the term is inert.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data.embedded import digits
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-8", (1, 8, 8), 10))
    >>> washed = Disentangling(groups="pairs", epochs=1).run(model, digits().subset(range(100)))
    >>> washed.record.washed == model.digest
    False
    """

    name: ClassVar[str] = "disentangling"
    start: Literal["fresh", "copy"] = "fresh"
    groups: Literal["all", "pairs"] = "all"
    pairs: int = 5
    weight: float = 0.5
    distance: Distance = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "start", self.start, ("fresh", "copy"))
        check_choice(self.name, "groups", self.groups, ("all", "pairs"))
        check_choice(self.name, "distance", self.distance, ("cosine", "euclidean"))
        if self.pairs < 1 or not 0 <= self.weight < math.inf:
            name = "weight" if self.pairs >= 1 else "pairs"
            msg = f"{name} of {self.name} is out of range: {getattr(self, name)!r}"
            raise InvalidInput(msg)

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,  # noqa: ARG002 - extra batches have a state that no file keeps
    ) -> nn.Module:
        """Ask a copy and train a network on the answers, with classes pushed apart."""
        rows = self.rows(data)
        teacher = copied(module, self.name)
        logits = predict(teacher, rows.x)
        drawing = _Drawing(rows.x, self.lesson(logits), logits.argmax(1), self._batch)
        if self.groups == "pairs":
            drawing.guess(self.pairs, rng)
        pupil = copied(module, self.name) if self.start == "copy" else self.fresh(teacher, rows, rng)
        recipe = self.recipe
        assert recipe is not None
        train(
            pupil,
            rows,
            recipe,
            targets=drawing.targets,
            fit_normalization=self.start == "fresh",
            rng=rng,
            observers=observers,
            task=self.name,
            interlude=NeighbourPressure(drawing, self.weight, self.distance) if self.weight else None,
        )
        return pupil

    @property
    def _batch(self) -> int:
        return self.batch_size if self.training is None else self.training.batch_size


class _Drawing:
    """Random rows of all classes, or of one of several pairs of classes."""

    def __init__(self, x: Tensor, targets: Tensor, classes: Tensor, size: int) -> None:
        self.x, self.targets, self.classes = x, targets, classes
        self._size = max(4, size)
        self._pools = [torch.arange(len(x))]

    def guess(self, pairs: int, rng: int) -> None:
        """Choose pairs at random among the classes that the copy gives at least twice."""
        counts = self.classes.bincount()
        known = (counts >= 2).nonzero()[:, 0].tolist()  # noqa: PLR2004 - a row has no peer in a class of one
        every = list(itertools.combinations(known, 2))
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(rng))[:pairs].tolist()
        chosen = (every[place] for place in order)
        # Where the copy knows one class only, there is nothing to push apart.
        self._pools = [
            torch.isin(self.classes, torch.tensor(pair)).nonzero()[:, 0] for pair in chosen
        ] or self._pools

    def __call__(self, generator: torch.Generator) -> Group:
        pool = self._pools[int(torch.randint(len(self._pools), (), generator=generator))]
        rows = pool[torch.randperm(len(pool), generator=generator)[: self._size]]
        return Group(self.x[rows], self.targets[rows], self.classes[rows])
