"""The published puzzle: Hashcash stamps over SHA-1, for comparison only.

Its challenges are bound to nobody and to no query, and can be redeemed as often as one
likes; the gateway never accepts them. They are here so that published timings and
prices can be reproduced.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from assay.errors import InvalidInput

__all__ = ["Stamp", "leading_zero_bits", "solve_stamp"]

_FIELD = re.compile(r"[A-Za-z0-9+/=._-]*")
_SHA1_BITS = 160


@dataclass(frozen=True, slots=True)
class Stamp:
    """The fixed part of a stamp, ``1:bits:date:resource:extension:salt:``.

    Attributes
    ----------
    bits
        Leading zero bits that the SHA-1 of a whole stamp must have, 0 to 160.
    date
        ``YYMMDD``, possibly with time.
    resource
        What it is spent on.
    salt
        Random text.
    extension
        Empty in the published scheme.

    Raises
    ------
    InvalidInput
        If a field holds a colon or another letter that stamps cannot have.

    References
    ----------
    A. Back, "Hashcash - a denial of service counter-measure", 2002. A. Dziedzic et al.,
    "Increasing the cost of model extraction with calibrated proof of work", ICLR 2022,
    section 3.3.

    Examples
    --------
    >>> stamp = Stamp(16, "220425", "model-extraction-warning", "AAAAAAAA")
    >>> stamp.challenge
    '1:16:220425:model-extraction-warning::AAAAAAAA:'
    >>> stamp.accepts(stamp.challenge + "1c0c")
    True
    """

    bits: int
    date: str
    resource: str
    salt: str
    extension: str = ""

    def __post_init__(self) -> None:
        texts = (self.date, self.resource, self.salt, self.extension)
        if not 0 <= self.bits <= _SHA1_BITS or not all(map(_FIELD.fullmatch, texts)):
            msg = f"a stamp has 0 to {_SHA1_BITS} bits and fields without colons or spaces"
            raise InvalidInput(msg)

    @classmethod
    def issue(cls, bits: int, resource: str, now: datetime | None = None) -> Stamp:
        """Return a stamp of today with a random salt."""
        moment = now or datetime.now(UTC)
        return cls(bits, f"{moment:%y%m%d}", resource, secrets.token_urlsafe(6))

    @property
    def challenge(self) -> str:
        """What is sent to the solver."""
        return f"1:{self.bits}:{self.date}:{self.resource}:{self.extension}:{self.salt}:"

    def accepts(self, text: str) -> bool:
        """Tell whether a text is *this* stamp with a counter that solves it."""
        counter = text.removeprefix(self.challenge)
        return (
            text.startswith(self.challenge)
            and re.fullmatch(r"0|[1-9a-f][0-9a-f]{0,31}", counter) is not None
            and leading_zero_bits(text) >= self.bits
        )


def leading_zero_bits(text: str) -> int:
    """Return the number of leading zero bits of the SHA-1 of a text.

    Examples
    --------
    >>> leading_zero_bits("foo9591")
    16
    """
    return _SHA1_BITS - int.from_bytes(_sha1(text).digest(), "big").bit_length()


def solve_stamp(stamp: Stamp, bits: int | None = None) -> tuple[str, int]:
    """Return the first whole stamp that solves, counting up from 0, and the number of trials.

    Parameters
    ----------
    stamp
        What to solve.
    bits
        Search for this many bits whatever the stamp says.

    Examples
    --------
    >>> solve_stamp(Stamp(16, "220425", "model-extraction-warning", "AAAAAAAA"), bits=12)
    ('1:16:220425:model-extraction-warning::AAAAAAAA:2a7', 680)
    """
    wanted = stamp.bits if bits is None else bits
    base, limit, counter = _sha1(stamp.challenge), 1 << (_SHA1_BITS - wanted), 0
    while True:
        tried = base.copy()
        tried.update(b"%x" % counter)
        if int.from_bytes(tried.digest(), "big") < limit:
            return f"{stamp.challenge}{counter:x}", counter + 1
        counter += 1


def _sha1(text: str) -> hashlib._Hash:
    # Not for security: the scheme is what was published.
    return hashlib.sha1(text.encode(), usedforsecurity=False)
