"""What a gateway answers where work is due, as its clients read it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from assay.puzzles.claims import Claims
from assay.puzzles.difficulty import bits_of
from assay.puzzles.rejection import Rejection
from assay.puzzles.tokens import read_claims

__all__ = ["ACCOUNT_HEADER", "MAX_DOCUMENT", "PROOF_HEADER", "Challenge", "read_challenge"]

PROOF_HEADER = "PoW-Proof"
ACCOUNT_HEADER = "PoW-Account"
MAX_DOCUMENT = 16384
_KEY = re.compile(r"[\x21-\x7e]{1,1024}")


@dataclass(frozen=True)
class Challenge:
    """Work that is asked for.

    Attributes
    ----------
    token
        The signed challenge, to be solved and sent back.
    claims
        What it says.
    account
        Key of the account that the gateway opens for this work; None if it has one.
    detail
        The gateway's own sentence.

    Examples
    --------
    >>> from assay.puzzles.tokens import mint
    >>> claims = Claims(kid="a", target64=1 << 50, k=4, purpose="credit", sub="account-1",
    ...                 price_units=2.0, iat=1000, exp=1060, jti="00" * 16)
    >>> token = mint(claims, bytes(range(32)))
    >>> read_challenge(json.dumps({"challenge": token}).encode()).bits
    16.0
    """

    token: str
    claims: Claims
    account: str | None = None
    detail: str = ""

    @property
    def bits(self) -> float:
        """Total difficulty: the expected work is ``2**bits`` tries."""
        return bits_of(self.claims.target64, self.claims.k)


def read_challenge(body: bytes, headers: Mapping[str, str] | None = None) -> Challenge:
    """Read the document of a gateway that asks for work.

    Only the token decides what is asked; what the document says beside it is for people.

    Parameters
    ----------
    body
        JSON with at least ``challenge``, and ``account_key`` where an account is opened;
        `MAX_DOCUMENT` bytes at most.
    headers
        Headers of the response; ``PoW-Account`` holds the key if the document does not.

    Raises
    ------
    Rejection
        With reason ``"malformed"``.
    """
    try:
        found = json.loads(body) if len(body) <= MAX_DOCUMENT else None
    except (ValueError, RecursionError):
        found = None
    token = found.get("challenge") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(token, str):
        msg = "the server asks for payment, but its answer holds no challenge"
        raise Rejection(msg, "malformed")
    account = found.get("account_key") or (headers or {}).get(ACCOUNT_HEADER)
    if account is not None and not (isinstance(account, str) and _KEY.fullmatch(account)):
        msg = "the server hands out an account key that cannot be sent back"
        raise Rejection(msg, "malformed")
    detail = found.get("detail")
    return Challenge(token, read_claims(token), account, detail[:500] if isinstance(detail, str) else "")
