"""What a policy brings with it: made beside the gateway, put in force in one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from assay.errors import InvalidInput

if TYPE_CHECKING:
    from assay.gateway.answers import Answers
    from assay.gateway.detectors.watch import Watch
    from assay.gateway.policy import Policy
    from assay.gateway.server.settle import Watcher
    from assay.leakage.base import Estimator

__all__ = ["MakeParts", "Parts"]


@dataclass(frozen=True)
class Parts:
    """A policy and all that is opened for it.

    Attributes
    ----------
    policy
        The policy.
    estimator
        What a query leaks; without one every item costs a flat price.
    answers
        Output defences.
    watch
        Detectors, from which some defences learn how much an account has seen.
    watchers
        Look at settled queries.
    honoured
        Policy versions whose challenges are still good, besides its own.

    Raises
    ------
    InvalidInput
        If the policy asks for exact timing without an estimator.
    """

    policy: Policy
    estimator: Estimator | None = None
    answers: Answers | None = None
    watch: Watch | None = None
    watchers: tuple[Watcher, ...] = ()
    honoured: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.policy.pricing.timing == "exact" and self.estimator is None:
            msg = "exact timing needs the policy's estimator; use lagged timing without one"
            raise InvalidInput(msg)


MakeParts: TypeAlias = "Callable[[Policy], Parts]"
"""Opens what a policy names; reads files, writes nothing."""
