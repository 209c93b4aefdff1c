"""Everything that a study's report shows, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.study.columns import Row, grouped
from assay.study.error_summary import error_table
from assay.study.mark_summary import mark_table, outcome_table
from assay.study.power_summary import adjusted_verdicts, power_table
from assay.study.published import beside_published
from assay.study.tables import StudyTables
from assay.study.trade_offs import extraction_table, model_table, removal_table, trade_off_table

__all__ = ["Findings", "study_findings"]


@dataclass(frozen=True)
class Findings:
    """A study's rows and what follows from them.

    Parameters
    ----------
    tables
        The rows.
    verdicts
        Verdicts with adjusted p-values.
    power, errors, extractions, removals, trade_offs, marks, outcomes, models, published
        Summaries, one row a setting.
    costs
        Steps, seconds and memory by kind of step.
    failed, skipped
        Steps that brought no result.
    """

    tables: StudyTables
    verdicts: list[Row]
    power: list[Row]
    errors: list[Row]
    extractions: list[Row]
    removals: list[Row]
    trade_offs: list[Row]
    marks: list[Row]
    outcomes: list[Row]
    models: list[Row]
    published: list[Row]
    costs: list[Row]
    failed: list[Row]
    skipped: list[Row]

    @property
    def summaries(self) -> dict[str, list[Row]]:
        """Summaries by the name under which they are saved."""
        return {
            "summary-power": self.power,
            "summary-errors": self.errors,
            "summary-extractions": self.extractions,
            "summary-removals": self.removals,
            "summary-trade-offs": self.trade_offs,
            "summary-marks": self.marks,
            "summary-outcomes": self.outcomes,
            "summary-models": self.models,
            "summary-published": self.published,
            "summary-verdicts": self.verdicts,
            "summary-costs": self.costs,
        }


def study_findings(tables: StudyTables) -> Findings:
    """Summarise a study.

    Examples
    --------
    >>> row = {"evidence": "e", "verification": "v", "alpha": 0.01, "stolen": True, "p_value": 0.001}
    >>> found = study_findings(StudyTables("A study", tables={"verdicts": [row]}))
    >>> found.power[0]["stolen"], found.verdicts[0]["p_holm"]
    (1, 0.001)
    """
    verdicts, removals = tables.rows("verdicts"), tables.rows("removals")
    adjusted = adjusted_verdicts(verdicts)
    return Findings(
        tables=tables,
        verdicts=adjusted,
        power=power_table(verdicts),
        errors=error_table(tables.rows("panel")),
        extractions=extraction_table(tables.rows("extractions")),
        removals=removal_table(removals),
        trade_offs=trade_off_table(verdicts, removals) if removals else [],
        marks=mark_table(tables.rows("models"), verdicts),
        outcomes=outcome_table(verdicts, removals) if removals else [],
        models=model_table(tables.rows("models")),
        published=beside_published(tables.published, {**tables.tables, "verdicts": adjusted}),
        costs=_costs(tables.provenance),
        failed=tables.about.get("failed", []),
        skipped=tables.about.get("skipped", []),
    )


def _costs(provenance: list[Row]) -> list[Row]:
    found = []
    for (kind,), rows in grouped(provenance, ["kind"]).items():
        seconds = [_number(row, "seconds") for row in rows]
        found.append(
            {
                "kind": kind,
                "steps": len(rows),
                "seconds": sum(seconds),
                "seconds_most": max(seconds),
                "memory_most": max(_number(row, "memory") for row in rows),
            }
        )
    return found


def _number(row: Mapping[str, Any], name: str) -> float:
    value: float = row.get(name) or 0
    return value
