"""CSV tables: one-hot encoding of text columns, scaling, missing cells, odd line ends."""

from __future__ import annotations

import csv
import io
import math
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from assay.data.bounded import MAX_BYTES, read_text
from assay.data.catalogue import Card, source
from assay.data.dataset import Dataset
from assay.errors import InvalidInput, UnknownName
from assay.registry import nearest

__all__ = ["Missing", "Table", "csv_table", "one_hot", "read_table", "table_dataset", "unit_range"]

Missing = Literal["refuse", "drop", "category"]
_MOST_CATEGORIES = 1000
_MISSING = ""


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Parameters
    ----------
    columns
        Names, without surrounding blanks.
    rows
        Cells without surrounding blanks, one list per row, as long as ``columns``;
        missing cells are empty.
    name
        How messages call it.

    Examples
    --------
    >>> table = Table(("size", "colour", "sort"), (("1", "red", "a"), ("3", "blue", "b")), "fruit")
    >>> data, features = table.encode("sort")
    >>> features
    ('size', 'colour=blue', 'colour=red')
    >>> data.x.tolist(), data.classes
    ([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]], ('a', 'b'))
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    name: str = "table"

    def encode(
        self,
        target: str | None = None,
        *,
        drop: tuple[str, ...] = (),
        missing: Missing = "refuse",
        scale: bool = True,
    ) -> tuple[Dataset, tuple[str, ...]]:
        """Turn text into numbers.

        A column whose every cell is a number stays one column. Any other column becomes
        one column per category, 0 or 1, categories in alphabetical order; ``?`` is a
        category like others.

        Parameters
        ----------
        target
            The column that holds the class; the last one if None.
        drop
            Columns to leave out (identifiers, dates).
        missing
            What to do with empty and NaN cells: refuse the table, drop the row, or treat
            them as a category of their own (text columns only).
        scale
            Whether columns are scaled to [0, 1] over their observed span (a constant
            column becomes 0). Otherwise values stay as they are, and the value range is
            the span of the table.

        Returns
        -------
        data : Dataset
            float32 ``[n, features]``.
        features : tuple of str
            Name of each encoded column.

        Raises
        ------
        InvalidInput
            For unknown columns, missing cells, a column with more than 1,000 categories,
            or infinite numbers.
        """
        if missing not in typing.get_args(Missing):
            raise UnknownName(nearest(missing, list(typing.get_args(Missing)), "policy for missing cells"))
        target = self.columns[-1] if target is None else target
        for column in (target, *drop):
            if column not in self.columns:
                raise UnknownName(nearest(column, list(self.columns), f"column of {self.name}"))
        if target in drop:
            msg = f"{self.name}: the target column {target!r} cannot be dropped"
            raise InvalidInput(msg)
        kept = [j for j, column in enumerate(self.columns) if column not in drop]
        rows = self._complete(kept, missing)
        blocks, names = [], []
        for j in (j for j in kept if self.columns[j] != target):
            block, suffixes = _encode_column([row[j] for row in rows], self.columns[j], self.name)
            blocks.append(block)
            names += [self.columns[j] + suffix for suffix in suffixes]
        if not blocks:
            msg = f"{self.name} has no column beside the target {target!r}"
            raise InvalidInput(msg)
        x = np.concatenate(blocks, axis=1)
        y, classes = _encode_target([row[self.columns.index(target)] for row in rows], target, self.name)
        return table_dataset(x, y, classes, scale=scale, name=self.name), tuple(names)

    def _complete(self, kept: list[int], missing: Missing) -> list[tuple[str, ...]]:
        """Apply the policy for missing cells."""
        if missing == "category":
            return list(self.rows)
        holes = [i for i, row in enumerate(self.rows) if any(row[j] == _MISSING for j in kept)]
        if holes and missing == "refuse":
            row = self.rows[holes[0]]
            column = next(self.columns[j] for j in kept if row[j] == _MISSING)
            msg = (
                f"{self.name}: {len(holes):,} rows miss values (row {holes[0]}, column {column!r}); "
                "choose missing=drop or missing=category"
            )
            raise InvalidInput(msg)
        gone = set(holes)
        rows = [row for i, row in enumerate(self.rows) if i not in gone]
        if not rows:
            msg = f"{self.name}: every row misses a value; leave out the empty columns with drop="
            raise InvalidInput(msg)
        return rows


