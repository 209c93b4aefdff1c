"""Decision trees, leaf for leaf, from the identities of the leaves that answer."""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from assay.errors import AccessDenied, BudgetExceeded, InvalidInput, UnknownName
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.paths.audit import audit
from assay.extraction.exact.paths.boxes import Box, Boxes
from assay.extraction.exact.paths.compare import largest_error
from assay.extraction.exact.paths.descend import search_down
from assay.extraction.exact.paths.export import estimator, tree_arrays
from assay.extraction.exact.paths.grid import Floats, Grid, Integers
from assay.extraction.exact.paths.lines import search_lines
from assay.extraction.exact.paths.neighbours import search_neighbours
from assay.extraction.exact.paths.partition import partition, simplify
from assay.extraction.exact.paths.probing import Identities
from assay.extraction.exact.paths.refine import refine, splits
from assay.extraction.exact.paths.slanted import is_slanted
from assay.extraction.exact.paths.surround import Looks
from assay.extraction.exact.recovered import Recovered
from assay.model import Access
from assay.observers import Observer
from assay.registry import nearest, register

__all__ = ["PathFinding"]

Method = Literal["auto", "bottom-up", "line-search", "top-down"]
_VALUE_AND_CONFIDENCE = 2
_SUSPICIOUS, _PER_IDENTITY = 2000, 100  # questions, and questions for each answer that was seen


