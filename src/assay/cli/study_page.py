"""The report of a study's run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.cli.console import grid, print_json, print_tables
from assay.cli.options import Common
from assay.cli.output import new_file, new_folder
from assay.errors import InvalidInput

if TYPE_CHECKING:
    from assay.report.sheets import Cell
    from assay.report.study_report import StudyReport

__all__ = ["check_page", "report_study", "tables_file"]

_PAGES = (".html", ".md", ".csv", ".json")
_MOST_ROWS = 40


def check_page(page: Path) -> None:
    """Raise `InvalidInput` unless ``page`` is a file of a kind that a report can be."""
    if page.suffix not in _PAGES:
        msg = f"{page} must end in one of {', '.join(_PAGES)}, to say what kind of report it is"
        raise InvalidInput(msg)


def tables_file(path: Path) -> Path | None:
    """Return the file with a study's tables that a path means, None if it means none."""
    from assay.study.tables import TABLES_FILE

    file = path / TABLES_FILE if path.is_dir() else path
    return file if file.name == TABLES_FILE and file.is_file() else None


def report_study(
    paths: Sequence[Path], common: Common, out: Path | None, title: str | None, *, force: bool
) -> None:
    """Write the report of one study, and print what it found."""
    from assay.report.gallery import load_galleries
    from assay.report.study_report import build_study_report
    from assay.study.tables import StudyTables, plain_json

    if len(paths) > 1:
        msg = "a report is about one study, or about verdicts and extractions; give one run's folder only"
        raise InvalidInput(msg)
    file = tables_file(paths[0])
    assert file is not None
    made = build_study_report(StudyTables.load(file), load_galleries(file.parent), title=title or "")
    if out is not None and out.suffix:
        check_page(out)
        with new_file(out, force=force) as page:
            page.write_text(_text(made, page.suffix), encoding="utf-8")
    else:
        # The report in a run's own folder follows from the run, so that a newer one may replace it.
        with new_folder(out or file.parent / "report", force=force or out is None) as folder:
            made.save(folder)
    written = str(out if out is not None and out.suffix else (out or file.parent / "report") / "report.html")
    if common.json:
        print_json(plain_json({"report": written, "summary": made.said, "tables": made.findings.summaries}))
    elif not common.quiet:
        print_tables(made.heading, *(s for part in made.said.values() for s in part), *_grids(made), written)


def _text(made: StudyReport, suffix: str) -> str:
    if suffix == ".html":
        return made.html()
    if suffix == ".md":
        return made.markdown()
    if suffix == ".json":
        return made.tables.to_json()
    from assay.study.tables import csv_text

    return csv_text(made.rows())


def _grids(made: StudyReport) -> list[Any]:
    """Return the tables of power and of error rates for the terminal."""
    found: list[Any] = []
    for key in ("summary-power", "summary-errors"):
        if key in made.sheets:
            sheet = made.sheets[key]
            lines = [[_plain(cell) for cell in line.cells] for line in sheet.lines[:_MOST_ROWS]]
            found.append(grid(sheet.title, [name for name, _ in sheet.columns], lines))
            if sheet.total > len(lines):
                found.append(f"The first {len(lines)} of {sheet.total} rows; the report has more.")
    return found


def _plain(cell: Cell) -> str:
    return f"{cell.text} ({cell.sub})" if cell.text and cell.sub else cell.text or cell.sub
