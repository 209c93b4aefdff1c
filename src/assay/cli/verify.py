"""``assay verify``: say whether a model was stolen."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.console import cost_rows, estimate, facts, grid, paid_line, print_json, print_tables
from assay.cli.options import Common, Force, ModelOptions, Spending, open_models
from assay.cli.output import new_file, new_folder, new_journal
from assay.cli.report import check_page, write_page

if TYPE_CHECKING:
    from assay.result import Verdict

__all__ = ["STOLEN", "verify"]

STOLEN = 10


def verify(
    *,
    evidence: Annotated[Path, typer.Option(metavar="FOLDER", help="From `assay register` or `assay embed`.")],
    suspect: Annotated[
        list[str],
        typer.Option(metavar="MODEL", help="A file, a URL or module:function; may be given several times."),
    ],
    model: ModelOptions,
    spending: Spending,
    common: Common,
    alpha: Annotated[
        float, typer.Option(envvar="ASSAY_ALPHA", help="Largest chance of accusing an independent model.")
    ] = 0.01,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where verdict.json and the journal go.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report as well: .html, .md, .csv or .json.")
    ] = None,
    force: Force = False,
) -> None:
    """Test whether suspects were stolen from you.

    The exit code is 10 for stolen and 0 for inconclusive; 2 for bad input, 3 for too
    little budget or access, 1 for an internal error, 130 if interrupted.

    Several suspects share alpha: each is tested at its share of it, and those are stolen
    whose p-value stays at or below alpha after Holm's correction.

    With --out, a run that was interrupted leaves FOLDER.partial with the answers it has
    paid for; the same command goes on from there.
    """
    from assay.errors import InvalidInput
    from assay.evidence import load_evidence
    from assay.evidence.base import check_alpha
    from assay.statistics import holm

    check_alpha(alpha)
    if spending.journal is not None and len(suspect) > 1:
        msg = "--journal is for one suspect; with several, use --out, which keeps a journal of each"
        raise InvalidInput(msg)
    if report is not None:
        check_page(report)
    bundle = load_evidence(evidence)
    names = _folder_names(suspect)
    verdicts: list[Verdict] = []
    with ExitStack() as stack:
        page = None if report is None else stack.enter_context(new_file(report, force=force))
        opened = stack.enter_context(open_models(suspect, model, common))
        pattern = "*.jsonl" if len(suspect) == 1 else "*/*.jsonl"
        folder = None if out is None else stack.enter_context(new_folder(out, force=force, keep=pattern))
        stack.enter_context(new_journal(spending.journal))
        observers = stack.enter_context(common.observers())
        for name, target in zip(names, opened, strict=True):
            place = None if folder is None else folder / name
            journal = spending.journal
            if journal is None and place is not None:
                journal = place / "journal.jsonl"
            verdicts.append(
                bundle.verify(
                    target,
                    # A sequential test stops at its level; at the whole of alpha it would stop too
                    # early to survive the correction.
                    alpha=alpha / len(suspect),
                    budget=spending.budget,
                    rng=common.seed,
                    observers=observers,
                    journal=journal,
                    price=spending.price,
                )
            )
            if place is not None:
                verdicts[-1].save(place / "verdict.json")
        paid = paid_line(opened)
        if page is not None:
            from assay.report import Entry

            write_page([Entry(v, s) for v, s in zip(verdicts, suspect, strict=True)], page)
    adjusted = [float(p) for p in holm([v.p_value for v in verdicts])]
    stolen = [p <= alpha for p in adjusted]
    if common.json:
        print_json(verdicts[0] if len(suspect) == 1 else _several(suspect, verdicts, adjusted, stolen))
    elif not common.quiet and len(suspect) == 1:
        _show(suspect[0], verdicts[0])
    elif not common.quiet:
        rows = [
            (s, _word(stolen=is_stolen), f"{v.p_value:.3g}", f"{p:.3g}", f"{v.queries:,}")
            for s, v, p, is_stolen in zip(suspect, verdicts, adjusted, stolen, strict=True)
        ]
        print_tables(grid("Verdicts", ("suspect", "decision", "p-value", "p (Holm)", "queries"), rows))
    if not common.json and not common.quiet:
        print_tables(*paid)
    if any(stolen):
        raise typer.Exit(STOLEN)


def _folder_names(suspects: list[str]) -> list[str]:
    """Name a folder for each suspect; a single one needs none."""
    if len(suspects) == 1:
        return ["."]
    tails = [re.sub(r"[^A-Za-z0-9._-]+", "-", Path(s).name).strip("-.") for s in suspects]
    return [f"{number:02d}-{tail[:40]}" for number, tail in enumerate(tails, start=1)]


def _word(*, stolen: bool) -> str:
    return "stolen" if stolen else "inconclusive"


def _several(
    suspects: list[str], verdicts: list[Verdict], adjusted: list[float], stolen: list[bool]
) -> dict[str, Any]:
    return {
        "correction": "holm",
        "suspects": [
            {"suspect": s, "decision": _word(stolen=is_stolen), "p_adjusted": p, "verdict": v.to_dict()}
            for s, v, p, is_stolen in zip(suspects, verdicts, adjusted, stolen, strict=True)
        ],
    }


def _show(suspect: str, verdict: Verdict) -> None:
    effect = estimate(verdict.effect)
    print_tables(
        facts(
            f"Verdict on {suspect}",
            {
                "decision": verdict.decision,
                "p-value": f"{verdict.p_value:.3g} (alpha {verdict.alpha:g}, {verdict.test})",
                "null hypothesis": verdict.null,
                "effect": None if verdict.effect is None else f"{verdict.effect.name} {effect}",
                "n": ", ".join(f"{count:,} {name}" for name, count in verdict.n.items()),
                **cost_rows(verdict.cost),
                "evidence": f"{verdict.scheme}, commitment {verdict.commitment}",
                "because": verdict.reason or None,
            },
        )
    )
    if verdict.companions:
        rows = [(t.test, f"{t.p_value:.3g}", "exact" if t.exact else "") for t in verdict.companions]
        print_tables(grid("Beside it (these do not decide)", ("test", "p-value", ""), rows))
    if not verdict.stolen:
        print_tables("inconclusive does not mean innocent: more queries or other evidence may tell")
