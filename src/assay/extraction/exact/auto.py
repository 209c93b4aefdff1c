"""The attack that looks first: probes what a service answers and picks another attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from assay.errors import AccessDenied, BudgetExceeded, InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.probe import Findings, probe
from assay.extraction.exact.recovered import Recovered
from assay.model import Access
from assay.observers import Observer
from assay.registry import create, register

__all__ = ["Auto", "Candidate", "candidates"]

_MANY_CLASSES, _FEW = 1000, 12
_TIGHT, _LOOSE = 1e-6, 1e-3


@register("auto", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class Auto(ExactAttack):
    """Probe what a service answers, pick the exact attack that fits, and say why.

    A few dozen random inputs show whether it gives labels, rounded, hidden or full
    scores, or the leaves of a tree, and whether their logarithms are linear, additive,
    kinked or smooth. The attacks that could explain this are run in order of their cost
    until the copy of one answers the probes as the victim did; ``details`` of the result
    has the choice, the reason, and what became of each attempt.

    Parameters
    ----------
    places
        Places at which answers are compared, at least 2; 7 queries each.
    tries
        Attacks to try at most, at least 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from assay.adapters.sklearn_model import SklearnModel
    >>> victim = SklearnModel(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)))
    >>> theft = Auto().run(victim, uniform=1000)
    >>> theft.worth.details["attack"], theft.worth.details["answers"]
    ('equation-solving', 'all scores, in float64, linear in their logarithms')
    >>> theft.worth.r_unif.value
    0.0
    """

    name: ClassVar[str] = "auto"
    needs: ClassVar[Access] = Access.NONE
    wants: ClassVar[Access] = Access.SCORES | Access.LABELS | Access.EMBEDDINGS

    places: int = 6
    tries: int = 4

    def __post_init__(self) -> None:
        if self.places < 2 or self.tries < 1:  # noqa: PLR2004 - places are compared in pairs
            msg = f"places must be at least 2 and tries at least 1, got {self.places} and {self.tries}"
            raise InvalidInput(msg)

    def recover(
        self, oracle: Oracle, *, rng: np.random.Generator, observers: Sequence[Observer] = ()
    ) -> Recovered:
        """Probe, choose, run, compare."""
        if oracle.access == Access.NONE:
            msg = f"{oracle.name} offers neither labels nor scores nor anything else to ask for"
            raise AccessDenied(msg)
        findings = probe(oracle, self.places, rng)
        asked = oracle.queries
        chosen = candidates(findings, oracle)[: self.tries]
        best: tuple[float, Recovered, Candidate] | None = None
        attempts: dict[str, str] = {}
        for candidate in chosen:
            attack, name = candidate.attack, candidate.title
            before = oracle.queries
            try:
                found = attack.recover(oracle.renewed(cache=attack.caches), rng=rng, observers=observers)
            except (InvalidInput, AccessDenied, BudgetExceeded) as error:
                attempts[name] = f"{oracle.queries - before} queries: {error}"
                continue
            gap = _gap(found, findings, oracle)
            attempts[name] = f"{oracle.queries - before} queries: off by {gap:.1e} on the probes"
            if best is None or gap < best[0]:
                best = gap, found, candidate
            if gap <= _enough(findings):
                break
        if best is None:
            ends = "; ".join(f"{name} failed after {what}" for name, what in attempts.items())
            msg = f"no attack on {oracle.name} came to an end: {ends}"
            raise InvalidInput(msg)
        gap, found, picked = best
        flags = found.flags
        if gap > _enough(findings) and "model-mismatch" not in flags:
            flags = (*flags, "model-mismatch")
        details: dict[str, Any] = {
            **found.details,
            "attack": picked.name,
            "options": picked.options,
            "why": picked.why,
            "answers": findings.words,
            "probes": asked,
            "attempts": attempts,
        }
        return replace(found, flags=flags, details=details)

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Return the error as the attack that was picked sees it."""
        attack: ExactAttack = create(found.details["attack"], "extraction", found.details["options"])
        return attack.parameter_error(found, truth)


