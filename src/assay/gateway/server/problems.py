"""Errors as the gateway says them: ``application/problem+json`` with one sentence and a remedy.

References
----------
Nottingham, Wilde, Dalal, "Problem Details for HTTP APIs", RFC 9457, 2023.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from assay.errors import AssayError

__all__ = [
    "MEDIA_TYPE",
    "BadQuery",
    "Forbidden",
    "Gone",
    "NotFound",
    "OverBudget",
    "PaymentRequired",
    "Problem",
    "Replayed",
    "TooLarge",
    "TooSlow",
    "Unacceptable",
    "Unauthorised",
    "Unavailable",
    "UnsupportedMedia",
    "WrongMethod",
]

MEDIA_TYPE = "application/problem+json"


class Problem(AssayError):
    """A request that gets no answer, with the status and the words for it.

    The body also carries ``error``, the member in which clients of the Open Inference
    Protocol look for the reason.

    Parameters
    ----------
    detail
        One sentence: what was wrong, and the remedy.
    reason
        A short fixed word that metrics count by; the kind of problem unless given.
    members
        Further members of the body.
    headers
        Further headers of the response.

    Examples
    --------
    >>> problem = TooLarge("the body has more than 10 bytes; send fewer items")
    >>> problem.status, problem.content()["title"]
    (413, 'Too large')
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    kind: ClassVar[str] = "internal"

    def __init__(
        self,
        detail: str,
        *,
        reason: str | None = None,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or self.kind
        self.members = dict(members or {})
        self.headers = dict(headers or {})

    def content(self) -> dict[str, Any]:
        """Return the members of the body."""
        return {
            "type": f"urn:assay:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
            **self.members,
        }

    def body(self) -> bytes:
        """Return the body as JSON."""
        return json.dumps(self.content(), allow_nan=False).encode()


class BadQuery(Problem):
    """The body is not a request of the protocol."""

    status, title, kind = 400, "Bad request", "bad-request"


class Unauthorised(Problem):
    """The account key is none of ours."""

    status, title, kind = 401, "Unknown account key", "unknown-account"

    def __init__(self, detail: str, **more: Any) -> None:
        headers = {"WWW-Authenticate": 'Bearer realm="assay"', **(more.pop("headers", None) or {})}
        super().__init__(detail, headers=headers, **more)


class Forbidden(Problem):
    """The proof is not valid for this request."""

    status, title, kind = 403, "Proof refused", "proof-invalid"


class NotFound(Problem):
    """There is no such model or page."""

    status, title, kind = 404, "Not found", "not-found"


class WrongMethod(Problem):
    """The page exists but is asked in another way."""

    status, title, kind = 405, "Method not allowed", "method-not-allowed"


class TooSlow(Problem):
    """The body did not arrive in time."""

    status, title, kind = 408, "Too slow", "too-slow"


class Replayed(Problem):
    """The proof was used before."""

    status, title, kind = 409, "Proof already used", "proof-replayed"


class Gone(Problem):
    """The challenge is over."""

    status, title, kind = 410, "Challenge expired", "challenge-expired"


class TooLarge(Problem):
    """More bytes, items or tensors than the policy allows."""

    status, title, kind = 413, "Too large", "too-large"


class UnsupportedMedia(Problem):
    """The body is of a type that the gateway does not read."""

    status, title, kind = 415, "Unsupported media type", "unsupported-media-type"


class Unacceptable(Problem):
    """A well-formed request that this model does not take."""

    status, title, kind = 422, "Does not fit the model", "does-not-fit"


class PaymentRequired(Problem):
    """Work is due before the answer; the body holds the challenge."""

    status, title, kind = 428, "Proof of work required", "payment-required"


class OverBudget(Problem):
    """The account has used up what the policy allows for now."""

    status, title, kind = 429, "Over budget", "over-budget"


class Unavailable(Problem):
    """Something behind the gateway does not answer; nothing is charged."""

    status, title, kind = 503, "Not available", "unavailable"

    def __init__(self, detail: str, *, retry_after: int = 1, **more: Any) -> None:
        headers = {"Retry-After": str(retry_after), **(more.pop("headers", None) or {})}
        super().__init__(detail, headers=headers, **more)
