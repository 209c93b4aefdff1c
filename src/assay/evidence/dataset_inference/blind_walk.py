"""Blind Walk: distance to the decision boundary along random rays, from labels alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from assay.errors import BudgetExceeded, InvalidInput
from assay.evidence.dataset_inference.norms import NORMS, check_classes, check_norms, check_points, distances
from assay.ledger import Ledger
from assay.model import check_inputs
from assay.observers import Observer, Observers

__all__ = ["BlindWalk", "WalkEmbedding"]

# Directions of the rays in flight are kept; this many numbers of them at most (256 MiB).
_HELD = 2**26
# Points are computed this many numbers at a time (1 MiB): all passes but the first find them in cache.
_BLOCK = 2**18


@dataclass(frozen=True)
class WalkEmbedding:
    """Where random walks from labelled points first left their class.

    Parameters
    ----------
    distances
        float32 ``[m, walks, norms]``, norms of the clipped perturbation at ``steps``.
        ``m`` is smaller than the number of points given if the budget ended before.
    steps
        int64 ``[m, walks, norms]``, first step found with another label, in 1 .. max.
    censored
        bool ``[m, walks, norms]``: the walk never left the class; its ``steps`` and
        ``distances`` are those of the last step.
    queries_per_point
        int64 ``[m]``, labels asked for each point, the clean one included.
    correct
        bool ``[m]``, whether the clean label was right; None if it was not asked.
    norms
        Names along the last axis.
    width
        Width of the value range.
    """

    distances: Tensor = field(repr=False)
    steps: Tensor = field(repr=False)
    censored: Tensor = field(repr=False)
    queries_per_point: Tensor = field(repr=False)
    correct: Tensor | None = field(repr=False)
    norms: tuple[str, ...]
    width: float

    def __len__(self) -> int:
        return len(self.distances)

    @property
    def queries(self) -> int:
        """Labels asked in total."""
        return int(self.queries_per_point.sum())


@dataclass(frozen=True)
class BlindWalk:
    """Random walks that need labels only.

    From every point, ``walks`` random directions per norm are followed; the distance at
    which the label first differs from the true one estimates the margin there. All rays of
    all points form one queue: each round sends one batch, finished rays make room for
    new ones. The directions of a point depend on the seed and on its content only, so
    neither batch size nor order nor companions change the result.

    Parameters
    ----------
    walks
        Directions per norm, at least 1.
    steps
        Largest number of steps of a walk, at least 1.
    scales
        Noise per step and coordinate, as a share of the value range's width: half-width
        of the uniform noise (linf), standard deviation of the normal (l2), scale of the
        Laplace noise (l1).
    search
        ``"bisection"`` asks for the last step first and halves from there, at most
        ``1 + ceil(log2(steps))`` labels a ray; it finds a step at which the label changes,
        and the first one if there is only one. ``"linear"`` takes every step, as published.
    norms
        Which walks to take, some of `NORMS` in that order.
    clean
        Ask the label of the point itself first (one query more). Rays of points which
        are misclassified anyway then try their first step first and end there.
    batch_rows
        Largest number of rows sent at a time, but at least the rays of one point.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference: Ownership Resolution in Machine
    Learning", ICLR 2021, section 5 (Blind Walk). The search along a ray by halving is that
    of Chen et al., "HopSkipJumpAttack", 2020.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.model import Access
    >>> net = torch.nn.Linear(4, 2)
    >>> _ = net.load_state_dict({"weight": torch.zeros(2, 4), "bias": torch.tensor([0.0, 1.0])})
    >>> oracle = Ledger(TorchModel(net, (4,), 2), Access.LABELS)
    >>> walk = BlindWalk(walks=2, steps=20)
    >>> found = walk.embed(oracle, torch.full((3, 4), 0.5), torch.tensor([1, 1, 0]), (0.0, 1.0), rng=0)
    >>> found.steps[:, 0, 0].tolist(), found.censored[:, 0, 0].tolist(), found.queries_per_point.tolist()
    ([20, 20, 1], [True, True, False], [7, 7, 7])
    """

    walks: int = 10
    steps: int = 50
    scales: tuple[float, float, float] = (0.005, 0.005, 0.01)
    search: Literal["bisection", "linear"] = "bisection"
    norms: tuple[str, ...] = NORMS
    clean: bool = True
    batch_rows: int = 4096

    def __post_init__(self) -> None:
        check_norms(self.norms, self.scales, "norms of a blind walk")
        for name in ("walks", "steps", "batch_rows"):
            if getattr(self, name) < 1:
                msg = f"{name} of a blind walk must be at least 1, got {getattr(self, name)}"
                raise InvalidInput(msg)
        if self.search not in ("bisection", "linear"):
            msg = f"search must be 'bisection' or 'linear', got {self.search!r}"
            raise InvalidInput(msg)

    @classmethod
    def preset(cls, name: Literal["cifar10", "svhn"]) -> Self:
        """Return the published noise scales for ``"cifar10"`` (the default) or ``"svhn"``."""
        if name == "cifar10":
            return cls()
        if name == "svhn":
            return replace(cls(), scales=(0.01, 0.01, 0.02), steps=100)
        msg = f"no blind walk preset {name!r}; choose 'cifar10' or 'svhn'"
        raise InvalidInput(msg)

    @property
    def rays(self) -> int:
        """Rays per point."""
        return self.walks * len(self.norms)

    @property
    def worst_ray(self) -> int:
        """Labels that one ray costs at most."""
        return self.steps if self.search == "linear" else 1 + math.ceil(math.log2(self.steps))

    def worst_case(self) -> int:
        """Return the labels that one point costs at most; a budget holds at least ``budget // this``.

        Examples
        --------
        >>> BlindWalk(clean=False).worst_case(), BlindWalk(clean=False, search="linear").worst_case()
        (210, 1500)
        """
        return self.rays * self.worst_ray + self.clean

    def embed(
        self,
        oracle: Ledger,
        x: Tensor,
        y: Tensor,
        value_range: tuple[float, float],
        rng: int,
        observers: Sequence[Observer] = (),
    ) -> WalkEmbedding:
        """Walk from every point, in the order given, as far as the budget goes.

        A point is started only when the budget covers its worst case beside that of all
        points under way, so every point that was started is finished. Labels saved by
        lucky rays go to further points. Where points are dropped at the end matters:
        hand them over in an order that does not depend on what they are.

        Parameters
        ----------
        oracle
            Metered model; labels only.
        x, y
            Points, float32 ``[n, *shape]``, and their true classes, int64 ``[n]``.
        value_range
            Box to which perturbed points are clipped; finite.
        rng
            Seed of the directions.
        observers
            Told how many points are finished.

        Returns
        -------
        WalkEmbedding
            For the first ``m <= n`` points.

        Raises
        ------
        BudgetExceeded
            If the budget does not cover one point; nothing was asked.
        InvalidInput, AccessDenied, SuspectUnreachable
            If points or labels are malformed, or the model refuses. Answers so far are in
            the oracle's journal, if it has one.
        """
        width = check_points(x, y, value_range)
        check_classes(y, oracle.num_classes)
        check_inputs(x, oracle.input_shape, oracle.name)
        watch = Observers(observers)
        watch.on_start("blind-walk", len(x))
        walk = _Walk(self, oracle, x.flatten(1), y.numpy(), value_range, width, rng)
        for done in walk.rounds():
            watch.on_step("blind-walk", done)
        found = walk.result()
        watch.on_end("blind-walk", {"points": len(found), "labels": found.queries})
        return found


class _Walk:
    """State of one embedding: a buffer of rays in flight, and what finished ones found."""

    def __init__(
        self,
        config: BlindWalk,
        oracle: Ledger,
        x: Tensor,
        y: np.ndarray,
        value_range: tuple[float, float],
        width: float,
        seed: int,
    ) -> None:
        self.config, self.oracle, self.x, self.y = config, oracle, x, y
        self.low, self.high, self.width, self.seed = *value_range, width, seed
        count, dimension, rays = len(x), x.shape[1], config.rays
        slots = max(rays, min(config.batch_rows, _HELD // max(1, dimension), count * rays))
        self.directions = torch.empty(slots, dimension)
        self.block = max(1, _BLOCK // max(1, dimension))  # rows
        self.free = np.arange(slots)
        self.active = np.empty(0, dtype=np.int64)  # slots in flight
        # Per slot: point, ray, last step known right, first known wrong, step asked, labels spent.
        self.point, self.ray, self.low_step, self.high_step, self.step, self.spent = np.zeros(
            (6, slots), dtype=np.int64
        )
        self.admitted = 0
        self.open = np.full(count, rays)
        self.correct = np.zeros(count, dtype=bool)
        self.queries = np.zeros(count, dtype=np.int64)
        self.found = np.zeros((count, rays), dtype=np.int64)
        self.distance = torch.zeros(count, config.walks, len(config.norms))

    def rounds(self) -> Iterator[int]:
        """Ask one batch a round; yield the number of finished points after each."""
        if len(self.x) and self._room() < 1:
            msg = (
                f"one point costs up to {self.config.worst_case()} labels, the budget for {self.oracle.name} "
                f"has {self.oracle.remaining} left; raise it or take fewer walks; nothing was sent"
            )
            raise BudgetExceeded(msg)
        while True:
            fresh = np.arange(self.admitted, self.admitted + self._room())
            self.admitted += len(fresh)
            if not self.config.clean:
                self._start(fresh)
                fresh = fresh[:0]
            asked = len(self.active)
            # A new tensor each round, as a model may keep what it was sent.
            batch = torch.empty(asked + len(fresh), self.x.shape[1])
            if not len(batch):
                return
            self._fill(batch[:asked], self.active)
            batch[asked:] = self.x[fresh]
            answers = self.oracle.labels(batch.reshape(-1, *self.oracle.input_shape)).numpy()
            self._advance(answers[:asked])
            self.queries[fresh] += 1
            self.correct[fresh] = answers[asked:] == self.y[fresh]
            self._start(fresh)
            yield int((self.open == 0).sum())

    def _room(self) -> int:
        """Count the points that slots and budget can take in."""
        room = min(len(self.x) - self.admitted, len(self.free) // self.config.rays)
        if self.oracle.remaining is not None:
            # Reserve what the rays under way may still cost: what was started will be finished.
            reserved = int((self.config.worst_ray - self.spent[self.active]).sum())
            room = min(room, (self.oracle.remaining - reserved) // self.config.worst_case())
        return max(0, room)

    def _start(self, fresh: np.ndarray) -> None:
        """Put all rays of the points ``fresh`` in flight."""
        rays, last = self.config.rays, self.config.steps
        count = len(fresh) * rays
        slots, self.free = self.free[:count], self.free[count:]
        self.active = np.concatenate([self.active, slots])
        self.point[slots], self.ray[slots] = fresh.repeat(rays), np.tile(np.arange(rays), len(fresh))
        self.low_step[slots], self.high_step[slots], self.spent[slots] = 0, last + 1, 0
        # A point that is wrong already leaves its class at step 1, as a rule; otherwise the far end
        # tells most: walks that never leave cost one label.
        near = np.full(len(fresh), self.config.search == "linear")
        if self.config.clean:
            near |= ~self.correct[fresh]
        self.step[slots] = np.where(near, 1, last).repeat(rays)
        for point, mine in zip(fresh, slots.reshape(-1, rays), strict=True):
            self.directions[torch.from_numpy(mine)] = torch.from_numpy(self._draw(point))

    def _draw(self, point: int) -> np.ndarray:
        """Return the directions of one point, float32 ``[walks * norms, d]``, walk-major."""
        content = hashlib.sha256(self.x[point].numpy().tobytes()).hexdigest()
        walks, dimension = self.config.walks, self.x.shape[1]
        noise = np.empty((walks, len(self.config.norms), dimension), dtype=np.float32)
        for column, norm in enumerate(self.config.norms):
            # Keyed by content: a shared generator would tie a point's noise to the rows before it.
            key = hashlib.sha256(f"blind-walk|{self.seed}|{norm}|{content}".encode()).digest()[:16]
            source = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
            if norm == "linf":
                drawn = source.random((walks, dimension), dtype=np.float32)
                drawn *= 2
                drawn -= 1
            elif norm == "l2":
                drawn = source.standard_normal((walks, dimension), dtype=np.float32)
            else:  # the difference of two exponential variables is Laplacian, and half the price
                pair = source.standard_exponential((walks, 2, dimension), dtype=np.float32)
                drawn = pair[:, 0] - pair[:, 1]
            scale = np.float32(self.config.scales[NORMS.index(norm)] * self.width)
            np.multiply(drawn, scale, out=noise[:, column])
        return noise.reshape(-1, dimension)

    def _fill(self, batch: Tensor, slots: np.ndarray) -> None:
        """Write the points at the current steps, clipped, into ``batch``, ``[len(slots), d]``."""
        rays, points = torch.from_numpy(slots), torch.from_numpy(self.point[slots])
        steps = torch.from_numpy(self.step[slots]).float().unsqueeze(1)
        for start in range(0, len(slots), self.block):
            rows = slice(start, start + self.block)
            moved = torch.index_select(self.directions, 0, rays[rows], out=batch[rows])
            moved *= steps[rows]
            moved += self.x.index_select(0, points[rows])
            moved.clamp_(self.low, self.high)

    def _advance(self, answers: np.ndarray) -> None:
        """Use the answers to the active rays' steps; finished rays leave."""
        slots = self.active
        step, right = self.step[slots], answers == self.y[self.point[slots]]
        low = self.low_step[slots] = np.where(right, step, self.low_step[slots])
        high = self.high_step[slots] = np.where(right, self.high_step[slots], step)
        self.step[slots] = low + 1 if self.config.search == "linear" else (low + high) // 2
        self.spent[slots] += 1
        over = high - low == 1
        if over.any():
            self._finish(slots[over])
            self.active = slots[~over]
            self.free = np.concatenate([self.free, slots[over]])

    def _finish(self, slots: np.ndarray) -> None:
        """Note where rays ended; the step is ``steps + 1`` for those that never left."""
        point, ray, norms = self.point[slots], self.ray[slots], self.config.norms
        self.found[point, ray] = self.high_step[slots]
        self.step[slots] = np.minimum(self.high_step[slots], self.config.steps)
        np.add.at(self.queries, point, self.spent[slots])
        np.subtract.at(self.open, point, 1)
        for column in range(len(norms)):
            mine = np.flatnonzero(ray % len(norms) == column)
            for start in range(0, len(mine), self.block):
                part = mine[start : start + self.block]
                moves = torch.empty(len(part), self.x.shape[1])
                self._fill(moves, slots[part])
                moves -= self.x[point[part]]
                length = distances(moves, norms[column : column + 1])[:, 0]
                self.distance[point[part], ray[part] // len(norms), column] = length

    def result(self) -> WalkEmbedding:
        """Return what the walks of the admitted points found."""
        config, done = self.config, self.admitted
        found = torch.from_numpy(self.found[:done]).reshape(done, config.walks, len(config.norms))
        return WalkEmbedding(
            distances=self.distance[:done],
            steps=found.clamp(max=config.steps),
            censored=found > config.steps,
            queries_per_point=torch.from_numpy(self.queries[:done]),
            correct=torch.from_numpy(self.correct[:done]) if config.clean else None,
            norms=config.norms,
            width=self.width,
        )
