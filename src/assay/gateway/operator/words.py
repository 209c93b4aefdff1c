"""Numbers and times as the operator reads them."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime

__all__ = ["ago", "clock", "compact", "count", "fact", "plain", "units"]

_LONGEST = 200
_STEPS = ((60.0, 1.0, "s"), (3600.0, 60.0, "min"), (86_400.0, 3600.0, "h"), (math.inf, 86_400.0, "d"))
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))


def count(number: float) -> str:
    """Return a whole number with separators.

    Examples
    --------
    >>> count(1234567)
    '1,234,567'
    """
    return f"{round(number):,}" if math.isfinite(number) else "n/a"


def units(number: float) -> str:
    """Return work in units: three digits that matter, more where it is large.

    Examples
    --------
    >>> units(0.1234), units(12.345), units(98765.4), units(0), units(float("nan"))
    ('0.123', '12.3', '98,765', '0', 'n/a')
    """
    if not math.isfinite(number):
        return "n/a"
    if number == 0:
        return "0"
    size = abs(number)
    if size >= 100:  # noqa: PLR2004 - three digits before the point
        return f"{number:,.0f}"
    return f"{number:.{2 - math.floor(math.log10(size))}f}" if size >= 1e-3 else f"{number:.0e}"  # noqa: PLR2004


def compact(number: float) -> str:
    """Return a number in at most five characters.

    Examples
    --------
    >>> compact(999), compact(12345), compact(3.2e6), compact(1.25)
    ('999', '12.3k', '3.2M', '1.25')
    """
    for size, letter in _SCALES:
        if abs(number) >= size:
            return f"{number / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{number:,.4g}"


def clock(seconds: float) -> str:
    """Return a time of the world clock, UTC.

    Examples
    --------
    >>> clock(0)
    '1970-01-01 00:00:00'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float, now: float) -> str:
    """Return how long ago something was.

    Examples
    --------
    >>> ago(100, 130), ago(0, 7200), ago(50, 10)
    ('30 s', '2 h', '0 s')
    """
    passed = max(0.0, now - seconds)
    for limit, size, name in _STEPS:
        if passed < limit:
            return f"{passed / size:.0f} {name}"
    raise AssertionError  # pragma: no cover - the last limit is infinite


def fact(value: object) -> object:
    """Return a number of a policy in full, and other things as they are.

    Examples
    --------
    >>> fact(1000000.0), fact(1e-05), fact(8388608), fact(0.25), fact("sha256")
    ('1,000,000', '1e-05', '8,388,608', '0.25', 'sha256')
    """
    if type(value) is int:
        return f"{value:,}"
    return f"{value:,.10g}" if isinstance(value, float) else value


def plain(value: object) -> object:
    r"""Take from text what reorders or hides other text, and cut it; leave other things alone.

    Examples
    --------
    >>> plain("a\u202eb"), plain(3)
    ('a�b', 3)
    """
    if type(value) is not str:
        return value
    cut = value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
    return "".join("�" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co"} else c for c in cut)
