"""Exact extraction of a two-layer ReLU network from its kinks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from assay.errors import InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.kinks import Kink, find_kinks
from assay.extraction.exact.network_fit import Answers, log_noise, log_ratios, polish
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.precision import find_grain
from assay.extraction.exact.recovered import Recovered
from assay.extraction.exact.shallow import ShallowNet, softmax
from assay.extraction.exact.unit_box import UnitBox
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["ReLU"]

_STEP = 2e-3  # of the difference quotients; a plane crossed in between is noticed and halves it
_HALVINGS = 14
_TOLERANCE = 1e-9  # of a value, relative to the largest log-ratio
_FLAT = 1e-6  # a linear rest below this share of the gradient is rounding
_VERIFIED = 1e-6
_QUIET = 12  # lines in a row without a kink, after which further ones are not worth it
_CONDITION = 1e3  # jumps of units that are asked together must be this independent


@register("relu", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class ReLU(ExactAttack):
    """Recover a network with one hidden ReLU layer exactly, and find its width.

    The log-ratios are linear between the planes on which units switch.

    1. *Kinks.* Along a random line, two linear pieces that meet predict a kink. Units already
       known are subtracted, so that every kink belongs to a new one.
    2. *Rows.* The gradient's change between two places on the line is the sum of (jump of the
       slope) x (row of the unit) over the kinks between them. Jumps are vectors of
       ``num_classes - 1`` numbers, so that one gradient serves as many units at once.
    3. *Signs.* ``relu(s a) = (|a| + s a) / 2``: once all ``|a|`` are subtracted, the rest is
       linear and tells every sign by one linear system.
    4. *Polish.* Newton steps on all answers.

    Answers must be unrounded float64. A unit that does not switch inside the domain is part of
    a linear rest there, and is copied as such.

    Parameters
    ----------
    lines
        Lines at most.
    check
        Answers kept for verification, at least 1.

    References
    ----------
    Jagielski et al., "High Accuracy and High Fidelity Extraction of Neural Networks", USENIX
    Security 2020, section 6; Carlini, Jagielski and Mironov, "Cryptanalytic Extraction of
    Neural Network Models", CRYPTO 2020, section 4, for kinks and rows.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> rng = np.random.default_rng(0)
    >>> W, b, V, e = (rng.normal(size=s) for s in ((3, 4), 3, (2, 3), 2))
    >>> net = ShallowNet(W, b / 4, V, e, "relu").module()
    >>> stolen = ReLU().run(TorchModel(net, (4,), 3), truth=net)
    >>> stolen.worth.details["hidden"], stolen.worth.parameter_error < 1e-9
    (3, True)
    """

    name: ClassVar[str] = "relu"
    needs: ClassVar[Access] = Access.SCORES

    lines: int = 64
    check: int = 64

    def __post_init__(self) -> None:
        if self.lines < 1 or self.check < 1:
            msg = f"lines and check must be at least 1, got {self.lines} and {self.check}"
            raise InvalidInput(msg)

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Compare with a fitted ``MLPClassifier`` or torch layers: units matched, rows of norm 1."""
        return ShallowNet.of(found.model).distance(ShallowNet.of(truth))

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - it takes seconds
    ) -> Recovered:
        """Recover the network behind ``oracle``; see `ExactAttack.recover`."""
        least = self.check + 2 * (oracle.size + 2) + 4
        if not oracle.covers(least):
            msg = (
                f"{oracle.remaining} queries cannot recover a ReLU network behind {oracle.name}: one of a "
                f"single unit takes {least}"
            )
            raise InvalidInput(msg)
        return _Search(self, oracle, rng).recover()


