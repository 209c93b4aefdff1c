"""``assay demo``."""

from __future__ import annotations

from assay.cli.options import Common


def demo(common: Common) -> None:
    """Placeholder."""
