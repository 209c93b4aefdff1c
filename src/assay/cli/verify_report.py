"""``assay verify-report``: recompute a verdict from its evidence and answers."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.console import grid, print_error, print_json, print_tables
from assay.cli.options import Common, ModelOptions, open_models
from assay.errors import EvidenceTampered, InvalidInput

if TYPE_CHECKING:
    from assay.evidence import Evidence
    from assay.model import Model
    from assay.result import Verdict

__all__ = ["verify_report"]

_MISMATCH = 2
# Other processors sum in another order; a forger has to change more than the seventh digit.
_TOLERANCE = 1e-6
_WIDE = 32
_FIELDS = (
    "decision",
    "p_value",
    "alpha",
    "test",
    "null",
    "n",
    "effect",
    "queries",
    "scheme",
    "commitment",
    "suspect",
    "reason",
    "companions",
    "assumptions",
    "samples",
    "details",
)


def verify_report(
    *,
    verdict: Annotated[Path, typer.Argument(metavar="VERDICT.json", help="Written by `assay verify --out`.")],
    evidence: Annotated[Path, typer.Option(metavar="FOLDER", help="The evidence that was used.")],
    model: ModelOptions,
    common: Common,
    journal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The suspect's answers; nobody is asked again.")
    ] = None,
    suspect: Annotated[str | None, typer.Option(help="The suspect itself, to be asked again.")] = None,
) -> None:
    """Recompute a verdict and compare.

    Uses the verdict's own options and names every field that differs. The exit code is
    0 if all fields agree, whatever the decision, and 2 if one does not.
    """
    from assay.evidence import load_evidence
    from assay.result import Verdict

    if (journal is None) == (suspect is None):
        msg = "give either --journal FILE or --suspect MODEL, to recompute the verdict from"
        raise InvalidInput(msg)
    claimed = Verdict.load(verdict)
    bundle = load_evidence(evidence)
    if journal is not None:
        found = _replay(bundle, claimed, journal)
    else:
        with open_models([str(suspect)], model, common) as [opened]:
            found = _again(bundle, claimed, opened)
    ours, theirs = _fields(found), _fields(claimed)
    same = {name: _agree(theirs[name], ours[name]) for name in _FIELDS}
    differing = [name for name, agree in same.items() if not agree]
    if common.json:
        shown = [
            {"field": n, "claimed": theirs[n], "recomputed": ours[n], "agree": same[n]}
            for n in _FIELDS
            if n not in ("samples", "companions", "assumptions") or not same[n]
        ]
        print_json({"verdict": str(verdict), "agrees": not differing, "fields": shown})
    elif not common.quiet:
        rows = [(n, _brief(theirs[n]), _brief(ours[n]), "yes" if same[n] else "NO") for n in _FIELDS]
        print_tables(grid("Verdict recomputed", ("field", "claimed", "recomputed", "agree"), rows))
    if differing:
        print_error(f"{verdict} does not follow from this evidence: {', '.join(differing)} differ")
        raise typer.Exit(_MISMATCH)


def _again(bundle: Evidence, claimed: Verdict, suspect: Model, journal: Path | None = None) -> Verdict:
    options = claimed.options
    budget, rng = options.get("budget"), options.get("rng")
    if type(rng) is not int or not (budget is None or type(budget) is int):
        msg = "the verdict does not record the seed and the budget of its run; it cannot be recomputed"
        raise InvalidInput(msg)
    return bundle.verify(suspect, alpha=claimed.alpha, budget=budget, rng=rng, journal=journal)


def _replay(bundle: Evidence, claimed: Verdict, journal: Path) -> Verdict:
    from assay.adapters import restrict
    from assay.ledger import Recorded

    recorded = Recorded(journal)
    # A journal does not say what the suspect offered: a test that found labels alone asks for labels.
    views: list[Model] = [recorded, restrict(recorded, "labels")]
    with tempfile.TemporaryDirectory() as scratch:
        for number, view in enumerate(views):
            copy = Path(scratch) / f"{number}.jsonl"  # a journal opened for writing is locked and changed
            shutil.copyfile(journal, copy)
            try:
                return _again(bundle, claimed, view, copy)
            except EvidenceTampered:
                if view is views[-1]:
                    raise
    raise AssertionError


def _fields(verdict: Verdict) -> dict[str, Any]:
    return verdict.to_dict() | {"queries": verdict.queries}


def _agree(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=1e-12)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_agree, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_agree(a[key], b[key]) for key in a)
    return bool(a == b)


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) or (isinstance(value, dict) and len(value) > 2):  # noqa: PLR2004 - columns
        return f"{len(value)} entries"
    if isinstance(value, dict):
        return ", ".join(f"{name} {value[name]}" for name in sorted(value))
    text = str(value)
    return text if len(text) <= _WIDE else text[: _WIDE - 3] + "..."