class _Search:
    """One recovery over the unit cube: planes ``rho x + beta = 0`` with their jumps, and what is left."""

    def __init__(self, how: ReLU, oracle: Oracle, rng: np.random.Generator) -> None:
        self.how, self.oracle, self.rng = how, oracle, rng
        self.box = UnitBox.of(oracle)
        self.d, self.J = oracle.size, oracle.num_classes - 1
        self.rows, self.biases, self.jumps = np.empty((0, self.d)), np.empty(0), np.empty((0, self.J))
        self.answers, self.flags = Answers(), list[str]()
        self.places: list[_Place] = []

    def recover(self) -> Recovered:
        """Search lines until the check points are met, then polish."""
        far = self.rng.uniform(-1, 1, (self.how.check, self.d))
        seen = self.oracle.scores(self.box.inputs(far))
        grain = find_grain(seen)
        if grain.step > float(np.finfo(np.float64).eps):
            msg = (
                f"{self.oracle.name} answers in {grain.title}; kinks of a ReLU network show in unrounded "
                "float64 only, use adaptive-retraining"
            )
            raise InvalidInput(msg)
        noise = log_noise(seen, grain)
        scale = max(1.0, float(np.abs(log_ratios(seen, float(np.finfo(np.float64).tiny))).max()))
        quiet, gap, net, lines = 0, math.inf, None, 0
        target: np.ndarray | None = None
        while lines < self.how.lines:
            if not self.oracle.covers(4 + 2 * (self.d + 2)):
                self.flags.append("budget short of lines")
                break
            lines += 1
            found = self._line(scale * _TOLERANCE, target)
            net = self._network()
            wrong = _distances(net, far, seen)
            gap = float(wrong.max())
            quiet = 0 if found else quiet + 1
            # A line to a point that the copy gets wrong crosses a plane that it lacks.
            target = far[np.argmax(wrong)] if not found or lines > 1 else None
            if quiet % 2:
                target = None
            if gap <= _VERIFIED or quiet >= _QUIET:
                break
        assert net is not None
        layers, left = polish(
            self.answers, (net.W, net.b, net.V, net.e), noise=noise, activation="relu", max_steps=4
        )
        polished = ShallowNet(*layers, "relu")
        improved = float(_distances(polished, far, seen).max())
        if improved <= gap:
            net, gap = polished, improved
        if gap > _VERIFIED:
            self.flags.append("not verified")
        W = net.W / self.box.half
        net = ShallowNet(W, net.b - W @ self.box.centre, net.V, net.e, "relu")
        # A positive factor for each unit is free, so that one number a unit is no unknown.
        unknowns = net.identifiable - net.hidden
        return Recovered(
            net.estimator(),
            family=f"network of {net.hidden} relu units",
            unknowns=unknowns,
            bound=math.ceil(unknowns / self.J),
            parameters={"W": net.W, "b": net.b, "V": net.V, "e": net.e},
            flags=tuple(self.flags),
            details={
                "hidden": net.hidden,
                "lines": lines,
                "check total variation": gap,
                "residual over noise": left,
            },
        )

    def _ask(self, u: np.ndarray) -> np.ndarray:
        ratios = log_ratios(self.oracle.scores(self.box.inputs(u)))
        if not np.isfinite(ratios).all():
            msg = f"{self.oracle.name} is saturated: it answers probabilities of 0; narrow the domain"
            raise InvalidInput(msg)
        return ratios

    def _known(self, u: np.ndarray) -> np.ndarray:
        """Return what the known units contribute but for a linear function, ``[n, J]``."""
        whole: np.ndarray = 0.5 * np.abs(u @ self.rows.T + self.biases) @ self.jumps
        return whole

    def _line(self, tolerance: float, target: np.ndarray | None) -> bool:
        """Search one line and add the units found on it; return whether there may be more like them."""
        start, way = self._chord(target)

        def values(t: np.ndarray) -> np.ndarray:
            u = start + t[:, None] * way
            y = self._ask(u)
            self.answers.add_points(u, y)
            rest: np.ndarray = y - self._known(u)
            return rest

        room = 2000 if self.oracle.remaining is None else self.oracle.remaining
        kinks, whole = find_kinks(values, 0.0, 1.0, self.rng, tolerance=tolerance, most=room)
        if not kinks and self.places:
            return not whole
        groups = _groups(kinks, self.J)
        ends = [-kinks[0].at, *(kink.at for kink in kinks), 2 - kinks[-1].at] if kinks else [0.0, 1.0]
        edges = np.cumsum([0, *(len(group) for group in groups)])
        middles = [0.5 * (ends[n] + ends[n + 1]) for n in edges]
        affordable = (self.oracle.remaining or 0) // (self.d + 2)
        if self.oracle.remaining is not None and affordable < len(middles):
            middles = middles[:affordable]
        places = self._slopes([start + np.clip(t, 0.0, 1.0) * way for t in middles], tolerance)
        self.places.extend(place for place in places if place is not None)
        for group, before, after in zip(groups, places, places[1:], strict=False):
            if before is None or after is None:
                continue
            change = self._rest(after) - self._rest(before)
            jumps = np.stack([kink.jump for kink in group], axis=1)
            # A kink that was overlooked would change the gradient by more than those found.
            if np.abs(change @ way - jumps.sum(1)).max() > 1e-4 * np.abs(jumps).max():
                continue
            rows = np.linalg.pinv(jumps) @ change
            at = start + np.array([kink.at for kink in group])[:, None] * way
            self.rows = np.vstack([self.rows, rows])
            self.biases = np.append(self.biases, -(rows * at).sum(1))
            self.jumps = np.vstack([self.jumps, jumps.T])
        return True

    def _rest(self, place: _Place) -> np.ndarray:
        """Return the gradient at a place, ``[J, d]``, less what the known units' ``|a| / 2`` add."""
        side = np.sign(self.rows @ place.u + self.biases)
        rest: np.ndarray = place.gradient - 0.5 * (side[:, None] * self.jumps).T @ self.rows
        return rest

    def _slopes(self, points: list[np.ndarray], tolerance: float) -> list[_Place | None]:
        """Return gradients by difference quotients, None where a plane is too close."""
        found: dict[int, _Place] = {}
        step = _STEP
        for _ in range(_HALVINGS):
            left = [n for n in range(len(points)) if n not in found]
            if not left or not self.oracle.covers(len(left) * (self.d + 2)):
                break
            corner = self.rng.choice([-1.0, 1.0], self.d)
            star = np.vstack([np.zeros(self.d), step * np.eye(self.d), step * corner])
            u = np.stack([points[n] + star for n in left])
            y = self._ask(u.reshape(-1, self.d)).reshape(len(left), -1, self.J)
            for n, x, ratios in zip(left, u, y, strict=True):
                gradient = ((ratios[1:-1] - ratios[0]) / step).T
                # Linear in all directions at once: no plane between the base and any step.
                if np.abs(ratios[-1] - ratios[0] - step * gradient @ corner).max() <= tolerance:
                    found[n] = _Place(x[0], ratios[0], gradient)
                    self.answers.add_star(x, ratios, step)
            step /= 2
        return [found.get(n) for n in range(len(points))]

    def _network(self) -> ShallowNet:
        """Return the network that the planes, the jumps and the linear rest amount to."""
        if not self.places:
            zero = np.zeros((1, self.d)), np.zeros(1), np.zeros((self.J, 1)), np.zeros(self.J)
            return ShallowNet(*zero, "relu")
        linear = np.median([self._rest(place) for place in self.places], axis=0)
        pieces = np.einsum("nk,nd->kdn", self.jumps, self.rows).reshape(self.J * self.d, len(self.rows))
        signs = np.ones(len(self.rows))
        if len(signs):
            solved = np.linalg.lstsq(0.5 * pieces, linear.ravel(), rcond=None)[0]
            signs = np.where(solved < 0, -1.0, 1.0)
        rest = linear - 0.5 * (pieces @ signs).reshape(self.J, self.d)
        place = self.places[0]
        constant = place.y - self._known(place.u[None])[0] - linear @ place.u
        W, b, V = signs[:, None] * self.rows, signs * self.biases, self.jumps.T
        e = constant - 0.5 * V @ b
        size = max(float(np.abs(pieces).max(initial=0.0)), float(np.abs(linear).max()), 1e-300)
        if np.abs(rest).max() > _FLAT * size:
            out, strength, rows = np.linalg.svd(rest, full_matrices=False)
            keep = strength > _FLAT * size
            always = 1.0 + np.abs(rows[keep]).sum(1)
            W, b = np.vstack([W, rows[keep]]), np.append(b, always)
            V = np.hstack([V, out[:, keep] * strength[keep]])
            e = e - (out[:, keep] * strength[keep]) @ always
        if not len(W):
            W, b, V = np.zeros((1, self.d)), np.zeros(1), np.zeros((self.J, 1))
        return ShallowNet(W, b, V, e, "relu")

    def _chord(self, target: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return a line from face to face of the cube: where it starts, and its whole way.

        It is random, or goes from a known place through the target.
        """
        inside, way = self.rng.uniform(-0.5, 0.5, self.d), self.rng.standard_normal(self.d)
        if target is not None and self.places:
            inside = self.places[self.rng.integers(len(self.places))].u
            way = target - inside
        reach = (np.sign(way) - inside) / way
        back = (-np.sign(way) - inside) / way
        ahead, behind = float(reach.min()) * 0.99, float(back.max()) * 0.99
        return inside + behind * way, (ahead - behind) * way


@dataclass(frozen=True, eq=False)
class _Place:
    """A point with its log-ratios and their gradient, ``[J, d]``."""

    u: np.ndarray
    y: np.ndarray
    gradient: np.ndarray


def _groups(kinks: list[Kink], most: int) -> list[list[Kink]]:
    """Split kinks, in order, into groups whose jumps are independent vectors."""
    groups: list[list[Kink]] = []
    for kink in kinks:
        if groups and len(groups[-1]) < most:
            jumps = np.stack([k.jump / np.linalg.norm(k.jump) for k in (*groups[-1], kink)])
            if np.linalg.cond(jumps) < _CONDITION:
                groups[-1].append(kink)
                continue
        groups.append([kink])
    return groups


def _distances(net: ShallowNet, u: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the total variation distance on each check point."""
    apart: np.ndarray = 0.5 * np.abs(softmax(net.log_ratios(u)) - seen).sum(1)
    return apart
