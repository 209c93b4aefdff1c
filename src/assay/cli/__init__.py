"""The command line: one thin file per verb."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run ``assay`` with the arguments of this process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Unicode must not end a run
    from assay.cli.app import app

    app()
