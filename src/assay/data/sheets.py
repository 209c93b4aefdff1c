"""Sheets of tiles: thousands of small images in a few lossless files."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from assay.data.catalogue import Card, Parts, source
from assay.data.dataset import Dataset
from assay.data.images import open_image
from assay.errors import InvalidInput

__all__ = ["is_sheets", "sheets"]

_SHEET = re.compile(r"^(?P<part>train|test)-(?P<label>\d+)-(?P<chunk>\d+)\.(webp|png)$")


def is_sheets(path: Path) -> bool:
    """Whether a folder holds sheets of tiles (``train-00-0.webp``, ...)."""
    return path.is_dir() and any(_SHEET.match(p.name) for p in path.iterdir())


@source(
    "sheets",
    Card("file", "RGB tiles", "sheets:FOLDER with {train,test}-{class}-{chunk}.webp and classes.txt"),
)
def sheets(path: str) -> Parts:
    """Sheets of square RGB tiles, one below the other, one class a file.

    Parameters
    ----------
    path
        A folder with ``{train,test}-{class:02d}-{chunk}.webp`` (lossless) or ``.png``, and
        ``classes.txt`` with one class name a line. The tile is as high as the sheet is
        wide.

    Returns
    -------
    Parts
        ``[n, 3, side, side]`` in [0, 1], sorted by class and chunk.

    Raises
    ------
    InvalidInput
        If a sheet's height is no multiple of its width, widths differ, or a class has no
        name.
    """
    root = Path(path)
    try:
        classes = (root / "classes.txt").read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{root} needs a classes.txt with one class name a line: {error}"
        raise InvalidInput(msg) from error
    classes = [c.strip() for c in classes if c.strip()]
    found: dict[str, list[tuple[int, int, Path]]] = {}
    for file in root.iterdir():
        match = _SHEET.match(file.name)
        if match:
            found.setdefault(match["part"], []).append((int(match["label"]), int(match["chunk"]), file))
    if not found:
        msg = f"{root} holds no sheets named like train-00-0.webp"
        raise InvalidInput(msg)
    return {
        part: partial(_read_sheets, sorted(found[part]), classes, f"{root.name}-{part}")
        for part in sorted(found, reverse=True)
    }


def _read_sheets(files: list[tuple[int, int, Path]], classes: list[str], name: str) -> Dataset:
    tiles: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for label, _, file in files:
        if label >= len(classes):
            msg = f"{file} is of class {label}, but classes.txt names only {len(classes)}"
            raise InvalidInput(msg)
        sheet = np.asarray(open_image(file, 3))
        height, side, _ = sheet.shape
        if height % side or (tiles and tiles[0].shape[1] != side):
            msg = f"{file} is {height} high and {side} wide; expected square tiles of one size in all sheets"
            raise InvalidInput(msg)
        tiles.append(sheet.reshape(-1, side, side, 3))
        labels.append(np.full(height // side, label))
    x = np.concatenate(tiles).transpose(0, 3, 1, 2)
    return Dataset.from_arrays(x, np.concatenate(labels), classes, name=name)
