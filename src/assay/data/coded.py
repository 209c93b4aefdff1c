"""Tables whose categories are codes, as a service takes them that encodes its inputs itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.data.table import Table
from assay.errors import InvalidInput, UnknownName
from assay.registry import nearest

__all__ = ["CodedTable", "code_table"]


@dataclass(frozen=True, eq=False)
class CodedTable:
    """Rows of numbers and category codes with their classes.

    Parameters
    ----------
    x
        Float64 ``[n, d]``; the codes of a category are 0.0 to ``k - 1``.
    y
        Classes, int64 ``[n]``.
    columns
        Names of the features.
    categories
        Texts of each feature's categories in the order of their codes; empty for numbers.
    classes
        Names of the classes.
    """

    x: np.ndarray
    y: np.ndarray
    columns: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of categories of each feature, 0 for numbers."""
        return tuple(len(texts) for texts in self.categories)


def code_table(
    table: Table,
    target: str,
    *,
    drop: tuple[str, ...] = (),
    numbers: tuple[str, ...] = (),
) -> CodedTable:
    """Turn text into codes, one column for each feature; missing cells are a category.

    Rows that miss the target are left out, and so are columns that say the same in all
    others.

    Parameters
    ----------
    table
        From `assay.data.table.read_table`.
    target
        The column that holds the class.
    drop
        Columns to leave out.
    numbers
        Columns to read as numbers although some cells are texts or missing; those become
        one more than the largest number. Columns of nothing but numbers need no mention.

    Raises
    ------
    UnknownName
        For an unknown column.
    InvalidInput
        If no row has a target.

    Examples
    --------
    >>> rows = (("3", "red", "a"), ("", "blue", "b"), ("1", "red", ""), ("2", "", "a"))
    >>> coded = code_table(Table(("size", "colour", "sort"), rows), "sort", numbers=("size",))
    >>> coded.x.tolist(), coded.y.tolist(), coded.categories
    ([[3.0, 2.0], [4.0, 1.0], [2.0, 0.0]], [0, 1, 0], ((), ('', 'blue', 'red')))
    """
    for column in (target, *drop, *numbers):
        if column not in table.columns:
            raise UnknownName(nearest(column, list(table.columns), f"column of {table.name}"))
    at = table.columns.index(target)
    rows = [row for row in table.rows if row[at]]
    if not rows:
        msg = f"{table.name}: no row has the target {target!r}"
        raise InvalidInput(msg)
    classes, y = np.unique([row[at] for row in rows], return_inverse=True)
    x: list[np.ndarray] = []
    names: list[str] = []
    categories: list[tuple[str, ...]] = []
    for j, column in enumerate(table.columns):
        cells = [row[j] for row in rows]
        if column == target or column in drop or len(set(cells)) == 1:
            continue
        values = [_number(cell) for cell in cells]
        known = [value for value in values if value is not None]
        if column in numbers or len(known) == len(cells):
            beyond = max(known, default=0.0) + 1.0
            x.append(np.array([beyond if value is None else value for value in values]))
            categories.append(())
        else:
            texts, codes = np.unique(cells, return_inverse=True)
            x.append(codes.astype(np.float64))
            categories.append(tuple(str(t) for t in texts))
        names.append(column)
    return CodedTable(
        np.stack(x, axis=1),
        y.astype(np.int64),
        tuple(names),
        tuple(categories),
        tuple(str(c) for c in classes),
    )


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
