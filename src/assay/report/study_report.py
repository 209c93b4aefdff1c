"""From a study's rows to a report: HTML in one file, Markdown, tables for further tools."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from assay.errors import InvalidInput
from assay.report.canvas import Picture
from assay.report.gallery import Gallery
from assay.report.render import escape_markdown, printable, render
from assay.report.sheets import Sheet
from assay.report.study_error_plots import error_pictures
from assay.report.study_findings import Findings, study_findings
from assay.report.study_front_plots import copy_pictures
from assay.report.study_mark_plots import mark_pictures, outcome_pictures
from assay.report.study_plots import power_pictures, reach_pictures
from assay.report.study_provenance import Appendix, appendix
from assay.report.study_sentences import sentences
from assay.report.study_sheets import study_sheets
from assay.report.study_wash_plots import wash_pictures
from assay.study.tables import StudyTables, plain_json

__all__ = ["StudyReport", "build_study_report"]

_MOST_PICTURES, _MOST_FRONTS = 8, 16
_MOST_GALLERIES = 24
_DRAWERS: dict[str, Callable[[Findings], list[Picture]]] = {
    "marks": mark_pictures,
    "reach": reach_pictures,
    "power": power_pictures,
    "errors": error_pictures,
    "copies": copy_pictures,
    "outcomes": outcome_pictures,
    "washed": wash_pictures,
}


@dataclass(frozen=True, eq=False)
class StudyReport:
    """A report of a study that can be written in several forms.

    Parameters
    ----------
    tables
        What the study found.
    galleries
        Images to show.
    title
        Heading; the study's title if empty.
    longest
        Most rows of a table on the page; files have all.
    """

    tables: StudyTables
    galleries: tuple[Gallery, ...] = ()
    title: str = ""
    longest: int = 200

    @cached_property
    def findings(self) -> Findings:
        """The summaries."""
        return study_findings(self.tables)

    @property
    def heading(self) -> str:
        """The title of the page."""
        return self.title or self.tables.title

    @cached_property
    def said(self) -> dict[str, list[str]]:
        """What was ``done``, what was ``found`` and what went ``wrong``, in sentences."""
        return sentences(self.findings)

    @cached_property
    def sheets(self) -> dict[str, Sheet]:
        """The tables as they are shown, by key."""
        return study_sheets(self.findings, self.longest)

    @cached_property
    def drawn(self) -> dict[str, list[Picture]]:
        """All pictures that the rows allow, by what they show."""
        return {name: drawer(self.findings) for name, drawer in _DRAWERS.items()}

    @cached_property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures of the page."""
        return tuple(p for name, pictures in self.drawn.items() for p in pictures[: _most(name)])

    @cached_property
    def appendix(self) -> Appendix:
        """The steps that the page lists."""
        return appendix(self.tables.provenance, self.sheets.values(), 2 * self.longest)

    def html(self) -> str:
        """Return one HTML page that loads nothing from anywhere."""
        return self._render("study.html.j2", printable, appendix=self.appendix)

    def markdown(self, pictures: str | None = None) -> str:
        """Return Markdown, without the list of steps.

        Parameters
        ----------
        pictures
            Folder of the pictures, relative to the file; None leaves them out.
        """
        return self._render("study.md.j2", escape_markdown, folder=pictures)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of all tables, one below the other; ``table`` tells them apart."""
        tables = {**self.tables.tables, "verdicts": self.findings.verdicts}
        return [{"table": name, **row} for name, rows in tables.items() for row in rows]

    def save(self, folder: str | Path) -> Path:
        """Write ``report.html``, ``report.md`` with ``pictures/``, and ``tables/``.

        The tables are ``study-tables.json``, ``summaries.json`` and one CSV file each,
        and one Parquet file each where pyarrow is installed.

        Returns
        -------
        Path
            The HTML file.
        """
        target = Path(folder)
        (target / "pictures").mkdir(parents=True, exist_ok=True)
        for picture in self.pictures:
            (target / "pictures" / f"{picture.key}.svg").write_text(picture.svg, encoding="utf-8")
        for name, content in self._tile_files().items():
            (target / "pictures" / name).write_bytes(content)
        summaries = self.findings.summaries
        self.tables.save(target / "tables")
        self.tables.save_csv(target / "tables", summaries)
        if importlib.util.find_spec("pyarrow") is not None:
            self.tables.save_parquet(target / "tables", summaries)
        texts = {
            "tables/summaries.json": json.dumps(plain_json(summaries), indent=1, allow_nan=False) + "\n",
            "report.md": self.markdown("pictures"),
            "report.html": self.html(),
        }
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8")
        return target / "report.html"

    def _tile_files(self) -> dict[str, bytes]:
        return {
            f"gallery-{i}-{j}.png": tile.png
            for i, gallery in enumerate(self.galleries[:_MOST_GALLERIES])
            for j, tile in enumerate(gallery.tiles)
        }

    def _render(self, template: str, finalize: Callable[[Any], Any], **extra: Any) -> str:
        hidden = ("failed", "skipped", "titles")
        about = {k: v for k, v in self.tables.about.items() if k not in hidden}
        return render(
            template,
            finalize,
            title=self.heading,
            tables=self.tables,
            about=about,
            names=_names(self.tables.about.get("titles")),
            said=self.said,
            findings=self.findings,
            sheets=self.sheets,
            drawn={name: pictures[: _most(name)] for name, pictures in self.drawn.items()},
            undrawn={name: max(0, len(p) - _most(name)) for name, p in self.drawn.items()},
            galleries=self.galleries[:_MOST_GALLERIES],
            hidden_galleries=max(0, len(self.galleries) - _MOST_GALLERIES),
            **extra,
        )


def _most(name: str) -> int:
    """Return how many pictures of a kind the page shows."""
    return _MOST_FRONTS if name == "washed" else _MOST_PICTURES


def _names(titles: Any) -> dict[str, str]:
    """Return what the names of a study's parts mean."""
    kinds = titles.values() if isinstance(titles, dict) else ()
    parts = [item for kind in kinds if isinstance(kind, dict) for item in kind.items()]
    return {str(name): str(title) for name, title in parts}


def build_study_report(
    tables: StudyTables, gallery: Sequence[Gallery] = (), *, title: str = "", longest: int = 200
) -> StudyReport:
    """Build the report of a study.

    Parameters
    ----------
    tables
        What the study found; may be unfinished or empty.
    gallery
        Images to show.
    title
        Heading; the study's title if empty.
    longest
        Most rows of a table on the page, and half as many as the steps that it lists;
        the files beside it have all.

    Raises
    ------
    InvalidInput
        If something is not of its type.
    MissingDependency
        When it is written, if jinja2 or matplotlib are not installed.

    Examples
    --------
    >>> row = {"evidence": "<b>", "verification": "v", "alpha": 0.01, "stolen": True, "p_value": 0.001}
    >>> report = build_study_report(StudyTables("A study", tables={"verdicts": [row]}))
    >>> "<b>" in report.html(), "&lt;b&gt;" in report.html()
    (False, True)
    """
    if not isinstance(tables, StudyTables):
        msg = f"a study's report is built from StudyTables, got {type(tables).__name__}"
        raise InvalidInput(msg)
    for one in gallery:
        if not isinstance(one, Gallery):
            msg = f"images come as Gallery objects, got {type(one).__name__}"
            raise InvalidInput(msg)
    if longest < 1:
        msg = f"longest must be at least 1, got {longest}"
        raise InvalidInput(msg)
    return StudyReport(tables, tuple(gallery), title, longest)