@register("path-finding", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class PathFinding(ExactAttack):
    """Recover a decision tree from answers that tell its leaves apart.

    The identity of a leaf is what the service shows for it: class and confidence
    (`assay.defences.leaf_identity`), all scores, a regression tree's value, or, with many
    duplicates, the label. The result is a scikit-learn tree; with categorical features a
    pipeline that encodes them first.

    Parameters
    ----------
    method
        ``"bottom-up"`` crosses from leaf to leaf with grouped questions; ``"line-search"`` is
        the published bottom-up algorithm, a search along every feature of every leaf;
        ``"top-down"`` starts at the root and needs a service that answers incomplete
        queries with the node where they end. ``"auto"`` takes top-down where the service
        shows nodes, bottom-up elsewhere.
    epsilon
        Step of the search grid as a share of each feature's range, above 0, at most 1.
        Leaves narrower than that are not found.
    precision
        Width to which thresholds are bisected at the end, as a share of the range; None
        leaves them halfway between two grid positions.
    verify
        Random points that check each found box, at least 0; where identities repeat, more if
        it takes more for every category of the box to occur. A box that duplicate identities
        made too wide is cut and the search goes on.
    fields
        Whether to use what the service says about the features that it looked at.
    whole
        Columns that hold whole numbers only, such as 0 and 1.
    arity
        Points asked in each line search at a time: 1 bisects, 3 halves the rounds for
        half as many questions again, ``2^j - 1`` divides the rounds by ``j``.
    most_leaves
        Largest number of boxes, after which the search gives up with a flag.
    passes
        Largest number of repairs in a row.

    References
    ----------
    Tramèr et al. 2016, "Stealing Machine Learning Models via Prediction APIs", section 4.2,
    for line search and top-down; the grouped questions are ours.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from assay.adapters import SklearnModel
    >>> from assay.defences.leaf_identity import LeafIdentity
    >>> from assay.extraction.exact import Domain
    >>> tree = DecisionTreeClassifier(random_state=0).fit(*load_iris(return_X_y=True))
    >>> service = LeafIdentity(confidence="node").wear(SklearnModel(tree))
    >>> done = PathFinding().run(service, domain=Domain.box(4, 0.0, 8.0), truth=tree, uniform=1000)
    >>> int(done.found.model.get_n_leaves()), int(tree.get_n_leaves()), done.worth.r_unif.value
    (9, 9, 0.0)
    >>> done.worth.parameter_error < 1e-6, done.record.cost.queries < 500
    (True, True)
    """

    name: ClassVar[str] = "path-finding"
    # A regression tree shows neither labels nor scores; `recover` refuses what shows nothing.
    needs: ClassVar[Access] = Access.NONE
    wants: ClassVar[Access] = Access.SCORES | Access.EMBEDDINGS
    caches: ClassVar[bool] = True

    method: Method = "auto"
    epsilon: float = 1e-3
    precision: float | None = 1e-9
    verify: int = 2
    fields: bool = True
    whole: tuple[int, ...] = ()
    arity: int = 1
    most_leaves: int = 10_000
    passes: int = 100

    def __post_init__(self) -> None:
        if self.method not in typing.get_args(Method):
            raise UnknownName(nearest(self.method, list(typing.get_args(Method)), "method"))
        small = [name for name in ("arity", "most_leaves", "passes") if getattr(self, name) < 1]
        if small or self.verify < 0:
            msg = f"{(small or ['verify'])[0]} must be at least {1 if small else 0}"
            raise InvalidInput(msg)
        if not 0 < self.epsilon <= 1 or (self.precision is not None and not 0 < self.precision <= 1):
            msg = f"epsilon and precision must lie in (0, 1], got {self.epsilon} and {self.precision}"
            raise InvalidInput(msg)

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the ledger reports every round
    ) -> Recovered:
        """Recover the tree behind ``oracle``; see `ExactAttack.recover`."""
        domain = oracle.domain
        grid = Grid.between(
            domain.low,
            domain.high,
            self.epsilon,
            whole=self.whole,
            categorical=tuple(int(f) for f in np.flatnonzero(~domain.continuous)),
        )
        # Its own generator: a tree is searched as if nobody had looked for slants.
        looks = rng.spawn(1)[0]
        service = _Service(oracle, grid, fields=self.fields, start=grid.random(1, rng), rng=looks)
        method = self._method(oracle, service)
        ask, found, flags = service.ask, Boxes(grid), []
        start = [service.start]
        unsettled: list[int] = []
        thresholds: dict[int, float] = {}
        repairs = 0
        try:
            complete = self._search(method, service, found, start, rng)
            if not complete:
                flags.append("not a tree" if found.only_points() else "too many leaves")
            elif self.verify:
                repairs = audit(
                    grid,
                    ask,
                    found,
                    lambda points: self._search(
                        "line-search" if method == "line-search" else "bottom-up", service, found, points, rng
                    ),
                    rng,
                    samples=self.verify,
                    passes=self.passes,
                )
                if repairs == self.passes:
                    flags.append("contradictory identities")
        except BudgetExceeded:
            if not len(found):
                raise
            flags.append("budget exhausted")
        except _SlantedError:
            flags.append("not a tree")
            # Its boxes are steps of a staircase; putting a tree together from them says nothing.
            found = Boxes(grid)
            found.add(Box.whole(grid), int(ask(service.start[None])[0]), service.start)
        searched = ask.asked
        boxes = len(found)
        found.merge()
        root = partition(found)
        filled = simplify(found, root)
        if filled:
            flags.append("incomplete tree")
        if self.precision is not None and not {"budget exhausted", "not a tree"} & set(flags):
            try:
                thresholds, unsettled = refine(
                    grid, ask, found, root, precision=self.precision, arity=self.arity
                )
            except BudgetExceeded:
                flags.append("thresholds on the grid only")
            if unsettled:
                flags.append("thresholds on the grid only")
        arrays = tree_arrays(grid, found, root, thresholds, service.values(oracle.num_classes))
        model = estimator(grid, arrays, classes=oracle.num_classes if service.graded else None)
        if not service.graded:
            # The adapters open classifiers; a regression tree predicts, and has no labels.
            model.classes_ = np.arange(oracle.num_classes)
        leaves = len(root.leaves())
        inner = len(splits(root))
        shares = math.fsum(box.share(grid) for box in found.boxes)
        return Recovered(
            model=model,
            family="decision tree" if service.graded else "regression tree",
            unknowns=2 * inner + leaves,
            bound=_bound(grid, inner, leaves),
            parameters=arrays,
            flags=tuple(dict.fromkeys(flags)),
            details={
                "method": method,
                "leaves": leaves,
                "depth": _depth(arrays),
                "identities": len({found.identities[leaf.boxes[0]] for leaf in root.leaves()}),
                "boxes": boxes,
                "coverage": 1.0 - filled,
                "overlap": shares - (1.0 - filled),
                "repairs": repairs,
                "queries for the tree": searched,
                "queries for thresholds": ask.asked - searched,
                "rounds": ask.rounds,
            },
        )

    def _method(self, oracle: Oracle, service: _Service) -> Method:
        if self.method == "top-down" and not oracle.accepts_missing:
            msg = f"{oracle.name} refuses incomplete queries, which top-down needs; choose method=bottom-up"
            raise AccessDenied(msg)
        if self.method != "auto":
            return self.method
        return "top-down" if oracle.accepts_missing and service.shows_nodes else "bottom-up"

    def _search(
        self,
        method: Method,
        service: _Service,
        found: Boxes,
        points: list[Integers],
        rng: np.random.Generator,
    ) -> bool:
        grid, ask, looks = service.grid, service.ask, service.looks
        if method == "top-down":
            return search_down(grid, ask, found, rng, looks=looks, arity=self.arity, most=self.most_leaves)
        if method == "line-search":
            return search_lines(grid, ask, found, points, arity=self.arity, most=self.most_leaves)
        return search_neighbours(
            grid, ask, found, points, looks=looks, arity=self.arity, most=self.most_leaves
        )

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Return the largest error of a side of a leaf, relative to nothing: in the feature's units.

        Infinite if the leaves do not correspond one to one. ``truth`` is a fitted
        scikit-learn tree on the same columns; None is returned for pipelines.
        """
        return largest_error(found.model, truth)


class _SlantedError(Exception):
    """The victim is no tree."""


class _Watched(Identities):
    """Identities that look for slanted boundaries once questions pile up without new answers.

    The answers of a linear model or a network are a staircase of ever more boxes, for as
    long as anybody asks.
    """

    def watch(self, oracle: Oracle, rng: np.random.Generator) -> None:
        """Say whose domain it is."""
        self._domain, self._rng, self._look_at = oracle.domain, rng, _SUSPICIOUS

    def of_values(self, x: Floats) -> Integers:
        """Ask, and look for slants after so many questions."""
        names = super().of_values(x)
        if self.asked >= self._look_at:
            few = len(self.answers) <= self.asked / _PER_IDENTITY
            self._look_at = 2 * self.asked
            if few and is_slanted(super().of_values, self._domain, self._rng):
                raise _SlantedError
        return names


class _Service:
    """Identities from whatever the victim shows, and what they predict."""

    def __init__(
        self, oracle: Oracle, grid: Grid, *, fields: bool, start: Integers, rng: np.random.Generator
    ) -> None:
        self.grid, self.start = grid, start[0]
        self.graded = Access.LABELS in oracle.access
        self.shows_nodes = self._named = False
        self._fields = False
        if Access.EMBEDDINGS in oracle.access:
            first = oracle.embeddings(grid.values(start))
            width = first.shape[1]
            # Value and confidence, with or without the features that were looked at.
            self._named = width in (_VALUE_AND_CONFIDENCE, _VALUE_AND_CONFIDENCE + grid.size)
            self._fields = fields and width == _VALUE_AND_CONFIDENCE + grid.size
            self.shows_nodes = self._named
        if self._named:
            answer = oracle.embeddings
        elif Access.SCORES in oracle.access:
            answer = oracle.scores
        elif self.graded:
            answer = _one_hot(oracle)
        else:
            msg = f"{oracle.name} shows nothing that tells leaves apart: labels, scores or leaf identities"
            raise AccessDenied(msg)
        width_used = _VALUE_AND_CONFIDENCE if self._named and not self._fields else None
        self.ask = _Watched(grid, answer, width_used)
        self.ask.watch(oracle, rng)

    @property
    def looks(self) -> Looks | None:
        """The features that a leaf's path looks at, where the service tells them."""
        if not self._fields:
            return None
        return lambda identity: self.ask.answers[identity][_VALUE_AND_CONFIDENCE:] > 0

    def values(self, classes: int) -> Floats:
        """Return what each identity predicts: probabilities ``[n, classes]``, or values ``[n, 1]``."""
        answers = np.stack(self.ask.answers)
        if not self.graded:
            return answers[:, :1]
        if self._named:
            return np.eye(classes)[answers[:, 0].astype(np.int64)]
        sums = answers.sum(1, keepdims=True)
        whole = (np.abs(sums - 1) < 1e-9).all()  # noqa: PLR2004 - rounding of a sum
        return answers if whole else np.eye(classes)[answers.argmax(1)]


def _one_hot(oracle: Oracle) -> Any:
    return lambda x: np.eye(oracle.num_classes)[oracle.labels(x)]


def _bound(grid: Grid, inner: int, leaves: int) -> int:
    """Fewest answers that can tell the tree: every leaf seen, every threshold's bits told."""
    if inner == 0:
        return 1
    bits = inner * math.log2(float((grid.levels).sum()))
    return max(leaves, math.ceil(bits / math.log2(leaves)))


def _depth(arrays: dict[str, np.ndarray]) -> int:
    depth = np.zeros(len(arrays["feature"]), np.int64)
    for node in np.flatnonzero(arrays["feature"] >= 0):
        depth[[arrays["children_left"][node], arrays["children_right"][node]]] = depth[node] + 1
    return int(depth.max())
