"""From records to a report: HTML in one file, Markdown, rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from assay.errors import InvalidInput
from assay.report.canvas import Picture
from assay.report.effort_plots import query_picture, wealth_pictures
from assay.report.entries import Entry
from assay.report.p_value_plots import null_picture, p_value_picture
from assay.report.recovered import Recovery, show_inputs
from assay.report.render import escape_markdown, printable, render
from assay.report.rows import csv_text, json_text, table_rows
from assay.report.score_plots import score_pictures
from assay.report.summary import Summary, summarise
from assay.report.theft_plots import theft_picture

if TYPE_CHECKING:
    from assay.extraction import ExtractionRecord

__all__ = ["Report", "build_report"]


@dataclass(frozen=True)
class Report:
    """A report that can be written in several forms.

    Parameters
    ----------
    entries
        The records.
    title
        Heading.
    notes
        Sentences below the heading: what was done, on which data.
    """

    entries: tuple[Entry, ...]
    title: str = "Assay report"
    notes: tuple[str, ...] = ()

    @cached_property
    def summary(self) -> Summary:
        """The records, sorted out."""
        return summarise(self.entries)

    @cached_property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures that the records allow."""
        one = (f(self.summary) for f in (p_value_picture, null_picture, query_picture, theft_picture))
        many = (*wealth_pictures(self.summary), *score_pictures(self.summary))
        return (*(p for p in one if p is not None), *many)

    @cached_property
    def recovered(self) -> tuple[tuple[Entry, Recovery], ...]:
        """The thefts that recovered inputs, with what is shown of them."""
        found = []
        for entry in self.summary.thefts:
            exact = cast("ExtractionRecord", entry.record).exact
            if exact is not None and exact.exposure is not None:
                found.append((entry, show_inputs(exact.exposure, entry.inputs)))
        return tuple(found)

    def html(self) -> str:
        """Return one HTML page that loads nothing from anywhere."""
        return self._render("report.html.j2", printable)

    def markdown(self, pictures: str | None = None) -> str:
        """Return Markdown.

        Parameters
        ----------
        pictures
            Folder of the pictures, relative to the file; None leaves them out.
        """
        return self._render("report.md.j2", escape_markdown, folder=pictures)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row a record."""
        return table_rows(self.entries)

    def save(self, folder: str | Path) -> Path:
        """Write ``report.html``, ``report.md`` with ``pictures/``, ``rows.json`` and ``rows.csv``.

        Returns
        -------
        Path
            The HTML file.
        """
        target = Path(folder)
        (target / "pictures").mkdir(parents=True, exist_ok=True)
        for picture in self.pictures:
            (target / "pictures" / f"{picture.key}.svg").write_text(picture.svg, encoding="utf-8")
        for i, (_, shown) in enumerate(self.recovered):
            for j, tile in enumerate(shown.gallery.tiles):
                (target / "pictures" / f"recovered-{i}-{j}.png").write_bytes(tile.png)
        texts = {
            "rows.csv": csv_text(self.rows()),
            "rows.json": json_text(self.rows()),
            "report.md": self.markdown("pictures"),
            "report.html": self.html(),
        }
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8")
        return target / "report.html"

    def _render(self, template: str, finalize: Callable[[Any], Any], **extra: Any) -> str:
        return render(
            template,
            finalize,
            title=self.title,
            notes=self.notes,
            summary=self.summary,
            pictures={p.key: p for p in self.pictures},
            recovered=self.recovered,
            **extra,
        )


def build_report(
    entries: Sequence[Entry], title: str = "Assay report", *, notes: Sequence[str] = ()
) -> Report:
    """Build a report from records.

    Parameters
    ----------
    entries
        Verdicts and extraction records with their labels; may be empty.
    title
        Heading.
    notes
        Sentences below the heading.

    Raises
    ------
    InvalidInput
        If an entry is no `Entry`.
    MissingDependency
        If jinja2 or matplotlib are not installed.

    Examples
    --------
    >>> from assay.result import Cost, Verdict
    >>> verdict = Verdict("stolen", 0.01, 0.002, "t", "null", {}, None, Cost(queries=16), "s", "c", "x")
    >>> report = build_report([Entry(verdict, "a <b>copy</b>", truth="stolen")])
    >>> "<b>copy" in report.html(), "a &lt;b&gt;copy" in report.html()
    (False, True)
    """
    for entry in entries:
        if not isinstance(entry, Entry):
            msg = f"a report is built from Entry objects, got {type(entry).__name__}; wrap it in Entry(...)"
            raise InvalidInput(msg)
    return Report(tuple(entries), title, tuple(notes))
