"""A proof on the wire: the challenge and its nonces, as one header value."""

from __future__ import annotations

import re
from collections.abc import Sequence

from assay.puzzles.claims import MAX_K
from assay.puzzles.rejection import Rejection
from assay.puzzles.tokens import MAX_TOKEN

__all__ = ["MAX_PROOF", "decode_proof", "encode_proof"]

_MOST = max(MAX_K.values())
_DIGITS = 20
MAX_PROOF = MAX_TOKEN + 1 + _MOST * (_DIGITS + 1)
# One spelling for each number: no signs, no leading zeros.
_NONCES = re.compile(
    rf"(?:0|[1-9][0-9]{{0,{_DIGITS - 1}}})(?:,(?:0|[1-9][0-9]{{0,{_DIGITS - 1}}})){{0,{_MOST - 1}}}"
)
_U64 = 1 << 64


def encode_proof(token: str, nonces: Sequence[int]) -> str:
    """Return ``token;n1,n2,...``.

    Examples
    --------
    >>> encode_proof("abc.def", [1995, 1159])
    'abc.def;1995,1159'
    """
    return f"{token};{','.join(map(str, nonces))}"


def decode_proof(text: str) -> tuple[str, tuple[int, ...]]:
    """Return token and nonces of a proof.

    Parameters
    ----------
    text
        Value of a ``PoW-Proof`` header.

    Raises
    ------
    Rejection
        With reason ``"malformed"`` if it is too long or has another form.

    Examples
    --------
    >>> decode_proof("abc.def;1995,1159")
    ('abc.def', (1995, 1159))
    """
    token, semicolon, numbers = text.partition(";") if len(text) <= MAX_PROOF else ("", "", "")
    if not (
        token and semicolon and len(token) <= MAX_TOKEN and token.isascii() and _NONCES.fullmatch(numbers)
    ):
        msg = "a proof looks like TOKEN;NONCE,NONCE,..."
        raise Rejection(msg, "malformed")
    nonces = tuple(map(int, numbers.split(",")))
    if max(nonces) >= _U64:
        msg = "a nonce has at most 64 bits"
        raise Rejection(msg, "malformed")
    return token, nonces
