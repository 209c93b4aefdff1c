"""``assay report``: verdicts and extractions, or a study's run, as a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.console import grid, print_json, print_tables
from assay.cli.options import Common, Force
from assay.cli.output import new_file, new_folder
from assay.cli.study_page import check_page, report_study, tables_file

if TYPE_CHECKING:
    from assay.report import Entry

__all__ = ["check_page", "report", "write_page"]

_TITLE = "Assay report"


def report(
    *,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Folders, or verdict.json and extraction.json files; or the folder of one study's run.",
        ),
    ],
    common: Common,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A file (.html, .md, .csv, .json), or a folder for all of them."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
    force: Force = False,
) -> None:
    """Make a report of verdicts and extractions, or of a study.

    Every verdict*.json and extraction*.json below the paths is read. Without --out they
    are listed on the terminal. The report of a study's run goes to the folder report in
    it, and replaces an older one, unless --out names another place.
    """
    if any(tables_file(path) for path in paths):
        report_study(paths, common, out, title, force=force)
        return
    from assay.report import load_entries, table_rows
    from assay.report.rows import json_text

    title = title or _TITLE
    entries = load_entries(paths)
    if out is not None and out.suffix:
        check_page(out)
        with new_file(out, force=force) as page:
            write_page(entries, page, title)
    elif out is not None:
        from assay.report import build_report

        with new_folder(out, force=force) as folder:
            build_report(entries, title).save(folder)
    rows = json.loads(json_text(table_rows(entries)))
    if common.json:
        print_json({"report": None if out is None else str(out), "records": rows})
    elif not common.quiet and out is not None:
        print_tables(f"{out}: {len(entries)} record{'s' if len(entries) > 1 else ''}")
    elif not common.quiet:
        cells = [
            (
                row["suspect"],
                row.get("evidence") or row.get("attack"),
                row.get("decision") or "-",
                f"{row['p_value']:.3g}" if "p_value" in row else "-",
                f"{row['queries']:,}",
            )
            for row in rows
        ]
        print_tables(grid(title, ("suspect", "evidence or attack", "decision", "p-value", "queries"), cells))


def write_page(entries: Sequence[Entry], page: Path, title: str = _TITLE) -> None:
    """Write a report as one file, of the kind that its name says."""
    from assay.report import build_report, table_rows
    from assay.report.rows import csv_text, json_text

    if page.suffix == ".html":
        text = build_report(entries, title).html()
    elif page.suffix == ".md":
        text = build_report(entries, title).markdown()
    else:
        rows = table_rows(entries)
        text = csv_text(rows) if page.suffix == ".csv" else json_text(rows)
    page.write_text(text, encoding="utf-8")
