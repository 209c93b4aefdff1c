"""Algebraic extraction of a one-hidden-layer network: span, separate, place, polish."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.errors import InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.network_fit import Answers, log_noise, log_ratios, output_layer, polish
from assay.extraction.exact.network_search import search_network
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.precision import Grain, find_grain
from assay.extraction.exact.recovered import Recovered
from assay.extraction.exact.separation import points_needed, separate_gradients, separate_hessians
from assay.extraction.exact.shallow import ShallowNet, softmax
from assay.extraction.exact.unit_box import UnitBox
from assay.extraction.exact.unit_fit import scale_and_bias
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["AlgebraicMLP"]

Layers = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_MARGIN = 0.9  # base points keep off the faces of the box, so that steps stay inside
_FEWEST_POINTS = 6  # scale, bias and factor of a unit, with some to spare
_CURVATURES = 2  # points at which two classes' Hessians are taken: a pencil needs two
_CURVATURE_STEP = 3e-3
_BENDS = 8  # steps of twice the size that tell how far quotients are off
_PROBES = 3  # directions off the span that would show a unit not yet seen
_STEP, _SINGLE_STEP, _CLOSER = 1e-4, 3e-2, 30
_MORE_POINTS, _ATTEMPTS = 4, 2
_SLACK = {True: 3.5, False: 1.4}  # equations for each unknown, float32 and float64
_SINGLE_EXTRA = 0.15  # float32: distant points for the polish, as a share of the unknowns
_VERIFIED = {True: 1e-3, False: 1e-6}  # total variation on the check points, float32 and float64


@register("algebraic-mlp", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class AlgebraicMLP(ExactAttack):
    """Recover a network with one hidden tanh or logistic layer exactly, and find its width.

    Works without search where the network has no more hidden units than inputs and shows
    unrounded scores:

    1. *Span.* Difference quotients at a few points; every gradient of a log-ratio combines
       the rows of ``W``, so their rank is the number of hidden units.
    2. *Separate.* Gradients within that span at a few more points form a tensor whose only
       decomposition into rank-one terms has a hidden unit in each. With two classes there
       is a single log-ratio, and Hessians take the place of the tensor.
    3. *Place.* How the slope of a unit changes between points tells its scale and bias; the
       output layer is linear.
    4. *Polish.* Levenberg-Marquardt on all answers, to the last digit that they hold.

    A few distant answers are kept out of all this; they verify the copy. If they do not,
    further points are asked, then a search from random starts takes over, and the result
    is flagged ``"not verified"`` unless that succeeds.

    Parameters
    ----------
    hidden
        Hidden units; found out unless given.
    activation
        Notation of the copy: ``"tanh"`` or ``"logistic"``. The attack is the same.
    step
        Size of a difference, relative to half the box; by the precision of answers if None.
    points
        Gradient points; as many as make the decomposition unique and sound if None.
    check
        Answers kept for verification, at least 1.
    starts
        Random starts of the search that takes over; 0 for none.

    References
    ----------
    Tramèr et al., "Stealing Machine Learning Models via Prediction APIs", USENIX Security
    2016, section 4.1, for the setting; the algebra is ours, see `docs/methods`.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> rng = np.random.default_rng(0)
    >>> W, b, V, e = (rng.normal(size=s) for s in ((2, 4), 2, (2, 2), 2))
    >>> net = ShallowNet(W, b, V, e, "tanh")
    >>> stolen = AlgebraicMLP().run(TorchModel(net.module(), (4,), 3), truth=net.module())
    >>> stolen.record.cost.queries, stolen.worth.parameter_error < 1e-8
    (35, True)
    """

    name: ClassVar[str] = "algebraic-mlp"
    needs: ClassVar[Access] = Access.SCORES

    hidden: int | None = None
    activation: Literal["tanh", "logistic"] = "tanh"
    step: float | None = None
    points: int | None = None
    check: int = 8
    starts: int = 4

    def __post_init__(self) -> None:
        if (self.hidden or 1) < 1 or (self.points or 1) < 1 or self.check < 1 or self.starts < 0:
            msg = "hidden, points and check must be at least 1, and starts at least 0"
            raise InvalidInput(msg)
        if self.step is not None and not 0 < self.step <= 1 - _MARGIN:
            msg = f"step must lie in (0, {1 - _MARGIN:g}], got {self.step}"
            raise InvalidInput(msg)
        if self.activation not in {"tanh", "logistic"}:
            msg = f"activation must be 'tanh' or 'logistic', got {self.activation!r}"
            raise InvalidInput(msg)

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Compare with a fitted ``MLPClassifier`` or torch layers, units matched."""
        mine = ShallowNet.of(found.model)
        return mine.distance(ShallowNet.of(truth))

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - it takes seconds
    ) -> Recovered:
        """Recover the network behind ``oracle``; see `ExactAttack.recover`."""
        self._afford(oracle)
        return _Walk(self, oracle, rng).recover()

    def _afford(self, oracle: Oracle) -> None:
        """Refuse a budget that cannot suffice before anything is asked."""
        units = self.hidden or 1
        d, J = oracle.size, oracle.num_classes - 1
        least = self.check + math.ceil(units / J) * (d + 1)
        if not oracle.covers(least):
            bound = math.ceil((units * (d + 1) + J * (units + 1)) / J)
            msg = (
                f"{oracle.remaining} queries cannot recover a network of {units} hidden units behind "
                f"{oracle.name}: {least} are the least for this attack, {bound} for any"
            )
            raise InvalidInput(msg)


