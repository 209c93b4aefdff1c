"""Claims under a MAC: challenges that a gateway can hand out without remembering them."""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping

from assay.errors import InvalidInput
from assay.puzzles.claims import Claims, parse_claims
from assay.puzzles.rejection import Rejection

__all__ = ["MAX_TOKEN", "mac", "mint", "open_token", "read_claims"]

MAX_TOKEN = 4096
_DOMAIN = b"calpow/1\0"
_FORM = re.compile(r"[A-Za-z0-9_-]{1,4000}\.[A-Za-z0-9_-]{43}")
_SHORTEST_KEY = 16


def mac(payload: bytes, key: bytes) -> bytes:
    """Return HMAC-SHA-256 of the payload with the domain of this protocol before it.

    Examples
    --------
    >>> mac(b'{"v":1}', bytes(range(32))).hex()[:16]
    'ee7878dfe3a67388'
    """
    return hmac.digest(key, _DOMAIN + payload, "sha256")


def mint(claims: Claims, key: bytes) -> str:
    """Sign claims.

    Parameters
    ----------
    claims
        What the challenge says.
    key
        Secret of the gateway that ``claims.kid`` names, at least 16 bytes.

    Returns
    -------
    str
        ``base64url(claims) "." base64url(MAC)``, without padding.

    Raises
    ------
    InvalidInput
        If the key is too short to be a secret, or the claims too long to be sent.

    Examples
    --------
    >>> claims = Claims(kid="a", target64=1 << 50, k=4, purpose="credit", sub="account-1",
    ...                 price_units=2.0, iat=1000, exp=1060, jti="00" * 16)
    >>> key = bytes(range(32))
    >>> open_token(mint(claims, key), {"a": key}) == claims
    True
    """
    if len(key) < _SHORTEST_KEY:
        msg = f"a signing key needs at least {_SHORTEST_KEY} bytes, this one has {len(key)}"
        raise InvalidInput(msg)
    payload = claims.canonical()
    token = f"{_encode(payload)}.{_encode(mac(payload, key))}"
    if len(token) > MAX_TOKEN or not _FORM.fullmatch(token):
        msg = "the challenge is too long; use shorter names of model and account"
        raise InvalidInput(msg)
    return token


def open_token(token: str, keys: Mapping[str, bytes]) -> Claims:
    """Return the claims of a token that one of the keys has signed.

    Nothing of the token is parsed before its MAC has been found right.

    Parameters
    ----------
    token
        What `mint` returned.
    keys
        The live keys by name: the present one, and the one before it during a rotation.

    Raises
    ------
    Rejection
        With reason ``"malformed"`` or ``"signature"``.
    """
    payload, given = _parts(token)
    for kid, key in keys.items():
        if hmac.compare_digest(mac(payload, key), given):
            claims = parse_claims(payload)
            if claims.kid == kid:
                return claims
    msg = "the challenge was not signed by this gateway, or its key has been retired; ask for a new one"
    raise Rejection(msg, "signature")


def read_claims(token: str) -> Claims:
    """Return the claims of a token *without* checking who signed it.

    For clients, who have no key and only need to know what is asked of them.

    Raises
    ------
    Rejection
        With reason ``"malformed"``.
    """
    return parse_claims(_parts(token)[0])


def _parts(token: str) -> tuple[bytes, bytes]:
    if len(token) > MAX_TOKEN or not _FORM.fullmatch(token):
        msg = "this is not a challenge token"
        raise Rejection(msg, "malformed")
    claims, _, signature = token.partition(".")
    return _decode(claims), _decode(signature)


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        data = b""
    # Unused bits in the last letter would give one token several spellings.
    if not data or _encode(data) != text:
        msg = "this is not a challenge token"
        raise Rejection(msg, "malformed")
    return data
