"""Why a token or a proof is refused, in one word that a server can count and map to a status."""

from __future__ import annotations

from typing import Literal

from assay.errors import ProofRejected

__all__ = ["Reason", "Rejection"]

Reason = Literal[
    "malformed",  # not the form of a token or a proof
    "signature",  # not signed with a live key
    "algorithm",  # a puzzle that this gateway does not give
    "expired",
    "future",  # issued later than now
    "policy",  # issued under a policy that is no longer honoured
    "purpose",
    "account",
    "client",
    "model",
    "query",  # solved for other inputs
    "difficulty",  # easier than today's floor
    "solution",  # the work is missing or wrong
]


class Rejection(ProofRejected):
    """A token or a proof that is not what this gateway issued and asked for.

    Parameters
    ----------
    message
        One sentence that is safe to show to whoever sent the proof.
    reason
        One word, see `Reason`.

    Examples
    --------
    >>> Rejection("the challenge has expired", "expired").reason
    'expired'
    """

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason: Reason = reason