@dataclass(frozen=True)
class Candidate:
    """An attack that could explain what was seen.

    Parameters
    ----------
    name, options
        Registered name and hyperparameters.
    why
        The reason, in words.
    """

    name: str
    why: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def attack(self) -> ExactAttack:
        """The attack itself."""
        made: ExactAttack = create(self.name, "extraction", self.options)
        return made

    @property
    def title(self) -> str:
        """Name and options, as in ``"algebraic-mlp (activation=logistic)"``."""
        settings = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name} ({settings})" if settings else self.name


_VALUES = "the service shows values without scores, as a regression tree does"
_LEAVES = "answers are constant around every place, as the leaves of a tree are"
_LABELS = "labels only: boundaries of a linear model are found by bisection"
_CURVED = "labels only: a boundary of degree 2 is linear in products of features"
_BENT = "labels only, and the boundary is not that of a linear model"
_BINS = "features act one by one and not in straight lines: hidden bins or categories"
_EQUATIONS = "logarithms of scores are equations in the weights of a linear model"
_KINKS = "log-ratios are straight in small neighbourhoods and bend between: ReLU units"
_SMOOTH = "log-ratios bend smoothly: one hidden layer of smooth units"
_WIDE = "so many classes come from a narrow last layer"
_NOTHING = "no exact attack fits what the service answers"


def candidates(findings: Findings, oracle: Oracle) -> list[Candidate]:
    """Return the attacks that could explain the findings, best first."""
    solving, tree = Candidate("equation-solving", _EQUATIONS), Candidate("path-finding", _LEAVES)
    bins = Candidate("bin-search", _BINS)
    retraining = Candidate("adaptive-retraining", _NOTHING, {"learner": "mlp"})
    if findings.labels is None:
        return [Candidate("path-finding", _VALUES)]
    if findings.scores is None or findings.grain is None:
        curved = [Candidate("boundary", _CURVED, {"degrees": (2,)})] if oracle.size <= _FEW else []
        return [Candidate("boundary", _LABELS), *curved, Candidate("adaptive-retraining", _BENT)]
    if findings.constant:
        # Nodes of one path may share an identity, which hides what lies below them from a search downwards.
        trees = [tree, Candidate("path-finding", _LEAVES, {"method": "bottom-up"})]
        if findings.grain.rounded and not findings.hidden:
            return [
                solving,
                *trees,
            ]  # rounding to few decimals looks constant as well, and is cheaper to rule out
        return [bins, *trees] if findings.additive else [*trees, retraining]
    if not oracle.domain.continuous.all() or (findings.additive and not findings.linear):
        return [bins, solving, retraining]
    if findings.linear or findings.grain.rounded or findings.hidden:
        return [solving, retraining]
    if findings.kinked:
        return [Candidate("relu", _KINKS), retraining]
    wide = [Candidate("lm-head", _WIDE)] if oracle.num_classes >= _MANY_CLASSES else []
    smooth = [Candidate("algebraic-mlp", _SMOOTH, {"activation": a}) for a in ("tanh", "logistic")]
    # One-vs-rest is as smooth as a network and much cheaper to rule out.
    return [*wide, solving, *smooth, retraining]


def _gap(found: Recovered, findings: Findings, oracle: Oracle) -> float:
    """Return the largest score, or the share of labels, that the copy gets wrong on the probes."""
    if findings.labels is None:
        return 0.0
    copy = found.opened(oracle.input_shape, oracle.num_classes)
    x = torch.from_numpy(findings.x).reshape(len(findings.x), *oracle.input_shape)
    if findings.scores is None or findings.constant or Access.SCORES not in copy.access:
        return float((copy.labels(x).numpy() != findings.labels).mean())
    gap = np.abs(copy.scores(x).double().numpy() - findings.scores)
    return float(np.where(findings.hidden & (findings.scores == 0), 0.0, gap).max())


def _enough(findings: Findings) -> float:
    if findings.scores is None or findings.grain is None or findings.constant:
        return 0.0
    if findings.grain.rounded:
        return 1.01 * findings.grain.step
    return _TIGHT if findings.grain.title == "float64" else _LOOSE
