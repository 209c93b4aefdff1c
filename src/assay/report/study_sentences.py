"""What a study found, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assay.report import words
from assay.report.study_findings import Findings
from assay.result import Interval
from assay.statistics import holm
from assay.study.columns import Rows, distinct, grouped
from assay.study.power_summary import queries_within

__all__ = ["accuses_too_often", "sentences"]

_MOST = 24
_FEW = 5
_SUSPICIOUS = 0.01
_HOUR, _MINUTE = 3600, 60
_ROLES = {"victim": "victim", "reference": "reference model", "independent": "independent model"}
_TESTED = ("victim", "evidence", "verification", "access", "alpha")


def sentences(findings: Findings) -> dict[str, list[str]]:
    """Return what was done, what was found and what went wrong.

    Examples
    --------
    >>> from assay.report.study_findings import study_findings
    >>> from assay.study.tables import StudyTables
    >>> sentences(study_findings(StudyTables("A study")))
    {'done': ['The study has no results yet.'], 'found': [], 'wrong': []}
    """
    found = [*_power(findings), *_marks(findings), *_washed(findings), *_errors(findings)]
    found += [*_adjusted(findings), *_published(findings)]
    return {"done": _done(findings), "found": found, "wrong": _wrong(findings)}


def accuses_too_often(row: Mapping[str, Any]) -> bool:
    """Whether even the lower limit of an error rate, counted by secrets, lies above its level."""
    return bool(row["secret_low"] > row["alpha"])


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> duration(40), duration(600), duration(9000)
    ('40 seconds', '10.0 minutes', '2.5 hours')
    """
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} seconds"
    return f"{seconds / _MINUTE:.1f} minutes" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} hours"


def tested(row: Mapping[str, Any], findings: Findings) -> str:
    """Return the name of an evidence and its verification, with the victim where there are several."""
    victims = {r.get("victim") for r in [*findings.power, *findings.errors]}
    text = f"{row.get('evidence')} by {row.get('verification')}"
    return f"{text} on {row.get('victim')}" if len(victims) > 1 else text


def _done(findings: Findings) -> list[str]:
    tables = findings.tables
    parts = []
    roles = {role: len(distinct(rows)) for (role,), rows in grouped(tables.rows("models"), ["role"]).items()}
    parts += [_many(roles[role], name) for role, name in _ROLES.items() if role in roles]
    copies, washed = distinct(tables.rows("extractions")), distinct(tables.rows("removals"))
    if copies:
        kinds = len({row["extraction"] for row in copies})
        parts.append(f"{_many(len(copies), 'theft')} by {_many(kinds, 'extraction')}")
    if washed:
        kinds = len({row["removal"] for row in washed})
        parts.append(f"{_many(len(washed), 'attempt')} to wash evidence out by {_many(kinds, 'removal')}")
    verdicts, panel = tables.rows("verdicts"), tables.rows("panel")
    if verdicts:
        kinds = len({row["evidence"] for row in verdicts})
        seeds = len({row.get("seed") for row in verdicts})
        text = f"{_many(len(verdicts), 'verdict')} about them with {_many(kinds, 'kind')} of evidence"
        parts.append(f"{text} over {_many(seeds, 'repetition')}")
    if panel:
        parts.append(f"{_many(len(panel), 'verdict')} about models that are independent of the secret")
    if not parts:
        return ["The study has no results yet."]
    done = [f"The study comprises {_list(parts)}."]
    seconds = sum(row["seconds"] for row in findings.costs)
    if findings.costs:
        steps = sum(row["steps"] for row in findings.costs)
        done.append(f"Its {words.count(steps)} finished steps took {duration(seconds)} of computing in all.")
    return done


def _power(findings: Findings) -> list[str]:
    found = []
    groups = grouped(findings.tables.rows("verdicts"), _TESTED)
    for key, rows in list(groups.items())[:_MOST]:
        settings = [r for r in findings.power if tuple(r[name] for name in _TESTED) == key]
        plain = [row for row in rows if row.get("removal") in (None, "none")]
        washed = [row for row in rows if row.get("removal") not in (None, "none")]
        parts = []
        if plain:
            middle = queries_within(plain, 0.5)
            price = f", half of all within {words.count(middle)} queries" if middle is not None else ""
            parts.append(f"{_of(plain, 'stolen')} copies{price}")
        if washed:
            parts.append(f"{_of(washed, 'stolen')} that were washed")
        worst = min(settings, key=lambda row: (row["share"], -row["verdicts"]))
        test = f"{_capital(tested(rows[0], findings))} (α = {words.number(rows[0]['alpha'])})"
        text = f"{test} found {_list(parts)}"
        if len(settings) > 1 and worst["stolen"] < worst["verdicts"]:
            wash = "" if worst["removal"] in (None, "none") else f" after {worst['removal']}"
            text += f"; fewest of {worst['extraction']}{wash}, {worst['stolen']} of {worst['verdicts']}"
        found.append(f"{text}.")
    if len(groups) > _MOST:
        found.append(f"{len(groups) - _MOST} further combinations are in the table of power.")
    few = sum(row["verdicts"] < _FEW for row in findings.power)
    if few:
        found.append(
            f"{words.count(few)} of {words.count(len(findings.power))} settings rest on fewer than {_FEW} "
            "verdicts; their intervals say how little that is."
        )
    return found


