"""The evidence contract: a committed secret, and one test of a suspect against it.

A scheme is a frozen dataclass of hyperparameters. It makes `Evidence` before any
dispute (``register`` for what an owner keeps back, ``embed`` for what is trained in),
and examines suspects through a metered view. Everything that all schemes share, from
counting queries to writing the verdict, is in `Evidence.verify`.
"""

from __future__ import annotations

import dataclasses
import platform
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from assay.errors import EvidenceTampered, InvalidInput
from assay.evidence.bundle import SCHEMA, commit, read_bundle, tensor_digests, write_bundle
from assay.ledger import Ledger
from assay.model import Access, Model, require
from assay.observers import Observer
from assay.registry import configure, get
from assay.result import Assumption, Calibration, TestResult, Verdict

__all__ = ["Evidence", "Finding", "Scheme", "check_alpha", "load_evidence", "provenance"]


@dataclass(frozen=True)
class Finding:
    """What a scheme found out about one suspect.

    Parameters
    ----------
    result
        The deciding test.
    companions
        Tests reported beside it; they never decide.
    assumptions
        What the p-value rests on.
    samples
        Per-row values for plots.
    details
        Scheme-specific numbers, JSON types only.
    """

    result: TestResult
    companions: tuple[TestResult, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    samples: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


class Scheme(ABC):
    """Base of every kind of evidence; subclasses are registered frozen dataclasses."""

    scheme: ClassVar[str]

    @property
    @abstractmethod
    def needs(self) -> Access:
        """Least access to a suspect that the test needs."""

    def grant(self, offered: Access) -> Access:  # noqa: ARG002 - what a subclass may look at
        """Return the access that the test takes of what a suspect offers; `needs` by default."""
        return self.needs

    @abstractmethod
    def examine(
        self,
        evidence: Evidence,
        oracle: Ledger,
        *,
        alpha: float,
        rng: int,
        observers: Sequence[Observer] = (),
    ) -> Finding:
        """Test one suspect through a metered view that grants exactly what `grant` returned."""

    def pictures(self, evidence: Evidence, most: int) -> Iterator[tuple[str, Tensor]]:  # noqa: ARG002 - same
        """Yield up to ``most`` inputs worth looking at, with a word about each; none by default."""
        return iter(())

    @abstractmethod
    def decoys(self, evidence: Evidence, count: int, rng: int) -> Iterator[Evidence]:
        """Yield evidence whose secret was drawn afresh, as it could have been drawn.

        A suspect that never saw the true secret cannot tell it from these.
        """


class Evidence:
    """A committed secret with the scheme that can test for it.

    Parameters
    ----------
    scheme
        The scheme that made it.
    tensors
        Everything large: inputs, labels, keys. Contents are committed one by one.
    facts
        Everything small, JSON types only. ``input_shape``, ``classes`` and
        ``value_range`` are required.
    nonce
        Hex digits that keep the commitment from being guessed; drawn if not given.
    """

    def __init__(
        self, scheme: Scheme, tensors: dict[str, Tensor], facts: dict[str, Any], nonce: str | None = None
    ) -> None:
        missing = {"input_shape", "classes", "value_range"} - set(facts)
        if missing:
            msg = f"evidence lacks the fact(s) {', '.join(sorted(missing))}"
            raise InvalidInput(msg)
        self.scheme, self.tensors, self.facts = scheme, tensors, facts
        self.nonce = secrets.token_hex(32) if nonce is None else nonce

    @property
    def name(self) -> str:
        """Registered name of the scheme."""
        return self.scheme.scheme

    @property
    def needs(self) -> Access:
        """Access to a suspect that `verify` needs."""
        return self.scheme.needs

    @cached_property
    def body(self) -> dict[str, Any]:
        """The committed manifest body."""
        return {
            "schema": SCHEMA,
            "scheme": self.name,
            "parameters": _plain(dataclasses.asdict(cast("Any", self.scheme))),
            "facts": self.facts,
            "needs": self.needs.title,
            "nonce": self.nonce,
            "tensors": tensor_digests(self.tensors),
        }

    @property
    def commitment(self) -> str:
        """One digest to publish or time-stamp before any dispute; it reveals nothing."""
        return commit(self.body)

    def save(self, path: str | Path) -> Path:
        """Write a bundle folder and return its path."""
        write_bundle(path, self.body, self.tensors)
        return Path(path)

    def decoys(self, count: int, rng: int = 0) -> Iterator[Evidence]:
        """Yield ``count`` pieces of evidence that could have been drawn instead."""
        return self.scheme.decoys(self, count, rng)

    def verify(
        self,
        suspect: Model,
        *,
        alpha: float = 0.01,
        budget: int | None = None,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        journal: str | Path | None = None,
        price: float = 0.0,
        calibration: Calibration | None = None,
    ) -> Verdict:
        """Test one suspect.

        Parameters
        ----------
        suspect
            The model under suspicion; it is asked through a meter that grants exactly
            what the scheme needs.
        alpha
            Largest probability of saying "stolen" about a model that is independent of
            the secret, in (0, 0.5].
        budget
            Largest number of queries.
        rng
            Seed of everything random in the test.
        observers, journal, price
            See `assay.ledger.Ledger`.
        calibration
            Error rate measured on independent models, carried into the verdict.

        Raises
        ------
        AccessDenied, BudgetExceeded, InvalidInput, SuspectUnreachable
            If the suspect offers too little, the budget is below the least useful
            number of queries, shapes or classes differ, or it does not answer.
        """
        check_alpha(alpha)
        require(suspect, self.needs, f"verifying {self.name} evidence")
        self._check_fits(suspect)
        grant = self.scheme.grant(suspect.access)
        with Ledger(
            suspect, grant, budget=budget, journal=journal, price=price, observers=observers
        ) as oracle:
            found = self.scheme.examine(self, oracle, alpha=alpha, rng=rng, observers=observers)
            cost = oracle.cost
        result = found.result
        stolen = result.p_value <= alpha
        return Verdict(
            decision="stolen" if stolen else "inconclusive",
            alpha=alpha,
            p_value=result.p_value,
            test=result.test,
            null=result.null,
            n=result.n,
            effect=result.effect,
            cost=cost,
            scheme=self.name,
            commitment=self.commitment,
            suspect=suspect.digest,
            companions=found.companions,
            assumptions=found.assumptions,
            calibration=calibration,
            reason=result.reason
            or ("" if stolen else f"p = {result.p_value:.3g} is above alpha = {alpha:g}"),
            samples=found.samples,
            details=found.details,
            options={"alpha": alpha, "budget": budget, "rng": rng, "price": price},
            seed=rng,
            versions=provenance(),
        )

    def _check_fits(self, suspect: Model) -> None:
        shape = tuple(self.facts["input_shape"])
        if tuple(suspect.input_shape) != shape:
            msg = (
                f"{suspect.name} takes inputs of shape {tuple(suspect.input_shape)}, the evidence is about "
                f"inputs of shape {shape}; wrap the suspect in a function that converts them"
            )
            raise InvalidInput(msg)
        if suspect.num_classes != len(self.facts["classes"]):
            msg = (
                f"{suspect.name} has {suspect.num_classes} classes, the evidence "
                f"{len(self.facts['classes'])}; map the suspect's classes onto the evidence's first"
            )
            raise InvalidInput(msg)


def load_evidence(path: str | Path) -> Evidence:
    """Read a bundle, check every digest, and rebuild the evidence.

    Raises
    ------
    InvalidInput, EvidenceTampered, UnknownName
        If it is no bundle, was changed, or needs a scheme that is not installed.
    """
    body, tensors = read_bundle(path)
    entry = get(body["scheme"], "evidence")
    try:
        scheme = configure(entry.target, body["parameters"])
        return Evidence(cast("Scheme", scheme), tensors, body["facts"], body["nonce"])
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"the manifest of {path} is incomplete: {error}"
        raise EvidenceTampered(msg) from error


def check_alpha(alpha: float) -> None:
    """Raise `InvalidInput` unless ``alpha`` is in (0, 0.5]."""
    if not 0 < alpha <= 0.5:  # noqa: PLR2004
        msg = f"alpha must be in (0, 0.5], got {alpha}; 0.01 is usual"
        raise InvalidInput(msg)


def provenance() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    return {
        "assay": metadata.version("assay-ml"),
        "torch": torch.__version__,
        "scipy": metadata.version("scipy"),
        "python": platform.python_version(),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
