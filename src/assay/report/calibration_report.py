"""The page of a calibration: targets, bills, attackers, and what no calibration can do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from assay.errors import InvalidInput
from assay.gateway.calibrate import CalibrationRecord
from assay.gateway.calibrate.record import PlanRow
from assay.report import words
from assay.report.calibration_plots import calibration_pictures
from assay.report.canvas import Picture
from assay.report.render import printable, render

__all__ = ["CalibrationReport", "Target", "plan_words"]

_LEAST_RATIO, _LEAST_SINGLE = 3.0, 50.0
_RATES = (("Python client", 0.38e6), ("browser (WASM)", 1e6), ("native, one core", 50e6))


@dataclass(frozen=True)
class Target:
    """One goal with what was reached.

    Parameters
    ----------
    value
        The number, as it is shown.
    text
        What it is.
    goal
        What was wanted.
    met
        Whether it was reached.
    """

    value: str
    text: str
    goal: str
    met: bool


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration as a page.

    Parameters
    ----------
    record
        What the calibration found.
    title
        Heading.

    Examples
    --------
    >>> CalibrationReport("no record")
    Traceback (most recent call last):
    assay.errors.InvalidInput: the report of a calibration is made of its CalibrationRecord, got str
    """

    record: CalibrationRecord
    title: str = "Calibration of a gateway"

    def __post_init__(self) -> None:
        if not isinstance(self.record, CalibrationRecord):
            msg = (
                "the report of a calibration is made of its CalibrationRecord, got "
                f"{type(self.record).__name__}"
            )
            raise InvalidInput(msg)

    @cached_property
    def pictures(self) -> dict[str, Picture]:
        """All pictures, by key."""
        return calibration_pictures(self.record)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The three goals."""
        record = self.record
        worst, told = record.worst_honest, record.suspects
        found = [
            Target(
                f"{worst.overhead:.2f} ×",
                f"plain inference is what the dearest of {len(record.honest)} honest profiles pays "
                f"({worst.name})",
                f"at most {record.limit:g}",
                # The unit of work was fitted to meet the limit on simulated accounts.
                worst.overhead <= 1.01 * record.limit,
            )
        ]
        if told:
            cheapest = told[0]
            dear = [row for row in told if row.after_100 >= _LEAST_SINGLE]
            others = ", ".join(
                f"{row.name} {words.number(row.after_100, 2)}" for row in told if row not in dear
            )
            found += [
                Target(
                    f"{cheapest.best.ratio:.1f} ×",
                    f"an honest query is what the cheapest plan for any suspect pool costs ({cheapest.name})",
                    f"at least {_LEAST_RATIO:g}",
                    cheapest.best.ratio >= _LEAST_RATIO,
                ),
                Target(
                    f"{len(dear)} of {len(told)}",
                    f"suspect pools pay at least {_LEAST_SINGLE:g} × an honest query on one account after "
                    f"100 queries{f' (not: {others})' if others else ''}",
                    "all",
                    len(dear) == len(told),
                ),
            ]
        return tuple(found)

    @cached_property
    def rates(self) -> list[tuple[str, str, str, str]]:
        """For each kind of client: hashes a second, seconds of an honest query, of a cheapest stolen one."""
        record = self.record
        dearest = record.worst_honest.units * record.hashes_per_unit
        stolen = min((row.best.ratio for row in record.suspects), default=math.nan) * record.hashes_per_unit
        return [
            (
                name,
                words.number(rate),
                f"{words.number(dearest / rate)} s",
                f"{words.number(stolen / rate)} s",
            )
            for name, rate in _RATES
        ]

    def html(self) -> str:
        """Return one HTML page that loads nothing from anywhere."""
        return render(
            "calibration.html.j2",
            printable,
            title=self.title,
            record=self.record,
            targets=self.targets,
            pictures=self.pictures,
            rates=self.rates,
            plan=plan_words,
            infinity=math.inf,
        )

    def save(self, path: str | Path) -> Path:
        """Write the page."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.html(), encoding="utf-8")
        return target


def plan_words(plan: PlanRow) -> str:
    """Say how a plan goes.

    Examples
    --------
    >>> plan_words(PlanRow(3.2, 120, 0.0)), plan_words(PlanRow(2.5, 4000, float("nan")))
    ('120 queries an account', '4,000 useful queries an account, padded knowing every score')
    """
    if math.isnan(plan.padding):
        return f"{words.count(plan.useful)} useful queries an account, padded knowing every score"
    if plan.padding == 0:
        return f"{words.count(plan.useful)} queries an account"
    return f"{words.count(plan.useful)} useful queries an account, {plan.padding:g} harmless ones to each"
