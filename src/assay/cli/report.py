"""``assay report``: verdicts and extractions as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.options import Common


def report(
    paths: Annotated[list[Path], typer.Argument()],
    common: Common,
) -> None:
    """Placeholder."""


def write_report(records: list[dict[str, Any]], page: Path) -> None:
    """Placeholder."""
