"""What a challenge says: one flat record with a single canonical form."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from assay.puzzles.rejection import Rejection

__all__ = ["MAX_ITEMS", "MAX_K", "Algorithm", "Claims", "Purpose", "parse_claims"]

Algorithm = Literal["sha256", "scrypt"]
Purpose = Literal["query", "credit", "deposit"]

MAX_K = {"sha256": 64, "scrypt": 4}
MAX_ITEMS = 1 << 20
_MAX_UNITS = 1e15
_U64 = 1 << 64
_SCRYPT_MEMORY = range(10, 21)
_LATEST = 1 << 40
# Names are printable ASCII without spaces and without the two characters that JSON would have to escape:
# so the signed form is a regular language, and one expression reads it and refuses all other spellings.
_TEXT = r"[!#-\[\]-~]{0,128}"
_WHOLE = r"(?:0|[1-9][0-9]{0,15})"
_FORMS: dict[str, str] = {
    "alg": '"(sha256|scrypt)"',
    "client": f'"({_TEXT})"',
    "exp": f"({_WHOLE})",
    "iat": f"({_WHOLE})",
    "jti": '"([0-9a-f]{32})"',
    "k": f"({_WHOLE})",
    "kid": '"([A-Za-z0-9_.-]{1,32})"',
    "memory": f"({_WHOLE})",
    "model": f'"({_TEXT})"',
    "model_version": f'"({_TEXT})"',
    "n_items": f"({_WHOLE})",
    "policy_version": f"({_WHOLE})",
    "price_units": r"([0-9.e+-]{3,24})",
    "purpose": '"(query|credit|deposit)"',
    "query_digest": '"((?:[0-9a-f]{64})?)"',
    "sub": f'"({_TEXT})"',
    "target64": '"([0-9a-f]{16})"',
    "v": "(1)",
}
_NAMES = tuple(sorted(_FORMS))
_CANONICAL = re.compile("{" + ",".join(f'"{name}":{_FORMS[name]}' for name in _NAMES) + "}")
_NUMBERS = tuple(name for name in _NAMES if _FORMS[name] == f"({_WHOLE})")


@dataclass(frozen=True, slots=True)
class Claims:
    """Everything that is true of one challenge; all of it is signed.

    The fields of one claim never touch those of another: the signed form is JSON with
    sorted keys and no spaces, so no digit can move from one field into its neighbour.

    Attributes
    ----------
    kid
        Name of the signing key.
    target64
        A sub-puzzle is solved where the first eight bytes of its hash, as an unsigned
        number, are below this: 1 to 2**64 - 1. A string of 16 hexadecimal digits in JSON,
        because JavaScript's numbers cannot hold it.
    k
        Number of sub-puzzles: 1 to 64, at most 4 for scrypt.
    purpose
        ``"query"`` pays for one request, ``"deposit"`` opens an account (and pays for one
        request where ``query_digest`` is given), ``"credit"`` is banked.
    sub
        The account.
    price_units
        What the solution is worth, in units of the policy.
    iat, exp
        Issued and expires, in seconds since 1970.
    jti
        128 random bits, 32 hexadecimal digits; it can be redeemed once.
    alg
        ``"sha256"`` or ``"scrypt"``.
    memory
        log2 of scrypt's cost parameter N, 10 to 20; 0 for sha256.
    model, model_version
        What the request asks; empty for credit.
    query_digest
        See `assay.puzzles.query.query_digest`; empty for credit.
    n_items
        Rows of the request.
    policy_version
        Policy under which the price was made.
    client
        What else the proof is bound to, such as the thumbprint of a certificate; empty
        for nothing.
    v
        Version of this record: 1.

    Raises
    ------
    Rejection
        With reason ``"malformed"`` if a field is out of range.

    Examples
    --------
    >>> claims = Claims(kid="a", target64=1 << 50, k=4, purpose="credit", sub="account-1",
    ...                 price_units=2.0, iat=1000, exp=1060, jti="00" * 16)
    >>> parse_claims(claims.canonical()) == claims
    True
    """

    kid: str
    target64: int
    k: int
    purpose: Purpose
    sub: str
    price_units: float
    iat: int
    exp: int
    jti: str
    alg: Algorithm = "sha256"
    memory: int = 0
    model: str = ""
    model_version: str = ""
    query_digest: str = ""
    n_items: int = 0
    policy_version: int = 0
    client: str = ""
    v: int = 1

    def __post_init__(self) -> None:
        fault = _fault(self)
        if fault is not None:
            msg = f"the challenge's {fault} is out of range"
            raise Rejection(msg, "malformed")

    def canonical(self) -> bytes:
        """Return the only form in which these claims are signed: JSON, keys sorted, no spaces."""
        fields = {name: getattr(self, name) for name in _NAMES}
        fields["target64"] = f"{self.target64:016x}"
        fields["price_units"] = float(self.price_units)
        return json.dumps(fields, separators=(",", ":")).encode()


def parse_claims(raw: bytes) -> Claims:
    """Read claims from their canonical form: each field once, no other, the right types.

    Parameters
    ----------
    raw
        What `Claims.canonical` returned.

    Returns
    -------
    Claims
        The record.

    Raises
    ------
    Rejection
        With reason ``"malformed"`` if anything is missing, unknown, repeated, out of
        order, of another type, spelled otherwise, or out of range.

    Examples
    --------
    >>> parse_claims(b'{"v":1}')
    Traceback (most recent call last):
    ...
    assay.puzzles.rejection.Rejection: this is not a challenge in its canonical form
    """
    try:
        found = _CANONICAL.fullmatch(raw.decode("ascii"))
        fields: dict[str, Any] = {} if found is None else dict(zip(_NAMES, found.groups(), strict=True))
        price = float(fields["price_units"])
    except (ValueError, KeyError):
        msg = "this is not a challenge in its canonical form"
        raise Rejection(msg, "malformed") from None
    if repr(price) != fields["price_units"]:
        msg = "the challenge's price_units is not in canonical form"
        raise Rejection(msg, "malformed")
    for name in _NUMBERS:
        fields[name] = int(fields[name])
    return Claims(**fields | {"v": 1, "price_units": price, "target64": int(fields["target64"], 16)})


def _fault(c: Claims) -> str | None:
    """Return the name of the first field that is out of range."""
    bound = c.purpose == "query" or bool(c.query_digest)
    checks: tuple[tuple[str, Any], ...] = (
        ("v", c.v == 1),
        ("kid", _matches("kid", c.kid)),
        ("alg", c.alg in MAX_K),
        ("memory", c.memory == 0 if c.alg == "sha256" else c.memory in _SCRYPT_MEMORY),
        ("k", 1 <= c.k <= MAX_K.get(c.alg, 0)),
        ("target64", 1 <= c.target64 < _U64),
        ("purpose", c.purpose in _PURPOSES and not (bound and c.purpose == "credit")),
        ("sub", c.sub and _matches("sub", c.sub)),
        ("client", not c.client or _matches("client", c.client)),
        ("model", _matches("model", c.model) and (c.model or not bound)),
        ("model_version", not c.model_version or _matches("model_version", c.model_version)),
        ("query_digest", _matches("query_digest", c.query_digest) and (c.query_digest or not bound)),
        ("n_items", 0 <= c.n_items <= MAX_ITEMS),
        ("price_units", math.isfinite(c.price_units) and 0 <= c.price_units <= _MAX_UNITS),
        ("policy_version", 0 <= c.policy_version < _LATEST),
        ("iat", 0 <= c.iat < _LATEST),
        ("exp", c.iat < c.exp < _LATEST),
        ("jti", _matches("jti", c.jti)),
    )
    return next((name for name, fine in checks if not fine), None)


def _matches(name: str, text: str) -> bool:
    return _FIELDS[name].fullmatch(f'"{text}"') is not None


_FIELDS = {name: re.compile(form) for name, form in _FORMS.items()}
_PURPOSES = frozenset(("query", "credit", "deposit"))
