"""The tables of a study's report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from assay.report import words
from assay.report.sheets import Cell, Column, Sheet, label, make_sheet, percent, ratio, whole
from assay.report.study_cells import (
    by_secret_cell,
    decision_cell,
    effect_cell,
    front_cell,
    left_cell,
    lost_column,
    memory_cell,
    ours_cell,
    outcome_cell,
    p_column,
    points_cell,
    published_cell,
    seconds_column,
    share_column,
    where_cell,
)
from assay.report.study_findings import Findings

__all__ = ["study_sheets"]

_MOST_ROWS = 200
_SUSPECT = (label("Victim", "victim"), label("Evidence", "evidence"), label("Extraction", "extraction"))
_REMOVAL = label("Removal", "removal")
_TEST = (label("Verification", "verification", "access"), label("α", "alpha"))
_GROUPS = ("victim", "evidence", "verification", "access", "alpha")
_COPIES = Column("Copies", whole("copies"), number=True)


def study_sheets(findings: Findings, longest: int = _MOST_ROWS) -> dict[str, Sheet]:
    """Return the tables that have rows, by their key.

    Parameters
    ----------
    findings
        What to show.
    longest
        Most rows of any table.

    Examples
    --------
    >>> from assay.report.study_findings import study_findings
    >>> from assay.study.tables import StudyTables
    >>> rows = [{"role": "victim", "accuracy": 0.9}]
    >>> list(study_sheets(study_findings(StudyTables("A study", tables={"models": rows}))))
    ['summary-models']
    """
    made = [
        make_sheet(
            key,
            title,
            caption,
            findings.summaries[key],
            columns,
            longest,
            () if key == "summary-verdicts" else _GROUPS,
        )
        for key, title, caption, columns in _PLAN
    ]
    made.append(_failed("failed", "Failed steps", findings.failed, longest))
    made.append(_failed("skipped", "Skipped steps", findings.skipped, longest))
    return {sheet.key: sheet for sheet in made if sheet.total}


def _failed(key: str, title: str, rows: list[dict[str, Any]], longest: int) -> Sheet:
    def error(row: Mapping[str, Any]) -> Cell:
        log = str(row.get("log") or "")
        place = f"log: {words.name(log, 300)}" if log and "\n" not in log else ""
        return Cell(words.name(str(row.get("error") or "-"), 600), place)

    def step(row: Mapping[str, Any]) -> Cell:
        return Cell(str(row.get("label") or row.get("kind") or "-"), str(row.get("key") or "")[:12])

    columns = [Column("Step", step), label("Kind", "kind"), Column("Error", error)]
    return make_sheet(key, title, "", rows, columns, longest)


def finished(row: Mapping[str, Any]) -> str:
    """Return when a step was finished, in universal time.

    Examples
    --------
    >>> finished({"finished": 0.5}), finished({})
    ('1970-01-01 00:00:00', '-')
    """
    try:
        when = dt.datetime.fromtimestamp(row["finished"], dt.UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return "-"
    return when.strftime("%Y-%m-%d %H:%M:%S")


_PLAN: tuple[tuple[str, str, str, tuple[Column, ...]], ...] = (
    (
        "summary-power",
        "Thefts found out",
        (
            "Copies found to be stolen, with Clopper-Pearson 95 % intervals; the queries within which half, "
            "90 % and 95 % of the repetitions were found out. 'Not reached' is a share that the verdicts "
            "never came to."
        ),
        (
            *_SUSPECT,
            _REMOVAL,
            *_TEST,
            Column("Found stolen", ratio("stolen", "verdicts", "share_low", "share_high"), number=True),
            Column("Queries, half", whole("queries_median", "not reached"), number=True),
            Column("90 %", whole("queries_90", "not reached"), number=True),
            Column("95 %", whole("queries_95", "not reached"), number=True),
            Column("Most spent", whole("queries_most"), number=True),
            Column("Match rate", percent("match", spread=False), number=True, name="match"),
            p_column("p_median"),
        ),
    ),
    (
        "summary-errors",
        "False accusations",
        (
            "Models that are independent of the secret. Verdicts that share a secret are no independent "
            "trials: the interval by secrets takes each secret as one trial (Hoeffding 1963) and holds "
            "whatever the models have in common; that over verdicts (Clopper-Pearson) takes all as "
            "independent. The last columns test whether p-values are too small (one-sided Kolmogorov-"
            "Smirnov)."
        ),
        (
            label("Victim", "victim"),
            label("Evidence", "evidence"),
            label("Panel", "panel"),
            label("Kind", "kind"),
            *_TEST,
            Column("Accused", ratio("false_positives", "verdicts", "rate_low", "rate_high"), number=True),
            Column("Rate by secrets", by_secret_cell, number=True),
            Column("Models", whole("models"), number=True),
            share_column("share_5"),
            Column("KS p, all", lambda row: Cell(words.p_value(row["ks_p"])), number=True),
            Column("One a secret", lambda row: Cell(words.p_value(row["ks_p_secrets"])), number=True),
        ),
    ),
    (
        "summary-verdicts",
        "All verdicts",
        (
            "p-values adjusted for the suspects of one victim that are tested with the same evidence, "
            "verification and seed: Holm's for the chance of any false accusation, Benjamini and Hochberg's "
            "for their share."
        ),
        (
            *_SUSPECT,
            _REMOVAL,
            *_TEST,
            label("Seed", "seed"),
            Column("Decision", decision_cell),
            p_column("p_value"),
            p_column("p_holm"),
            p_column("p_bh"),
            Column("Effect", effect_cell),
            Column("Queries", whole("queries"), number=True),
        ),
    ),
    (
        "summary-extractions",
        "Copies",
        (
            "Means over the repetitions, with the least and the largest. On the front: no other extraction "
            "of the same victim and evidence that asks the victim gives more fidelity for as few queries."
        ),
        (
            *_SUSPECT,
            label("Attack", "attack"),
            _COPIES,
            Column("Queries", whole("queries"), number=True),
            Column("Round trips", whole("round_trips"), number=True),
            Column("Fidelity", percent("fidelity"), number=True),
            Column("Accuracy", percent("accuracy"), number=True),
            Column("Of the victim", percent("victim_accuracy"), number=True),
            Column("On the front", front_cell),
        ),
    ),
    (
        "summary-removals",
        "Washed copies",
        "Means over the repetitions, with the least and the largest; fidelity to the copy before.",
        (
            *_SUSPECT,
            _REMOVAL,
            _COPIES,
            Column("Accuracy before", percent("accuracy_before"), number=True),
            Column("After", percent("accuracy"), number=True),
            lost_column("lost", "Lost"),
            Column("Fidelity", percent("fidelity"), number=True),
        ),
    ),
    (
        "summary-trade-offs",
        "Accuracy lost against evidence left",
        (
            "Medians over the repetitions. On the front: no other removal of the same copy costs as little "
            "accuracy and leaves as little evidence."
        ),
        (
            *_SUSPECT,
            _REMOVAL,
            *_TEST,
            Column("Accuracy lost", percent("lost", spread=False), number=True),
            Column("−log₁₀ p", left_cell, number=True),
            share_column("share"),
            Column("On the front", front_cell),
        ),
    ),
    (
        "summary-marks",
        "What the marks cost, and who carries them",
        (
            "Means over the repetitions, with the least and the largest. The unmarked model was trained on "
            "the same rows for as many steps; the cost is the difference in points of accuracy, repetition "
            "by repetition. Match rates are shares of all secret questions answered with the secret answer. "
            "Of the unmarked models' p-values the smallest is shown: one of several."
        ),
        (
            label("Victim", "victim"),
            label("Evidence", "evidence"),
            Column("Repetitions", whole("seeds"), number=True),
            Column("Accuracy, marked", percent("accuracy"), number=True),
            Column("Unmarked", percent("unmarked_accuracy"), number=True),
            Column("Cost, points", points_cell("cost"), number=True),
            Column("Match, marked", percent("match_rate"), number=True),
            Column("Unmarked", percent("unmarked_match_rate"), number=True),
            Column(
                "Least p, unmarked",
                lambda row: Cell(
                    "-" if row["unmarked_p_least"] is None else words.p_value(row["unmarked_p_least"])
                ),
                number=True,
            ),
        ),
    ),
    (
        "summary-outcomes",
        "After each removal",
        (
            "Repetitions by what became of them: the copy is still found to be stolen; it is not, but the "
            "removal cost more than 5 points of accuracy; it is not, and the thief keeps a good copy; or the "
            "evidence was not found before the removal either. The last columns are medians, p over all "
            "that can be asked."
        ),
        (
            *_SUSPECT,
            _REMOVAL,
            *_TEST,
            Column("Mostly", outcome_cell),
            Column("Verified", whole("verified"), number=True),
            Column("Spoilt", whole("spoilt"), number=True),
            Column("Won", whole("won"), number=True),
            Column("Not in the copy", whole("absent"), number=True),
            Column("Lost, points", points_cell("lost"), number=True),
            Column("Match", percent("match", spread=False), number=True),
            p_column("p_median"),
        ),
    ),
    (
        "summary-models",
        "Models",
        "Mean accuracy, with the least and the largest.",
        (
            label("Role", "role"),
            label("Victim", "victim"),
            label("Panel", "panel"),
            label("Data", "data"),
            label("Architecture", "architecture"),
            Column("Models", whole("models"), number=True),
            Column("Accuracy", percent("accuracy"), number=True),
            Column("On training rows", percent("train_accuracy"), number=True),
        ),
    ),
    (
        "summary-published",
        "Published numbers beside ours",
        "Each published number beside the rows of this study that it was declared to belong to.",
        (
            Column("Number", where_cell),
            Column("Published", published_cell),
            Column("Ours", ours_cell),
            Column("Note", lambda row: Cell(row.get("note") or "")),
        ),
    ),
    (
        "summary-costs",
        "What it cost",
        (
            "Finished steps by kind, with the time of all and of the longest, and the largest memory of a "
            "process."
        ),
        (
            label("Step", "kind"),
            Column("Steps", whole("steps"), number=True),
            seconds_column("seconds", "Seconds"),
            seconds_column("seconds_most", "Longest"),
            Column("Memory", memory_cell, number=True),
        ),
    ),
)
