"""What a theft brought to light: recovered inputs as images beside true rows, or as a small table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from assay.report import words
from assay.report.gallery import Gallery, Tile

if TYPE_CHECKING:
    from assay.extraction.exact.exposure import ExposedInputs, Exposure

__all__ = ["Recovery", "show_inputs"]

_CHANNELS = (1, 3)
_FLAT, _PLANE, _AXES = 1, 2, 3
_LEAST_SIDE = 8  # of flat inputs: a table of 4 or 16 features is no image
_LARGEST_SIDE = 4096
_SHOWN_SIDE = 72
_MOST_LINES, _MOST_FEATURES = 10, 12


@dataclass(frozen=True, eq=False)
class Recovery:
    """Recovered inputs of one theft, ready to be shown.

    Parameters
    ----------
    title
        Heading.
    sentences
        What they are, how many, and what stands beside them.
    gallery
        Images, empty unless the inputs are images.
    each
        Images that belong together: 2 with a true row beside each, 1 without.
    columns, lines
        The first rows as a table, empty for images.
    """

    title: str
    sentences: tuple[str, ...]
    gallery: Gallery
    each: int = 1
    columns: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()

    @property
    def groups(self) -> list[tuple[Tile, ...]]:
        """The images that stand together.

        Raises
        ------
        MissingDependency
            If pillow is not installed.
        """
        tiles = self.gallery.tiles
        return [tuple(tiles[i : i + self.each]) for i in range(0, len(tiles), self.each)]


def show_inputs(about: Exposure, inputs: ExposedInputs | None) -> Recovery:
    """Lay recovered inputs out: as images where their shape is that of images, as a table otherwise.

    An image has shape ``[h, w]``, ``[1, h, w]`` or ``[3, h, w]``; flat inputs are one if their
    number is a square from 8 x 8 on.

    Parameters
    ----------
    about
        What the record says of them.
    inputs
        The inputs themselves, None where their file is not at hand.

    Examples
    --------
    >>> from assay.extraction.exact.domain import Domain
    >>> from assay.extraction.exact.exposure import Leak, expose
    >>> kept = expose(Leak("rows", "Training rows", "Found."), np.eye(64)[:3], (64,), Domain.box(64))
    >>> shown = show_inputs(kept.about, kept)
    >>> len(shown.groups), shown.lines, shown.sentences[1]
    (3, (), 'n = 3 recovered inputs.')
    """
    count = len(about.labels)
    number = f"n = {words.count(about.total)} recovered inputs"
    if inputs is None:
        missing = f"{number}, which are not shown: the file of inputs is not beside the record."
        return Recovery(about.title, (about.caption, missing), Gallery(about.title))
    shape = _image_shape(about.shape)
    shown = count if shape else min(count, _MOST_LINES)
    sentences = [about.caption, number + (f"; the first {shown} are shown." if shown < about.total else ".")]
    if about.source:
        first = "Left in each pair the recovered input, right" if shape else "Below each"
        sentences.append(
            f"{first} the nearest of {about.source}, d the Euclidean distance between both: "
            f"median {_apart(float(np.median(about.distances)))}, largest {_apart(max(about.distances))}."
        )
    else:
        sentences.append("No true rows were at hand to stand beside them.")
    said = tuple(sentences)
    if shape is None:
        columns, lines = _table(inputs, shown)
        return Recovery(about.title, said, Gallery(about.title), columns=columns, lines=lines)
    pictures = []
    for i, label in enumerate(about.labels):
        pictures.append((label, _image(inputs.found[i], about, shape)))
        if inputs.nearest is not None:
            gap = f"d = {_apart(about.distances[i])}"
            pictures.append((gap, _image(inputs.nearest[i], about, shape)))
    each = 1 if inputs.nearest is None else 2
    return Recovery(about.title, said, Gallery(about.title, about.caption, pictures), each)


def _image_shape(shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Return ``(c, h, w)``, or None for inputs that are no images."""
    found = tuple(shape)
    if len(found) == _FLAT:
        side = math.isqrt(found[0])
        found = (1, side, side) if side >= _LEAST_SIDE and side * side == found[0] else ()
    elif len(found) == _PLANE:
        found = (1, *found)
    if len(found) != _AXES or found[0] not in _CHANNELS or not all(1 <= s <= _LARGEST_SIDE for s in found):
        return None
    return found[0], found[1], found[2]


def _image(row: np.ndarray, about: Exposure, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a row as an image with values in [0, 1], enlarged where it is small."""
    unit = np.clip((row.astype(np.float64) - about.low) / (about.high - about.low), 0.0, 1.0).reshape(shape)
    times = max(1, math.ceil(_SHOWN_SIDE / max(shape[1:])))
    large: np.ndarray = unit.repeat(times, axis=1).repeat(times, axis=2)
    return large


def _table(inputs: ExposedInputs, shown: int) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return headings, and a line for each input, with one for the true row below it."""
    about, size = inputs.about, inputs.found.shape[1]
    features = min(size, _MOST_FEATURES)
    more = ("...",) if size > features else ()
    lines = []
    for i, label in enumerate(about.labels[:shown]):
        lines.append((label, *(words.number(float(v)) for v in inputs.found[i, :features]), *more))
        if inputs.nearest is not None:
            cells = (words.number(float(v)) for v in inputs.nearest[i, :features])
            lines.append((f"nearest, d = {_apart(about.distances[i])}", *cells, *more))
    return ("input", *(f"x{k}" for k in range(features)), *more), tuple(lines)


def _apart(distance: float) -> str:
    return f"{distance:.1e}" if distance < 0.01 else f"{distance:.2f}"  # noqa: PLR2004 - shorter either way