def _marks(findings: Findings) -> list[str]:
    rows = [row for row in findings.marks if row["cost"] is not None]
    if not rows:
        return []
    worst = max(rows, key=lambda row: float(row["cost"]))
    costs = sorted(100 * row["cost"] for row in rows)
    least, most = (words.number(x, 2) for x in (costs[0], costs[-1]))
    text = (
        f"Marks cost {least} to {most} points of accuracy on average against unmarked models of as many steps"
    )
    return [f"{text}, {worst['evidence']} the most." if len(rows) > 1 else f"{text}."]


def _washed(findings: Findings) -> list[str]:
    """Say who won after removals, for copies that carried evidence before."""
    found = []
    rows = [row for row in findings.outcomes if row["removal"] not in (None, "none")]
    for (extraction,), same in grouped(rows, ["extraction"]).items():
        total = {name: sum(row[name] for row in same) for name in ("verified", "spoilt", "won")}
        count = sum(total.values())
        if not count:
            continue
        text = (
            f"Of {_many(count, 'attempt')} to wash copies of {extraction} that carried evidence, "
            f"{words.count(total['verified'])} left it verified, {words.count(total['spoilt'])} cost more "
            f"than 5 points and {words.count(total['won'])} were won by the thief"
        )
        won = [
            (
                sum(row["won"] for row in of),
                name,
                sum(row["verified"] + row["spoilt"] + row["won"] for row in of),
            )
            for (name,), of in grouped(same, ["removal"]).items()
        ]
        best = [
            f"{name} ({wins} of {tries})"
            for wins, name, tries in sorted(won, key=lambda w: -w[0])[:3]
            if wins
        ]
        found.append(f"{text}, mostly by {_list(best)}." if best else f"{text}.")
    return found


def _errors(findings: Findings) -> list[str]:
    rows = findings.errors
    if not rows:
        if findings.power:
            return [
                "No panel of independent models was run, so that nothing is said about false accusations."
            ]
        return []
    accused, verdicts = sum(r["false_positives"] for r in rows), sum(r["verdicts"] for r in rows)
    share = words.number(100 * accused / verdicts, 2)
    counts = f"{words.count(accused)} of {words.count(verdicts)} verdicts ({share} %)"
    found = [f"Independent models were accused in {counts}."]
    bad = [row for row in rows if accuses_too_often(row)]
    for row in bad[:_MOST]:
        rate = Interval(row["secret_rate"], row["secret_low"], row["secret_high"])
        found.append(
            f"{_capital(tested(row, findings))} accuses too often on {row['panel']} ({row['kind']}): "
            f"{words.interval(rate, percent=True)} at α = {words.number(row['alpha'])}."
        )
    adjusted = holm([row["ks_p_secrets"] for row in rows])
    for row, p in list(zip(rows, adjusted, strict=True))[:_MOST]:
        if p <= _SUSPICIOUS:
            where = f"{tested(row, findings)} on {row['panel']} ({row['kind']})"
            test = f"Kolmogorov-Smirnov, one verdict a secret, Holm: p = {words.p_value(p)}"
            found.append(f"p-values of {where} are smaller than an innocent model's should be ({test}).")
    if not bad:
        found.append(
            f"In none of the {len(rows)} groups does the 95 % interval, counted by secrets, lie above α."
            if len(rows) > 1
            else "The 95 % interval of that rate, counted by secrets, does not lie above α."
        )
    return found


def _adjusted(findings: Findings) -> list[str]:
    rows = findings.verdicts
    if not rows or max(row["family"] for row in rows) == 1:
        return []
    own, holm, bh = (sum(bool(row[name]) for row in rows) for name in ("stolen", "stolen_holm", "stolen_bh"))
    text = (
        f"Of {words.count(len(rows))} verdicts {words.count(own)} are 'stolen' at their own level, "
        f"{words.count(holm)} after Holm's and {words.count(bh)} after Benjamini and Hochberg's adjustment "
        "for the suspects that were tested together."
    )
    return [text]


def _published(findings: Findings) -> list[str]:
    known = [row for row in findings.published if row["ours"] is not None]
    if not findings.published:
        return []
    inside = sum(
        isinstance(row["value"], int | float) and row["low"] <= row["value"] <= row["high"] for row in known
    )
    text = f"{len(known)} of {len(findings.published)} published numbers have one of ours beside them"
    return [f"{text}; {inside} lie within our limits." if known else f"{text}."]


def _wrong(findings: Findings) -> list[str]:
    found = []
    if findings.failed:
        count = len(findings.failed)
        found.append(f"{_many(count, 'step')} failed; the errors stand at the end.")
    if findings.skipped:
        count = len(findings.skipped)
        found.append(f"{_many(count, 'step')} {'was' if count == 1 else 'were'} skipped because of that.")
    return found


def _of(rows: Rows, column: str) -> str:
    return f"{words.count(sum(bool(row[column]) for row in rows))} of {words.count(len(rows))}"


def _many(count: int, name: str) -> str:
    return f"{words.count(count)} {name if count == 1 else name + 's'}"


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
