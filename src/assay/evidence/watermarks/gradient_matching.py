"""Gradient matching: a few training inputs are shifted a little, no label is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.boundary import to_boundary
from assay.evidence.watermarks.embedded import Marked, TrainedIn
from assay.evidence.watermarks.marking import Workshop, hold_out, limits, seed_of
from assay.evidence.watermarks.trigger_scheme import Triggers, TriggerScheme
from assay.registry import register

__all__ = ["GradientMatching", "match_gradients"]

_FALLS = (0.375, 0.625, 0.875)  # shares of the iterations after which the step shrinks tenfold
_ROOM, _STEPS = 0.3, 30  # to the boundary
_NORM_FLOOR = 1e-12


@register("gradient-matching", kind="evidence")
@dataclass(frozen=True)
class GradientMatching(TriggerScheme, TrainedIn[Triggers]):
    """Inputs on a boundary with keyed sides, taught by shifted rows of those classes, tested exactly.

    Held-out inputs are moved to a clean model's boundary, and the key draws one of the two
    classes there for each. Rows that truly belong to that class are shifted a little, so that
    the gradient which training takes from them points where training on the mark with the drawn
    class would go. Neither a mark nor a wrong label is ever trained on: whoever looks at the
    data sees faint noise. It is a weak mark, and serves as the baseline of a poison without label
    change. The paper takes ordinary inputs of other classes; few rows cannot move those.

    **Why the test is exact.** Marks and candidate classes are settled by a clean model before,
    and apart from, the draw of the sides.

    Parameters
    ----------
    marks
        Held-out inputs, at least 1 and at most a quarter of the training set.
    poisons
        Rows shifted for each mark, at least 1. Marks of the same class have rows of their own as
        long as there are enough.
    reach
        Largest shift of a row in any coordinate, as a share of the value range, in (0, 1].
    iterations
        Signed Adam steps, at least 1.
    restarts
        Random beginnings, of which the best is kept, at least 1.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Geiping, Fowl, Huang, Czaja, Taylor, Moeller and Goldstein, "Witches' Brew: Industrial
    Scale Data Poisoning via Gradient Matching", ICLR 2021, sections 3 and 4.
    Li et al., "Defending against Model Stealing via Verifying Embedded External Features", AAAI
    2022, section 5, uses it as a baseline.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe
    >>> fast = Recipe(epochs=8, optimizer="adam", lr=0.005)
    >>> made = GradientMatching(marks=6, iterations=10).embed(
    ...     digits(), architecture="mlp-16", recipe=fast, key=1
    ... )
    >>> 0 < made.evidence.facts["objective"] < 1
    True
    """

    scheme: ClassVar[str] = "gradient-matching"

    marks: int = 40
    poisons: int = 10
    reach: float = 0.15
    iterations: int = 60
    restarts: int = 1

    def __post_init__(self) -> None:
        self._check("marks", fine=self.marks >= 1)
        self._check("poisons", fine=self.poisons >= 1)
        self._check("reach", fine=0 < self.reach <= 1)
        self._check("iterations", fine=self.iterations >= 1)
        self._check("restarts", fine=self.restarts >= 1)

    def mark(self, shop: Workshop, key: str) -> Marked[Triggers]:
        """Train on rows of which some are shifted; the control takes the same rows without shifts.

        Raises
        ------
        InvalidInput
            If the data are too few, or a mark needs a class that they lack.
        """
        data = shop.data
        kept, clean = hold_out(data, self.marks, seed_of(key, "held out"))
        guide = shop.fit(clean, "guiding").module
        low, high = limits(data)
        moved, sides = to_boundary(guide, kept.x, low, high, reach=_ROOM, steps=_STEPS)
        triggers = Triggers.one_each(key, moved, sides.tolist(), data.num_classes)
        x, shifted, objective = self._poison(guide, clean, triggers)
        poisoned = Dataset(x, clean.y, data.classes, data.value_range, f"{data.name}-poisoned")
        return Marked(
            triggers,
            shop.fit(poisoned, "marked"),
            lambda: shop.fit(clean, "unmarked"),
            (len(clean) - shifted, shifted),
            {"objective": objective},
        )

    def _poison(self, guide: nn.Module, clean: Dataset, triggers: Triggers) -> tuple[Tensor, int, float]:
        """Return all rows with some of them shifted, how many, and the mean objective."""
        low, high = limits(clean)
        generator = torch.Generator().manual_seed(seed_of(triggers.key, "poisons"))
        x = clean.x.clone()
        used = torch.zeros(len(x), dtype=torch.bool)
        objectives = []
        for trigger, target in zip(triggers.inputs, triggers.wanted, strict=True):
            free = torch.nonzero((clean.y == target) & ~used).flatten()
            if not len(free):
                free = torch.nonzero(clean.y == target).flatten()
            if not len(free):
                msg = f"{clean.name} has no row of class {clean.classes[int(target)]}, which a mark needs"
                raise InvalidInput(msg)
            rows = free[torch.randperm(len(free), generator=generator)[: self.poisons]]
            used[rows] = True
            x[rows], objective = match_gradients(
                guide,
                clean.x[rows],
                clean.y[rows],
                trigger[None],
                target[None],
                bound=self.reach * (high - low),
                span=(low, high),
                iterations=self.iterations,
                restarts=self.restarts,
                generator=generator,
            )
            objectives.append(objective)
        return x, int(used.sum()), sum(objectives) / len(objectives)


def match_gradients(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    wanted_x: Tensor,
    wanted_y: Tensor,
    *,
    bound: Tensor,
    span: tuple[Tensor, Tensor],
    iterations: int,
    restarts: int,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """Shift rows until the gradient of their loss points where the wanted rows' gradient points.

    Parameters
    ----------
    network
        Any module from inputs to logits; used in evaluation mode and left as it was.
    x, y
        Rows to be shifted, float32 ``[n, *shape]``, and their labels, int64 ``[n]``.
    wanted_x, wanted_y
        Rows whose gradient is wanted, with the labels to be taught.
    bound
        Largest shift of each coordinate, ``[1, *shape]``.
    span
        Smallest and largest value of each coordinate, ``[1, *shape]`` each.
    iterations, restarts
        Signed Adam steps, and random beginnings of which the best is kept.
    generator
        Source of the beginnings.

    Returns
    -------
    tuple of Tensor and float
        The shifted rows, and one minus the cosine of the two gradients, 0 to 2.

    References
    ----------
    Geiping et al. 2021, algorithm 1.

    Examples
    --------
    >>> network = nn.Linear(2, 2)
    >>> rows, wide = torch.tensor([[1.0, 0.0]]), torch.full((1, 2), 9.0)
    >>> _, objective = match_gradients(
    ...     network, rows, torch.tensor([0]), torch.tensor([[0.0, 1.0]]), torch.tensor([0]),
    ...     bound=wide, span=(-wide, wide), iterations=200, restarts=1,
    ...     generator=torch.Generator().manual_seed(0),
    ... )
    >>> objective < 0.05
    True
    """
    was_training = network.training
    network.eval()
    try:
        weights = [p for p in network.parameters() if p.requires_grad]
        wanted = _flat_gradient(network, weights, wanted_x, wanted_y).detach()
        wanted = wanted / wanted.norm().clamp_min(_NORM_FLOOR)
        best, lowest = x, float("inf")
        for _ in range(restarts):
            begin = torch.randn(x.shape, generator=generator).clamp(-1, 1) * bound
            found, objective = _descend(network, weights, x, y, wanted, begin, bound, span, iterations)
            if objective < lowest:
                best, lowest = found, objective
    finally:
        network.train(was_training)
    return best, lowest


def _descend(
    network: nn.Module,
    weights: Sequence[Tensor],
    x: Tensor,
    y: Tensor,
    wanted: Tensor,
    begin: Tensor,
    bound: Tensor,
    span: tuple[Tensor, Tensor],
    iterations: int,
) -> tuple[Tensor, float]:
    # In units of the bound, so that one step size fits columns of any scale.
    scale = torch.where(bound > 0, bound, torch.ones_like(bound))
    shift = (_inside(x + begin, x, bound, span) - x) / scale
    shift.requires_grad_()
    optimizer = torch.optim.Adam([shift], lr=0.1)
    falls = [round(share * iterations) for share in _FALLS]
    for step in range(iterations):
        if step in falls:
            optimizer.param_groups[0]["lr"] *= 0.1
        objective = _objective(network, weights, x + shift * scale, y, wanted)
        (slope,) = torch.autograd.grad(objective, shift)
        shift.grad = slope.sign()
        optimizer.step()
        with torch.no_grad():
            shift.copy_((_inside(x + shift * scale, x, bound, span) - x) / scale)
    final = _inside(x + shift.detach() * scale, x, bound, span)
    return final, float(_objective(network, weights, final, y, wanted).detach())


def _objective(network: nn.Module, weights: Sequence[Tensor], x: Tensor, y: Tensor, wanted: Tensor) -> Tensor:
    gradient = _flat_gradient(network, weights, x, y)
    cosine: Tensor = (gradient @ wanted) / gradient.norm().clamp_min(_NORM_FLOOR)
    return 1 - cosine


def _flat_gradient(network: nn.Module, weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    loss = functional.cross_entropy(network(x), y)
    parts = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    return torch.cat([part.reshape(-1) for part in parts if part is not None])


def _inside(moved: Tensor, x: Tensor, bound: Tensor, span: tuple[Tensor, Tensor]) -> Tensor:
    return torch.maximum(torch.minimum(moved, x + bound), x - bound).clamp(*span)
