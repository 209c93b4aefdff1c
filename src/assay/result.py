"""Results: frozen, versioned, and the same after a round trip through JSON.

Standard library only, so that reading a verdict needs neither torch nor scipy.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from assay.errors import InvalidInput

__all__ = [
    "Assumption",
    "Calibration",
    "Cost",
    "CurvePoint",
    "Decision",
    "Effect",
    "Interval",
    "Record",
    "TestResult",
    "Verdict",
]

Decision = Literal["stolen", "inconclusive"]


class Record:
    """JSON round trip for the frozen dataclasses of this module.

    Non-finite floats are written as the strings ``"nan"``, ``"inf"`` and ``"-inf"``,
    because JSON has no word for them.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers."""
        return {
            f.name: _encode(getattr(self, f.name))
            for f in dataclasses.fields(self)  # type: ignore[arg-type]  # subclasses are dataclasses
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a record; unknown or missing fields raise `InvalidInput`."""
        if not isinstance(data, dict):
            msg = f"a {cls.__name__} record must be a JSON object, got {type(data).__name__}"
            raise InvalidInput(msg)
        hints = typing.get_type_hints(cls)
        known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # subclasses are dataclasses
        extra = sorted(set(data) - known)
        if extra:
            msg = f"unknown field(s) in a {cls.__name__} record: {', '.join(extra)}"
            raise InvalidInput(msg)
        try:
            return cls(**{name: _decode(hints[name], value) for name, value in data.items()})
        except InvalidInput:
            raise
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            msg = f"not a {cls.__name__} record: {error}"
            raise InvalidInput(msg) from error

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return the record as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild a record from JSON text."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            msg = f"not JSON: {error}"
            raise InvalidInput(msg) from error
        return cls.from_dict(data)

    def save(self, path: str | Path) -> None:
        """Write the record as JSON, atomically."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.write_text(self.to_json() + "\n", encoding="utf-8")
        partial.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a record written by `save`."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"cannot read {path}: {error}"
            raise InvalidInput(msg) from error
        try:
            return cls.from_json(text)
        except InvalidInput as error:
            msg = f"{path}: {error}"
            raise InvalidInput(msg) from error


def _encode(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(v) for v in value]
    return value


def _decode(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _decode(next(a for a in args if a is not type(None)), value)
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_dict(value)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:  # noqa: PLR2004 - tuple[T, ...]
        return tuple(_decode(args[0], v) for v in value)
    if origin is list:
        return [_decode(args[0], v) for v in value]
    if origin is dict:
        return {k: _decode(args[1], v) for k, v in value.items()}
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            msg = f"expected a number, got {value!r}"
            raise InvalidInput(msg)
        return float(value)
    if hint in (int, str, bool) and type(value) is not hint:
        msg = f"expected {hint.__name__}, got {value!r}"
        raise InvalidInput(msg)
    if origin is Literal and value not in args:
        msg = f"expected one of {args}, got {value!r}"
        raise InvalidInput(msg)
    return value


@dataclass(frozen=True)
class Interval(Record):
    """An estimate with a confidence interval.

    Parameters
    ----------
    value, low, high
        Estimate and two-sided limits, in the unit of the quantity.
    confidence
        Coverage in (0, 1).
    method
        How the limits were found, for example ``"wilson"``.
    """

    value: float
    low: float
    high: float
    confidence: float = 0.95
    method: str = ""


@dataclass(frozen=True)
class Effect(Record):
    """An effect size with its interval and its name (``"cohen-d"``, ``"mean-difference"``)."""

    name: str
    value: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True)
class TestResult(Record):
    """What one hypothesis test found.

    Parameters
    ----------
    test
        Registered name of the test.
    null
        The null hypothesis in words.
    statistic, p_value
        The observed statistic and a p-value in (0, 1].
    n
        Independent rows that entered, for example ``{"private": 40, "control": 40}``.
    effect
        Effect size with interval, where the test has one.
    exact
        True if the level holds in finite samples without distributional assumptions.
    reason
        Why the result is degenerate, empty if it is not.
    """

    __test__ = False  # not a pytest class, whatever its name looks like

    test: str
    null: str
    statistic: float
    p_value: float
    n: dict[str, int]
    effect: Effect | None = None
    exact: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Assumption(Record):
    """Something the p-value rests on, and whether it was checked (None: cannot be checked)."""

    statement: str
    holds: bool | None
    evidence: str = ""


@dataclass(frozen=True)
class Calibration(Record):
    """How often the same test said "stolen" on models known to be independent.

    ``rate`` carries the Clopper-Pearson interval.
    """

    models: int
    false_positives: int
    alpha: float
    rate: Interval
    panel: str = ""


@dataclass(frozen=True)
class Cost(Record):
    """What a walk over a metered model spent.

    Parameters
    ----------
    queries
        Rows answered (a row counts once per answer, replayed or sent).
    calls, round_trips
        Calls of the ledger, and calls that reached the model.
    replayed
        Rows of ``queries`` that a journal answered without asking the model again.
    bytes_sent, bytes_received
        Raw tensor bytes.
    dollars
        ``queries`` x price per query.
    seconds
        Wall-clock time.
    """

    queries: int = 0
    calls: int = 0
    round_trips: int = 0
    replayed: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    dollars: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class CurvePoint(Record):
    """One point of an extraction curve: what a copy was worth after so many queries."""

    queries: int
    fidelity: float
    accuracy: float


@dataclass(frozen=True)
class Verdict(Record):
    """The answer of one verification.

    The decision is "stolen" or "inconclusive", never "not stolen": absence of evidence
    is not evidence of independence.

    Parameters
    ----------
    decision, alpha, p_value
        "stolen" iff ``p_value <= alpha``.
    test, null
        Name of the deciding test and its null hypothesis in words.
    n
        Independent rows per group.
    effect
        Effect size with interval.
    cost
        Queries and round trips spent on the suspect.
    scheme, commitment
        Kind of evidence and the digest published before the dispute.
    suspect
        Digest, address or name of the suspect.
    companions
        Weaker or cheaper tests reported beside the deciding one; they never decide.
    assumptions
        What the p-value rests on.
    calibration
        Error rate seen on independent models, if a panel was run.
    reason
        Why the verdict is inconclusive, in one sentence.
    samples
        Per-row scores for plots: name -> values.
    details
        Scheme-specific numbers.
    options
        How `verify` was called, so that a report can be recomputed.
    seed, versions, schema
        Provenance.
    """

    decision: Decision
    alpha: float
    p_value: float
    test: str
    null: str
    n: dict[str, int]
    effect: Effect | None
    cost: Cost
    scheme: str
    commitment: str
    suspect: str
    companions: tuple[TestResult, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    calibration: Calibration | None = None
    reason: str = ""
    samples: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = 1

    @property
    def stolen(self) -> bool:
        """True iff the decision is "stolen"."""
        return self.decision == "stolen"

    @property
    def queries(self) -> int:
        """Rows of the suspect's answers that were used."""
        return self.cost.queries
