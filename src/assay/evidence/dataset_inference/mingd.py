"""MinGD: smallest perturbation into every other class, by descent on the logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.errors import InvalidInput
from assay.evidence.dataset_inference.norms import NORMS, check_classes, check_norms, check_points, distances
from assay.observers import Observer, Observers

__all__ = ["MarginEmbedding", "MinGD"]

# Nearer to an edge of the box than this share of its width, an l1 step has no room.
_EDGE = 0.001
# A linearised step aims this far: exactly at the boundary the prediction is a matter of rounding.
_BEYOND = 1.02


@dataclass(frozen=True)
class MarginEmbedding:
    """How far each point is from each target class.

    Parameters
    ----------
    distances
        float32 ``[n, targets, norms]``, norms of the clipped perturbation. Zero for the
        predicted class; of the last perturbation where the target was not reached.
    converged
        bool ``[n, targets, norms]``: the network predicts the target at that distance.
    iterations
        int64 ``[n, targets, norms]``, updates made.
    targets
        int64 ``[n, targets]``, the classes aimed at.
    queries_per_point
        int64 ``[n]``, rows of forward passes spent on each point.
    correct
        bool ``[n]``, whether the point itself is classified correctly.
    norms
        Names along the last axis.
    width
        Width of the value range.
    """

    distances: Tensor = field(repr=False)
    converged: Tensor = field(repr=False)
    iterations: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    queries_per_point: Tensor = field(repr=False)
    correct: Tensor = field(repr=False)
    norms: tuple[str, ...]
    width: float

    def __len__(self) -> int:
        return len(self.distances)

    @property
    def censored(self) -> Tensor:
        """Where the target was not reached, bool ``[n, targets, norms]``."""
        return ~self.converged

    @property
    def queries(self) -> int:
        """Rows of forward passes in total."""
        return int(self.queries_per_point.sum())


@dataclass(frozen=True)
class MinGD:
    """Targeted descent in small steps until the prediction is the target.

    All points, targets and norms form one queue. Each iteration costs one forward pass
    and one gradient with respect to the inputs per row under way; rows that arrive leave
    at once and others enter, so memory depends on ``chunk_rows`` alone. Parameters,
    their gradients, buffers, training flags and random state stay as they are.

    Parameters
    ----------
    steps
        Largest number of updates, at least 1.
    step_sizes
        Step for linf (per coordinate), l2 (Euclidean length) and l1 (per coordinate), for
        a value range of width 1.
    coordinates
        Coordinates that one l1 step moves: those with the largest gradient among those
        that can still move in its direction; all of them on smaller inputs.
    targets
        None aims at every class. ``K`` aims at the K most likely wrong classes of each
        point, for data with many classes.
    norms
        Which norms to measure, some of `NORMS` in that order.
    search
        ``"fixed"`` takes the published steps one by one. ``"linearised"`` takes as many at
        once as the linearised margin asks for, at least one and at most ``leap``: a quarter
        of the iterations, distances a few percent larger, and scores that separate private
        from control rows as well.
    leap
        Largest number of steps taken at once by the linearised search.
    chunk_rows
        Rows under way at a time.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference: Ownership Resolution in Machine
    Learning", ICLR 2021, section 5 (MinGD). The linearised step is that of
    Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool", CVPR 2016.

    Examples
    --------
    A linear network whose logits differ by ``x1 + x2 - 1``:

    >>> net = nn.Linear(2, 2)
    >>> _ = net.load_state_dict({"weight": torch.tensor([[1.0, 1], [0, 0]]), "bias": torch.tensor([-1.0, 0])})
    >>> found = MinGD().embed(net, torch.tensor([[0.7, 0.7]]), torch.tensor([0]), (0.0, 1.0))
    >>> found.converged.all().item(), found.distances[0, 1].round(decimals=1)
    (True, tensor([0.2000, 0.3000, 0.4000]))
    """

    steps: int = 500
    step_sizes: tuple[float, float, float] = (0.001, 0.01, 0.01)
    coordinates: int = 100
    targets: int | None = None
    norms: tuple[str, ...] = NORMS
    search: Literal["linearised", "fixed"] = "linearised"
    leap: int = 5
    chunk_rows: int = 128

    def __post_init__(self) -> None:
        check_norms(self.norms, self.step_sizes, "norms of MinGD")
        for name in ("steps", "coordinates", "leap", "chunk_rows"):
            if getattr(self, name) < 1:
                msg = f"{name} of MinGD must be at least 1, got {getattr(self, name)}"
                raise InvalidInput(msg)
        if self.targets is not None and self.targets < 1:
            msg = f"targets of MinGD must be None (all classes) or at least 1, got {self.targets}"
            raise InvalidInput(msg)
        if self.search not in ("fixed", "linearised"):
            msg = f"search must be 'fixed' or 'linearised', got {self.search!r}"
            raise InvalidInput(msg)

    def worst_case(self, num_classes: int) -> int:
        """Return the rows of forward passes that one point costs at most."""
        aims = num_classes - 1 if self.targets is None else self.targets
        return 1 + aims * len(self.norms) * (self.steps + 1)

    def embed(
        self,
        module: nn.Module,
        x: Tensor,
        y: Tensor,
        value_range: tuple[float, float],
        rng: int = 0,  # noqa: ARG002 - all embeddings are called alike, and this one draws nothing
        observers: Sequence[Observer] = (),
    ) -> MarginEmbedding:
        """Descend from every point towards every target.

        Parameters
        ----------
        module
            From inputs to logits; `assay.ledger.Ledger.module` counts each row.
        x, y
            Points, float32 ``[n, *shape]``, and their true classes, int64 ``[n]``; the
            classes only enter ``correct``.
        value_range
            Box to which perturbed points are clipped; finite.
        rng
            Not used.
        observers
            Told how many descents are finished.

        Raises
        ------
        InvalidInput
            If points or labels are malformed, logits are not finite, or more targets are
            asked for than there are wrong classes.
        BudgetExceeded
            If the module is metered and the budget ends; nothing of this call is kept.
        """
        with _evaluating(module):
            descent = _Descent(self, module, x, y, value_range)
            watch = Observers(observers)
            watch.on_start("mingd", len(descent.tasks))
            for done in descent.run():
                watch.on_step("mingd", done)
        found = descent.found
        watch.on_end("mingd", {"points": len(found), "rows": found.queries})
        return found


class _Descent:
    """State of one embedding: the queue of descents and the rows under way."""

    def __init__(
        self, config: MinGD, module: nn.Module, x: Tensor, y: Tensor, value_range: tuple[float, float]
    ) -> None:
        self.config, self.module, self.x = config, module, x
        parameter = next(module.parameters(), None)
        self.device = x.device if parameter is None else parameter.device
        self.width = check_points(x, y, value_range)
        self.low, self.high = value_range
        logits = self._logits()
        check_classes(y, logits.shape[1])
        predicted = logits.argmax(1)
        targets = self._targets(logits, predicted)
        shape = (*targets.shape, len(config.norms))
        reached = (targets == predicted.unsqueeze(1)).unsqueeze(2).expand(shape)
        self.found = MarginEmbedding(
            distances=torch.zeros(shape),
            converged=reached.clone(),
            iterations=torch.zeros(shape, dtype=torch.int64),
            targets=targets,
            queries_per_point=torch.ones(len(x), dtype=torch.int64),
            correct=predicted == y,
            norms=config.norms,
            width=self.width,
        )
        self.tasks = (~reached).nonzero()  # point, column, norm

    def _logits(self) -> Tensor:
        size = self.config.chunk_rows
        with torch.no_grad():
            parts = [self.module(part.to(self.device)).float().cpu() for part in torch.split(self.x, size)]
        logits = torch.cat(parts)
        if logits.ndim != 2 or not bool(torch.isfinite(logits).all()):  # noqa: PLR2004 - [n, classes]
            msg = f"MinGD needs finite logits [n, classes], the network gave {list(logits.shape)}"
            raise InvalidInput(msg)
        return logits

    def _targets(self, logits: Tensor, predicted: Tensor) -> Tensor:
        count, classes = logits.shape
        if self.config.targets is None:
            return torch.arange(classes).expand(count, classes).contiguous()
        if self.config.targets >= classes:
            msg = f"{self.config.targets} targets asked for, but a point has {classes - 1} wrong classes"
            raise InvalidInput(msg)
        wrong = logits.scatter(1, predicted.unsqueeze(1), -torch.inf)
        return wrong.argsort(dim=1, descending=True, stable=True)[:, : self.config.targets].contiguous()

    def run(self) -> Iterator[int]:
        """Finish all descents; yield how many are finished after each iteration."""
        point = torch.empty(0, *self.x.shape[1:], device=self.device)
        task, made, started = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), 0
        while started < len(self.tasks) or len(task):
            room = min(self.config.chunk_rows - len(task), len(self.tasks) - started)
            if room:
                fresh = torch.arange(started, started + room)
                point = torch.cat([point, self.x[self.tasks[fresh, 0]].to(self.device)])
                task, made = torch.cat([task, fresh]), torch.cat([made, torch.zeros_like(fresh)])
                started += room
            where, column, norm = self.tasks[task].unbind(1)
            margin, gradient, hit = self._look(point, self.found.targets[where, column].to(self.device))
            going = ~hit & (made < self.config.steps)
            self._store(task[~going], point[~going], made[~going], hit[~going], made[~going] + 1)
            keep = going.nonzero().squeeze(1)
            old, task, made = point[keep], task[keep], made[keep] + 1
            point = self._move(old, gradient[keep], margin[keep], norm[keep])
            # A step that leads nowhere (no gradient, or caught in a corner) never will.
            stuck = (point == old).flatten(1).all(1).cpu()
            if bool(stuck.any()):
                self._store(task[stuck], point[stuck], made[stuck], ~stuck[stuck], made[stuck])
                task, made, point = task[~stuck], made[~stuck], point[~stuck]
            yield started - len(task)

    def _look(self, point: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One forward pass and one input gradient: the margin, its gradient, and who arrived."""
        with torch.enable_grad():
            inputs = point.detach().requires_grad_()
            best, leader = (logits := self.module(inputs).float()).max(1)
            margin = best - logits.gather(1, target.unsqueeze(1)).squeeze(1)
            if margin.requires_grad:  # of the inputs alone: no gradient reaches a parameter
                (gradient,) = torch.autograd.grad(margin.sum(), inputs, materialize_grads=True)
            else:  # a network that hides its gradient is out of reach, not an error
                gradient = torch.zeros_like(inputs)
        return margin.detach(), gradient, (leader == target).cpu()

    def _move(self, point: Tensor, gradient: Tensor, margin: Tensor, norm: Tensor) -> Tensor:
        """Return the points after one update down the margin, clipped."""
        moved = torch.empty_like(point)
        for index, name in enumerate(self.config.norms):
            rows = (norm == index).nonzero().squeeze(1).to(point.device)
            at, slope = point[rows].flatten(1), gradient[rows].flatten(1)
            if name == "linf":
                direction, slack = slope.sign(), slope.abs().sum(1)
            elif name == "l2":
                # Scaled first: squares of tiny gradients would underflow.
                scaled = slope / slope.abs().amax(1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
                direction = functional.normalize(scaled, dim=1)
                slack = (slope * direction).sum(1)
            else:
                direction = self._sparse(at, slope)
                slack = (slope * direction).sum(1)
            stride = self.config.step_sizes[NORMS.index(name)] * self.width
            if self.config.search == "linearised":
                leaps = (_BEYOND * margin[rows] / (stride * slack)).nan_to_num(nan=1.0)
                leaps = leaps.clamp(1, self.config.leap)
                direction = direction * leaps.unsqueeze(1)
            moved[rows] = (at - stride * direction).clamp(self.low, self.high).reshape(-1, *point.shape[1:])
        return moved

    def _sparse(self, at: Tensor, slope: Tensor) -> Tensor:
        """Return the signs of the largest slopes among coordinates that the box lets move."""
        # Down the slope: a positive one lowers the coordinate. Being at the other edge is no obstacle.
        gap = _EDGE * self.width
        blocked = ((slope > 0) & (at <= self.low + gap)) | ((slope < 0) & (at >= self.high - gap))
        size = slope.abs().masked_fill(blocked, 0)
        chosen = size.topk(min(self.config.coordinates, size.shape[1]), dim=1).indices
        free = slope.masked_fill(blocked, 0).gather(1, chosen).sign()
        return torch.zeros_like(slope).scatter(1, chosen, free)

    def _store(self, task: Tensor, point: Tensor, made: Tensor, hit: Tensor, passes: Tensor) -> None:
        """Note where descents ended."""
        if not len(task):
            return
        cells = self.tasks[task].unbind(1)
        where, _, norm = cells
        lengths = distances(point.cpu() - self.x[where], self.config.norms)
        self.found.distances[cells] = lengths.gather(1, norm.unsqueeze(1)).squeeze(1)
        self.found.iterations[cells] = made
        self.found.converged[cells] = hit
        self.found.queries_per_point.index_add_(0, where, passes)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, and set every flag back afterwards."""
    flags = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in flags:
            part.training = training
