"""Numbers and names as people read them."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

from assay.result import Effect, Interval

__all__ = ["count", "interval", "name", "number", "p_value", "value"]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LONGEST_NAME, _LONGEST_VALUE = 80, 160


def number(x: float | None, digits: int = 3) -> str:
    """Return ``x`` with so many significant digits, powers of ten written out.

    Examples
    --------
    >>> number(0.01234), number(1.5e-8), number(float("nan")), number(None)
    ('0.0123', '1.50 × 10⁻⁸', 'not a number', '-')
    """
    if x is None:
        return "-"
    if not math.isfinite(x):
        return "not a number" if math.isnan(x) else "∞" if x > 0 else "−∞"
    text = f"{x:.{digits}g}"
    if "e" not in text:
        return text.replace("-", "−")
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}".replace("-", "−")


def p_value(p: float) -> str:
    """Return a p-value with two significant digits.

    Examples
    --------
    >>> p_value(0.00024), p_value(0.5), p_value(3e-9)
    ('0.00024', '0.5', '3.0 × 10⁻⁹')
    """
    return number(p, 2)


def interval(x: Interval | Effect | None, *, percent: bool = False) -> str:
    """Return an estimate with its limits.

    Examples
    --------
    >>> interval(Interval(0.5, 0.25, 0.75)), interval(Interval(0.5, 0.25, 0.75), percent=True)
    ('0.5 [0.25, 0.75]', '50.0 % [25.0, 75.0]')
    """
    if x is None:
        return "-"
    if percent:
        return f"{100 * x.value:.1f} % [{100 * x.low:.1f}, {100 * x.high:.1f}]"
    return f"{number(x.value)} [{number(x.low)}, {number(x.high)}]"


def count(n: int) -> str:
    """Return a whole number with thousands set apart.

    Examples
    --------
    >>> count(17687)
    '17,687'
    """
    return f"{n:,}"


def name(text: str, longest: int = _LONGEST_NAME) -> str:
    r"""Return a name fit to print: no control or direction characters, not too long.

    Names may be chosen by whoever owns the suspect, and some characters reorder or hide
    what stands around them.

    Examples
    --------
    >>> name("a\u202eb\nc"), name("x" * 100, 5)
    ('a�b�c', 'xxxx…')
    """
    plain = "".join("�" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else c for c in text)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def value(x: Any) -> str:
    """Return any JSON value, shortened.

    Examples
    --------
    >>> value({"a": 1}), value("text"), value(0.123456)
    ('{"a": 1}', 'text', '0.123')
    """
    if isinstance(x, bool) or x is None:
        return json.dumps(x)
    if isinstance(x, float):
        return number(x)
    return name(x if isinstance(x, str) else json.dumps(x, default=str), _LONGEST_VALUE)
