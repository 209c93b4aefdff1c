"""The error hierarchy: every message says what was wrong, where, and what would be right."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccessDenied",
    "AssayError",
    "BudgetExceeded",
    "EvidenceTampered",
    "InvalidInput",
    "MissingDependency",
    "PaymentRefused",
    "ProofRejected",
    "SuspectUnreachable",
    "UnknownName",
]


class AssayError(Exception):
    """Base of every error that Assay raises on purpose.

    ``exit_code`` is what the command line returns for it: 1 internal error, 2 bad
    input, 3 budget or access not enough.
    """

    exit_code: ClassVar[int] = 1


class InvalidInput(AssayError, ValueError):
    """A value, file, shape, dtype or range that cannot be used."""

    exit_code = 2


class UnknownName(InvalidInput):
    """A name that no registry knows; the message offers the nearest known one."""


class EvidenceTampered(InvalidInput):
    """A bundle, journal or report whose content no longer matches its digests."""


class MissingDependency(AssayError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    exit_code = 2


class AccessDenied(AssayError):
    """The model does not offer the access that an attack or test needs."""

    exit_code = 3


class BudgetExceeded(AssayError):
    """A call would spend more queries than the budget allows; none of it was sent."""

    exit_code = 3


class SuspectUnreachable(AssayError):
    """A remote model did not answer, or answered with something that is not an answer."""

    exit_code = 3


class PaymentRefused(SuspectUnreachable):
    """A gateway asks for more work than the caller allows, or for work that makes no sense."""


class ProofRejected(InvalidInput):
    """A challenge token or a proof of work that is not what a gateway issued and asked for."""