class _Walk:
    """One recovery: what was asked, and what follows from it, over the unit cube."""

    def __init__(self, how: AlgebraicMLP, oracle: Oracle, rng: np.random.Generator) -> None:
        self.how, self.rng, self.oracle = how, rng, oracle
        self.box = UnitBox.of(oracle)
        self.d, self.J = oracle.size, oracle.num_classes - 1
        self.answers, self.flags = Answers(), [*self.box.flags]
        self.bases: list[np.ndarray] = []
        self.full: list[np.ndarray] = []  # gradients, [d, J] a point
        self.gradients: list[np.ndarray] = []  # in the span's coordinates, [h, J] a point
        self.grain, self.step, self.noise = Grain(None, 0.0), 0.0, 0.0
        self.layers: Layers | None = None
        self.gap = self.left = math.inf
        self.far = self.seen = np.empty((0, 0))
        self.single = self.centred = False

    def recover(self) -> Recovered:
        """Walk the four steps, verify, and go on where verification fails."""
        self.far = self.rng.uniform(-1, 1, (self.how.check, self.d))
        self.seen = self.oracle.scores(self.box.inputs(self.far))
        self.grain = find_grain(self.seen)
        self.single = self.grain.step > float(np.finfo(np.float64).eps)
        self.noise = log_noise(self.seen, self.grain)
        self.step = self.how.step or (_SINGLE_STEP if self.single else _STEP)
        # Coarse answers need wide steps, which bend; a width read off them needs straight ones.
        self.centred = self.single and self.how.hidden is None
        units = self._walk()
        if self._verified or units == 0:
            return self._recovered()
        if units and not self.single and self.oracle.covers(self.oracle.queries):
            # A weak unit drowns in how quotients bend: once more, closer by.
            self.bases, self.full, self.step = [], [], self.step / _CLOSER
            units = self._walk() or units
        if not self._verified:
            self._search(units or self.how.hidden or 0)
        if self.layers is None:
            msg = (
                f"{self.oracle.name} has more directions than inputs to see them in; give hidden, and starts "
                "of at least 1, for a search from random starts"
            )
            raise InvalidInput(msg)
        return self._recovered()

    @property
    def _verified(self) -> bool:
        return self.gap <= _VERIFIED[self.single]

    def _walk(self) -> int | None:
        """Go from span to polished layers and return the width, None if it cannot be seen."""
        span = self._span()
        if span is None:
            return None
        if span.shape[1] == 0:
            self.flags.append("constant")
            zero = np.zeros((1, self.d)), np.zeros(1), np.zeros((self.J, 1)), log_ratios(self.seen).mean(0)
            self._consider(zero)
        else:
            self._attempts(span)
        return int(span.shape[1])

    def _consider(self, layers: Layers) -> None:
        """Keep layers that meet the check points better than those so far."""
        W, b, V, e = layers
        guess = softmax(np.tanh(self.far @ W.T + b) @ V.T + e)
        gap = float(0.5 * np.abs(guess - self.seen).sum(1).max())
        if self.layers is None or gap < self.gap:
            self.layers, self.gap = layers, gap

    def _recovered(self) -> Recovered:
        assert self.layers is not None
        if not self._verified:
            self.flags.append("not verified")
        net = ShallowNet.from_tanh(self.layers, self.box.centre, self.box.half, self.how.activation)
        return Recovered(
            net.estimator(),
            family=f"network of {net.hidden} {net.activation} units",
            unknowns=net.W.size + net.hidden + (self.J + 1) * (net.hidden + 1),
            bound=math.ceil(net.identifiable / self.J),
            parameters={"W": net.W, "b": net.b, "V": net.V, "e": net.e},
            flags=tuple(self.flags),
            details={
                "hidden": net.hidden,
                "identifiable": net.identifiable,
                "answers": self.grain.title,
                "step": self.step,
                "gradient points": len(self.gradients),
                "check total variation": self.gap,
                "residual over noise": self.left if math.isfinite(self.left) else None,
            },
        )

    def _ask(self, u: np.ndarray) -> np.ndarray:
        ratios = log_ratios(self.oracle.scores(self.box.inputs(u)))
        if not np.isfinite(ratios).all():
            msg = (
                f"{self.oracle.name} answers probabilities of 0, whose logarithms say nothing; it rounds or "
                "is saturated: narrow the domain, or use adaptive-retraining"
            )
            raise InvalidInput(msg)
        return ratios

    def _span(self) -> np.ndarray | None:
        """Return an orthonormal basis of the rows of ``W``, ``[d, h]``, or None if they fill the space."""
        if self.how.hidden is not None:
            if self.how.hidden > self.d:
                return None
            slopes = self._stars(math.ceil(self.how.hidden / self.J))
            return np.linalg.svd(slopes)[2][: self.how.hidden].T
        slopes, bend = self._stars(1), self._bend()
        while True:
            _, size, basis = np.linalg.svd(slopes, full_matrices=len(slopes) < self.d)
            # What is smaller than the quotients' error is no direction.
            rank = int((size > 2 * bend * math.sqrt(len(self.bases))).sum())
            if rank >= self.d:
                return None
            if rank < len(size) or self._outside(basis[rank:]) < 3 * bend:
                return basis[:rank].T
            slopes = np.vstack([slopes, self._stars(1)])

    def _bend(self) -> float:
        """Return how far a gradient of difference quotients is off, by steps of twice the size."""
        some = self.rng.permutation(self.d)[:_BENDS]
        base, y, sides = self.bases[0], self.answers.y[-1], 2 * self.step * np.eye(self.d)[some]
        if self.centred:
            ahead, back = self._ask(np.vstack([base + sides, base - sides])).reshape(2, len(some), self.J)
            once = y[1 + some] - y[1 + self.d + some]
            bent = ((ahead - back) / 2 - once) / (6 * self.step)
        else:
            bent = (self._ask(base + sides) - 2 * y[1 + some] + y[0]) / (2 * self.step)
        rounding = self.noise / self.step
        return math.sqrt(self.d * (float((bent**2).sum(1).mean()) + self.J * rounding**2))

    def _outside(self, rest: np.ndarray) -> float:
        """Return how much of the gradient lies along ``rest``, by walks along random directions in it."""
        off = self.rng.standard_normal((_PROBES, len(rest))) @ rest
        off /= np.linalg.norm(off, axis=1, keepdims=True)
        reach = 1 - _MARGIN
        change = (self._ask(self.bases[-1] + reach * off) - self.answers.y[-1][0]) / reach
        return math.sqrt(len(rest) / _PROBES) * float(np.linalg.norm(change))

    def _stars(self, count: int) -> np.ndarray:
        """Ask full difference quotients at new points and return them as rows ``[count J, d]``."""
        bases = self.rng.uniform(-_MARGIN, _MARGIN, (count, self.d))
        found = self._difference(bases, np.eye(self.d), centred=self.centred)
        self.full.extend(found)
        return found.transpose(0, 2, 1).reshape(-1, self.d)

    def _difference(self, bases: np.ndarray, sides: np.ndarray, *, centred: bool = False) -> np.ndarray:
        """Return difference quotients ``[points, directions, J]``, all asked in one round."""
        steps = self.step * (np.vstack([sides, -sides]) if centred else sides)
        stars = bases[:, None] + np.vstack([np.zeros(self.d), steps])
        y = self._ask(stars.reshape(-1, self.d)).reshape(len(bases), -1, self.J)
        add = self.answers.add_centred_star if centred else self.answers.add_star
        for x, ratios in zip(stars, y, strict=True):
            add(x, ratios, self.step)
        self.bases.extend(bases)
        back = y[:, len(sides) + 1 :] if centred else y[:, :1]
        quotients: np.ndarray = (y[:, 1 : len(sides) + 1] - back) / (self.step * (1 + centred))
        return quotients

    def _attempts(self, span: np.ndarray) -> None:
        """Separate, place and polish; ask for a few more points if the check fails."""
        units = span.shape[1]
        self.gradients = [span.T @ gradient for gradient in self.full]
        if self.single:
            self._spread(math.ceil(_SINGLE_EXTRA * (units * (self.d + 1) + self.J * (units + 1))))
        hessians = self._hessians(span) if self.J == 1 else None
        wanted = max(_FEWEST_POINTS, len(self.gradients))
        if self.J > 1:
            wanted = max(wanted, points_needed(units, self.J, _SLACK[self.single]))
        wanted = self.how.points or wanted
        for _ in range(_ATTEMPTS):
            missing = max(wanted - len(self.gradients), 0)
            if not self.oracle.covers(missing * (units + 1)):
                self.flags.append("budget short of gradient points")
                return
            if missing:
                bases = self.rng.uniform(-_MARGIN, _MARGIN, (missing, self.d))
                self.gradients.extend(self._difference(bases, span.T))
            with contextlib.suppress(InvalidInput, np.linalg.LinAlgError):
                layers, self.left = polish(self.answers, self._place(span, hessians), noise=self.noise)
                self._consider(layers)
            if self._verified:
                return
            wanted = len(self.gradients) + _MORE_POINTS

    def _spread(self, wanted: int) -> None:
        """Ask at points all over the box, as far as the budget goes."""
        remaining = self.oracle.remaining
        points = self.rng.uniform(-1, 1, (wanted if remaining is None else min(wanted, remaining), self.d))
        if len(points):
            self.answers.add_points(points, self._ask(points))

    def _place(self, span: np.ndarray, hessians: np.ndarray | None) -> Layers:
        """Return the layers that gradients and Hessians in the span's coordinates tell."""
        T = np.stack(self.gradients, axis=2)
        if hessians is not None:
            rows = separate_hessians(hessians, self.rng)
        else:
            rows = separate_gradients(T, self.rng)
        units, _, count = T.shape
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        parts = (np.linalg.pinv(rows.T) @ T.reshape(units, -1)).reshape(units, self.J, count)
        W, b = np.empty((units, self.d)), np.empty(units)
        bases = np.stack(self.bases)
        for j, part in enumerate(parts):
            direction = span @ rows[j]
            # The part is (output weights) x (slopes): its leading singular pair, sign in the output.
            slopes = np.linalg.svd(part)[2][0]
            s, b[j] = scale_and_bias(bases @ direction, slopes)
            W[j] = s * direction
        V, e = output_layer(self.answers, W, b)
        return W, b, V, e

    def _hessians(self, span: np.ndarray) -> np.ndarray:
        """Ask second differences of the one log-ratio within the span, ``[points, h, h]``."""
        units = span.shape[1]
        i, j = np.triu_indices(units)
        steps = np.vstack([np.zeros(units), np.eye(units), np.eye(units)[i] + np.eye(units)[j]])
        found = np.zeros((_CURVATURES, units, units))
        step = max(_CURVATURE_STEP, 2 * self.noise**0.25)
        bases = self.rng.uniform(-_MARGIN, _MARGIN, (_CURVATURES, self.d))
        x = bases[:, None] + step * (steps @ span.T)
        y = self._ask(x.reshape(-1, self.d)).reshape(_CURVATURES, len(steps))
        for n in range(_CURVATURES):
            self.answers.add_curvature(x[n], y[n][:, None], step)
            first, second = y[n, 1 : units + 1], y[n, units + 1 :]
            found[n, i, j] = (second - first[i] - first[j] + y[n, 0]) / step**2
            found[n, j, i] = found[n, i, j]
        return found

    def _search(self, units: int) -> None:
        """Search from random starts, with twice as many answers as there are unknowns."""
        if not self.how.starts or not units:
            return
        self.flags.append("searched")
        self._spread(math.ceil(2 * (units * (self.d + 1) + self.J * (units + 1)) / self.J))
        found = search_network(
            self.answers.inputs,
            self.answers.ratios,
            units,
            self.rng,
            starts=self.how.starts,
            noise=10 * self.noise,
        )
        self._consider((found.W, found.b, found.V, found.e))