def read_table(
    path: str | Path,
    *,
    header: int = 1,
    delimiter: str = ",",
    limit: int = MAX_BYTES,
    name: str | None = None,
) -> Table:
    """Read a CSV file, plain or ``.gz``, with any kind of line ends.

    Parameters
    ----------
    path
        The file, UTF-8.
    header
        Number of header rows: the first names the columns, further ones are skipped.
        With 0, columns are called "0", "1", ...
    delimiter
        One character between cells.
    limit
        Largest uncompressed size, in bytes.
    name
        How messages call it; the file's name if None.

    Raises
    ------
    InvalidInput
        If the file cannot be read, is empty, repeats a column name, or has rows of
        different lengths.
    """
    source_path = Path(path)
    if len(delimiter) != 1 or header < 0:
        msg = f"the delimiter must be one character and header >= 0, got {delimiter!r} and {header}"
        raise InvalidInput(msg)
    # newline="" leaves bare carriage returns to the csv module, which knows them as line ends.
    reader = csv.reader(io.StringIO(read_text(source_path, limit), newline=""), delimiter=delimiter)
    try:
        lines = [tuple(_clean(cell) for cell in row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        msg = f"cannot read {source_path} as CSV: {error}"
        raise InvalidInput(msg) from error
    if len(lines) <= header:
        msg = f"{source_path} has no rows below its header"
        raise InvalidInput(msg)
    columns = lines[0] if header else tuple(str(j) for j in range(len(lines[0])))
    if len(set(columns)) != len(columns):
        twice = next(c for c in columns if columns.count(c) > 1)
        msg = (
            f"{source_path} has two columns called {twice!r}; rename one, or use header=0 if it has no header"
        )
        raise InvalidInput(msg)
    for i, row in enumerate(lines[header:]):
        if len(row) != len(columns):
            msg = f"{source_path}: row {i} has {len(row)} cells, the first line has {len(columns)}"
            raise InvalidInput(msg)
    stem = source_path.name.removesuffix(".gz").removesuffix(".csv")
    return Table(columns, tuple(lines[header:]), name or stem)


@source(
    "csv",
    Card("file", "a table with one class column", "csv:PATH or PATH.csv[.gz], options target, drop, ..."),
)
def csv_table(
    path: str,
    target: str | None = None,
    drop: tuple[str, ...] = (),
    missing: Missing = "refuse",
    scale: bool = True,  # noqa: FBT001, FBT002 - a spec names it
    header: int = 1,
    delimiter: str = ",",
) -> Dataset:
    """CSV table, text columns one-hot (see `Table.encode` and `read_table` for the options)."""
    table = read_table(path, header=header, delimiter=delimiter)
    return table.encode(target, drop=drop, missing=missing, scale=scale)[0]


def unit_range(x: np.ndarray) -> np.ndarray:
    """Scale each column to [0, 1] over its observed span; constant columns become 0.

    Parameters
    ----------
    x
        Numbers ``[n, d]``.

    Returns
    -------
    numpy.ndarray
        float32 ``[n, d]``.

    Examples
    --------
    >>> unit_range(np.array([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]])).tolist()
    [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]
    """
    x = np.asarray(x, dtype=np.float64)
    low = x.min(axis=0)
    span = x.max(axis=0) - low
    scaled: np.ndarray = ((x - low) / np.where(span > 0, span, 1.0)).clip(0.0, 1.0).astype(np.float32)
    return scaled


def table_dataset(
    x: np.ndarray, y: np.ndarray, classes: tuple[str, ...], *, scale: bool, name: str
) -> Dataset:
    """Build a data set of table rows, scaled to [0, 1] or as they are."""
    if scale:
        return Dataset.from_arrays(unit_range(x), y, classes, name=name)
    x = x.astype(np.float32)
    low, high = float(x.min()), float(x.max())
    return Dataset.from_arrays(x, y, classes, (low, high if high > low else low + 1.0), name)


def one_hot(codes: np.ndarray, categories: int) -> np.ndarray:
    """Return float64 ``[n, categories]`` with a 1 in the column of each code."""
    indicators: np.ndarray = (codes[:, None] == np.arange(categories)).astype(np.float64)
    return indicators


def _clean(cell: str) -> str:
    cell = cell.strip()
    return _MISSING if cell.casefold() == "nan" else cell


def _numbers(cells: list[str]) -> np.ndarray | None:
    """Parse a column, or None if some cell is no number."""
    try:
        # float() would take "1_000" for a number; an identifier like that is text.
        return None if any("_" in c for c in cells) else np.array([float(c) for c in cells], np.float64)
    except ValueError:
        return None


def _encode_column(cells: list[str], column: str, name: str) -> tuple[np.ndarray, list[str]]:
    values = _numbers(cells)
    if values is not None:
        if not np.isfinite(values).all():
            msg = f"{name}: column {column!r} contains infinite numbers; remove or cap them"
            raise InvalidInput(msg)
        return values[:, None], [""]
    present = [c for c in cells if c != _MISSING]
    if len(present) < len(cells) and _numbers(present) is not None:
        msg = f"{name}: the column of numbers {column!r} misses values; choose missing=drop or drop={column}"
        raise InvalidInput(msg)
    known, codes = np.unique(np.array(cells), return_inverse=True)
    if len(known) > _MOST_CATEGORIES:
        msg = (
            f"{name}: column {column!r} has {len(known):,} different texts, more than {_MOST_CATEGORIES:,}; "
            f"leave it out with drop={column}, or remove the cells that are no numbers"
        )
        raise InvalidInput(msg)
    return one_hot(codes, len(known)), [f"={c}" for c in known]


def _encode_target(cells: list[str], target: str, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    known = sorted(set(cells), key=_class_order)
    if _MISSING in known:
        msg = f"{name}: {cells.count(_MISSING):,} rows miss the target {target!r}; choose missing=drop"
        raise InvalidInput(msg)
    if len(known) > _MOST_CATEGORIES:
        msg = f"{name}: the target {target!r} has {len(known):,} different values; it must be a class"
        raise InvalidInput(msg)
    index = {c: i for i, c in enumerate(known)}
    return np.array([index[c] for c in cells], dtype=np.int64), tuple(known)


def _class_order(cell: str) -> tuple[float, str]:
    """Sort classes that are numbers as numbers, before classes that are words."""
    try:
        return float(cell), cell
    except ValueError:
        return math.inf, cell
