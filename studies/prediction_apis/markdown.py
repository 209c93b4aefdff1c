"""Tables as they stand in the documentation."""

from __future__ import annotations


def table(head: list[str], rows: list[list[object]]) -> None:
    """Print a Markdown table and an empty line."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(_shown(cell) for cell in row) + " |")
    print(flush=True)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "0" if value == 0 else f"{value:.1e}" if value < 0.01 else f"{value:.2g}"
    return str(value)
