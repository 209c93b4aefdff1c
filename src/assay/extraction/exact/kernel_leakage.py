"""Training rows leaked by kernel logistic regression: its representers, recovered exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import optimize

from assay.errors import InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.exposure import Leak
from assay.extraction.exact.kernel_net import (
    KernelNet,
    Kernels,
    matched_distances,
    representers_from_gradients,
)
from assay.extraction.exact.network_fit import Answers, log_noise, log_ratios, refine
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.precision import find_grain
from assay.extraction.exact.recovered import Recovered
from assay.extraction.exact.separation import points_needed
from assay.extraction.exact.shallow import softmax
from assay.extraction.exact.unit_box import UnitBox
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["KernelLeakage"]

_STEP = 1e-3  # of centred differences, over half the box
_CENTRAL = 0.5  # points keep to the middle of the box, where no kernel is negligible
_CHECK = 16
_TITLE = "Training rows"
_EXACT = "Representers of the kernel, which are rows of the training set, computed from answers alone."
_FITTED = (
    "Representers of the kernel, fitted to answers and not verified: they resemble averages of rows of the "
    "training set rather than rows."
)
_VERIFIED = 1e-6
_PLAUSIBLE = 0.05  # total variation beyond which Newton steps lead nowhere
_TOLERANCES = (1e-8, 1e-9, 1e-7, 1e-10, 1e-6)  # where singular values may stop to mean anything


@register("kernel-leakage", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class KernelLeakage(ExactAttack):
    """Recover a kernel logistic regression, whose representers are training rows.

    The kernel is Gaussian, ``exp(-gamma |x - x_r|^2)``. Values and gradients of the log-ratios
    at a few points are a tensor with one rank-one term a representer
    (`assay.extraction.exact.kernel_net.representers_from_gradients`): no search is needed, and
    the number of representers is found out. Where there are more of them than that can see, as
    many as assumed are fitted to uniform answers from random starts; they then resemble averages
    of training rows rather than rows.

    Parameters
    ----------
    gamma
        Width of the kernel, positive, as documented by the service.
    representers
        How many to expect. The algebra finds the true number, if not much larger; the search
        takes it as it is.
    queries
        Uniform questions of the search.
    starts, iterations
        Random starts of the search, and its iterations; no starts, no search.

    References
    ----------
    Tramèr et al., "Stealing Machine Learning Models via Prediction APIs", USENIX Security
    2016, section 4.1.3, for the leak; the algebra is ours.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> rng = np.random.default_rng(0)
    >>> secret = rng.uniform(-1, 1, (3, 8))
    >>> net = KernelNet(secret, rng.normal(size=(4, 3)), np.zeros(4), 0.1)
    >>> stolen = KernelLeakage(gamma=0.1, representers=3).run(TorchModel(net, (8,), 4), truth=secret)
    >>> stolen.worth.details["representers"], stolen.worth.parameter_error < 1e-6
    (3, True)
    """

    name: ClassVar[str] = "kernel-leakage"
    needs: ClassVar[Access] = Access.SCORES

    gamma: float = 0.01
    representers: int = 20
    queries: int = 5000
    starts: int = 4
    iterations: int = 1000

    def __post_init__(self) -> None:
        if (
            not self.gamma > 0
            or self.representers < 1
            or self.queries < 1
            or self.starts < 0
            or self.iterations < 1
        ):
            msg = "gamma must be positive, representers, queries and iterations at least 1, starts at least 0"
            raise InvalidInput(msg)

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Return the largest distance of a true representer, ``[s, d]``, to the one matched to it."""
        rows = self.true_inputs(truth)
        return (
            None if rows is None else float(matched_distances(found.parameters["representers"], rows).max())
        )

    def true_inputs(self, truth: object) -> np.ndarray | None:
        """Return the representers of a `KernelNet`, or rows that were given as they are."""
        if isinstance(truth, KernelNet):
            return truth.representers.detach().numpy()
        if isinstance(truth, np.ndarray | list | tuple):
            return np.asarray(truth, np.float64)
        return None

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the search has no batches to tell of
    ) -> Recovered:
        """Recover the regression behind ``oracle``; see `ExactAttack.recover`."""
        d, J = oracle.size, oracle.num_classes - 1
        least = _CHECK + math.ceil(self.representers * d / J)
        if not oracle.covers(least):
            msg = (
                f"{oracle.remaining} queries cannot tell {self.representers} representers of {d} features "
                f"behind {oracle.name}: at least {least} are needed"
            )
            raise InvalidInput(msg)
        box = UnitBox.of(oracle)
        flags: list[str] = []
        far = box.inputs(rng.uniform(-1, 1, (_CHECK, d)))
        seen = oracle.scores(far)
        grain = find_grain(seen)
        noise = log_noise(seen, grain)
        answers = Answers()
        found, gap = self._algebra(oracle, box, answers, (far, seen), noise, rng)
        if gap > _VERIFIED and self.starts:
            flags.append("searched")
            guess = self._search(oracle, box, answers, rng)
            reached = _gap(guess, far, seen, self.gamma)
            if reached < gap:
                found, gap = guess, reached
        if found is None:
            msg = f"{oracle.name} shows no representers at this gamma; set starts of at least 1 for a search"
            raise InvalidInput(msg)
        if gap > _VERIFIED:
            flags.append("not verified")
        weights = np.vstack([np.zeros(len(found.rows)), found.weights])
        s = len(found.rows)
        return Recovered(
            KernelNet(found.rows, weights, np.append(0.0, found.bias), self.gamma),
            family="kernel logistic regression",
            unknowns=s * d + (J + 1) * (s + 1),
            bound=math.ceil((s * d + J * (s + 1)) / J),
            parameters={"representers": found.rows, "weights": found.weights, "bias": found.bias},
            flags=tuple(flags),
            details={"representers": s, "check total variation": gap, "answers": grain.title},
            leak=Leak("representers", _TITLE, _EXACT if gap <= _VERIFIED else _FITTED),
        )

    def _algebra(
        self,
        oracle: Oracle,
        box: UnitBox,
        answers: Answers,
        check: tuple[np.ndarray, np.ndarray],
        noise: float,
        rng: np.random.Generator,
    ) -> tuple[Kernels | None, float]:
        """Ask gradients at a few points and solve for the representers."""
        d, J = oracle.size, oracle.num_classes - 1
        if J < 2:  # noqa: PLR2004 - one log-ratio makes no tensor
            return None, math.inf
        count = points_needed(self.representers, J) + 1
        if count + self.representers > d or not oracle.covers(count * (2 * d + 1)):
            return None, math.inf
        bases = rng.uniform(-_CENTRAL, _CENTRAL, (count, d))
        star = np.vstack([np.zeros(d), _STEP * np.eye(d), -_STEP * np.eye(d)])
        x = box.inputs(bases[:, None] + star)
        y = log_ratios(oracle.scores(x.reshape(-1, d))).reshape(count, 2 * d + 1, J)
        if not np.isfinite(y).all():
            return None, math.inf
        for points, ratios in zip(x, y, strict=True):
            answers.add_centred_star(points, ratios, _STEP)
        gradients = ((y[:, 1 : d + 1] - y[:, d + 1 :]) / (2 * _STEP * box.half[:, None])).transpose(0, 2, 1)
        best, gap = None, math.inf
        tried: set[int] = set()
        for tolerance in _TOLERANCES:
            try:
                found = representers_from_gradients(
                    x[:, 0], y[:, 0], gradients, self.gamma, rng, tolerance=tolerance
                )
            except (InvalidInput, np.linalg.LinAlgError):
                continue
            if found is None or len(found.rows) in tried or not np.isfinite(found.pack()).all():
                continue
            tried.add(len(found.rows))
            if _gap(found, *check, self.gamma) > _PLAUSIBLE:
                continue
            polished = self._refined(answers, found, noise)
            reached = _gap(polished, *check, self.gamma)
            if reached < gap:
                best, gap = polished, reached
            if gap <= _VERIFIED:
                break
        return best, gap

    def _refined(self, answers: Answers, start: Kernels, noise: float) -> Kernels:
        """Return the representers after Newton steps on all answers."""
        x = answers.inputs
        theta, _ = refine(
            answers,
            start.pack(),
            lambda t: start.unpack(t).log_ratios(x, self.gamma),
            lambda t: start.unpack(t).jacobian(x, self.gamma),
            noise=noise,
        )
        return start.unpack(theta)

    def _search(self, oracle: Oracle, box: UnitBox, answers: Answers, rng: np.random.Generator) -> Kernels:
        """Fit as many representers as assumed to uniform answers, from random starts."""
        d, J, s = oracle.size, oracle.num_classes - 1, self.representers
        count = self.queries if oracle.remaining is None else min(self.queries, oracle.remaining)
        x = box.inputs(rng.uniform(-1, 1, (count, d)))
        if count:
            answers.add_points(x, log_ratios(oracle.scores(x), float(np.finfo(np.float64).tiny)))
        x, y = answers.inputs, answers.ratios
        best, least = None, math.inf
        for _ in range(self.starts):
            start = Kernels(box.inputs(rng.uniform(-1, 1, (s, d))), np.zeros((J, s)), np.zeros(J))
            table = np.hstack([start.features(x, self.gamma), np.ones((len(x), 1))])
            solved = np.linalg.lstsq(table, y, rcond=None)[0]
            start = Kernels(start.rows, solved[:-1].T, solved[-1])
            fit = optimize.minimize(
                _loss,
                start.pack(),
                args=(start, x, y, self.gamma),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": self.iterations, "maxcor": 30, "ftol": 1e-14, "gtol": 0},
            )
            if fit.fun < least:
                best, least = start.unpack(fit.x), float(fit.fun)
        assert best is not None
        return best


def _loss(
    theta: np.ndarray, shape: Kernels, x: np.ndarray, y: np.ndarray, gamma: float
) -> tuple[float, np.ndarray]:
    """Return the squared error of the log-ratios and its gradient."""
    now = shape.unpack(theta)
    kernels = now.features(x, gamma)
    gap = kernels @ now.weights.T + now.bias - y
    pull = 2 * gamma * kernels * (gap @ now.weights)
    rows = pull.T @ x - pull.sum(0)[:, None] * now.rows
    slopes = np.concatenate([rows.ravel(), (gap.T @ kernels).ravel(), gap.sum(0)])
    return float((gap * gap).sum()), 2 * slopes


def _gap(found: Kernels, x: np.ndarray, seen: np.ndarray, gamma: float) -> float:
    """Return the largest total variation distance on the check points."""
    return float(0.5 * np.abs(softmax(found.log_ratios(x, gamma)) - seen).sum(1).max())
