"""What a mark looks like: patches for existing inputs, or inputs that belong to no class.

Nothing here knows the targets, so that the trigger inputs tell nothing about them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput

__all__ = ["Marks", "draw_patches", "draw_scenes", "limits", "unlike"]

_ATTEMPTS = 1000
_TRIES = 64
_DEEPEST = 4  # channels and up to three axes that can be interpolated
_JITTER = 0.05
_COARSE = 4
_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, eq=False)
class Marks:
    """Several marks for inputs of one shape.

    Parameters
    ----------
    where
        Coordinates that a mark overwrites, bool ``[marks, *shape]``.
    values
        What it writes there, float32 ``[marks, *shape]``.
    low, high
        Limits of each coordinate, float32 ``[*shape]``.

    Examples
    --------
    >>> data = Dataset(torch.rand(8, 1, 4, 4), torch.arange(8) % 2, ("a", "b"))
    >>> marks = draw_patches(data, 3, 2, np.random.default_rng(0))
    >>> stamped = marks.stamp(data.x, torch.arange(8) % 3)
    >>> (stamped != data.x).flatten(1).sum(1).tolist()
    [4, 4, 4, 4, 4, 4, 4, 4]
    """

    where: Tensor
    values: Tensor
    low: Tensor
    high: Tensor

    def __len__(self) -> int:
        return len(self.where)

    def stamp(self, x: Tensor, index: Tensor) -> Tensor:
        """Return ``x`` with mark ``index[i]`` written over row ``i``."""
        return torch.where(self.where[index], self.values[index], x)

    def variants(self, index: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the values of mark ``index[i]`` under fresh noise of 5 % of the range, one row each."""
        noise = rng.uniform(-_JITTER, _JITTER, (len(index), *self.low.shape)).astype(np.float32)
        moved = self.values[index] + torch.from_numpy(noise) * (self.high - self.low)
        return torch.minimum(torch.maximum(moved, self.low), self.high)


def draw_patches(data: Dataset, marks: int, size: int | None, rng: np.random.Generator) -> Marks:
    """Draw distinct patches: a box of extreme values in images, a few extreme columns in tables.

    Parameters
    ----------
    data
        Gives shape and limits.
    marks
        How many patches.
    size
        Side of the box, or number of columns. None takes a fifth of the shortest side or
        of the columns, at least 3 pixels and 2 columns.
    rng
        Source of places and values.

    Raises
    ------
    InvalidInput
        If the inputs are too small for the patch or for so many distinct ones.
    """
    low, high = limits(data)
    table = len(data.input_shape) == 1
    free = np.flatnonzero((low < high).numpy()) if table else np.arange(min(data.input_shape[1:]))
    if size is None:
        size = min(len(free), max(2, len(free) // 5) if table else max(3, len(free) // 5))
    if not 1 <= size <= len(free):
        what = "columns that vary" if table else "pixels in its shortest side"
        msg = f"a patch of size {size} does not fit {data.name}, which has {len(free)} {what}"
        raise InvalidInput(msg)
    places, contents, seen = [], [], set()
    for _ in range(_ATTEMPTS * marks):
        where = np.zeros(data.input_shape, dtype=bool)
        if table:
            where[rng.choice(free, size, replace=False)] = True
        else:
            corner = [int(rng.integers(side - size + 1)) for side in data.input_shape[1:]]
            where[(slice(None), *(slice(c, c + size) for c in corner))] = True
        # Half high, half low: an even patch could vanish in a background of its own value.
        bits = rng.permutation(np.arange(int(where.sum())) % 2).astype(bool)
        up = np.zeros_like(where)
        up[where] = bits
        look = where.tobytes() + up.tobytes()
        if look not in seen:
            seen.add(look)
            places.append(torch.from_numpy(where))
            contents.append(torch.where(torch.from_numpy(up), high, low))
        if len(places) == marks:
            return Marks(torch.stack(places), torch.stack(contents), low, high)
    msg = f"{data.name} has no room for {marks} distinct patches of size {size}; ask for fewer or larger ones"
    raise InvalidInput(msg)


def draw_scenes(data: Dataset, marks: int, rng: np.random.Generator) -> Marks:
    """Draw inputs that belong to no class: smooth colour fields, or rows with independent columns.

    Parameters
    ----------
    data
        Gives shape and limits.
    marks
        How many.
    rng
        Source of everything.

    Raises
    ------
    InvalidInput
        If the inputs have more than three axes beside the channels.
    """
    low, high = limits(data)
    shape = data.input_shape
    if len(shape) > _DEEPEST:
        msg = f"no trigger inputs of shape {shape}; at most three axes beside the channels are supported"
        raise InvalidInput(msg)
    if len(shape) == 1:
        unit = torch.from_numpy(rng.random((marks, *shape)).astype(np.float32))
    else:
        coarse = [min(_COARSE, side) for side in shape[1:]]
        grid = torch.from_numpy(rng.random((marks, shape[0], *coarse)).astype(np.float32))
        mode = _INTERPOLATION[len(shape) - 1]
        unit = functional.interpolate(grid, size=shape[1:], mode=mode, align_corners=True)
    return Marks(torch.ones(marks, *shape, dtype=torch.bool), low + unit * (high - low), low, high)


def unlike(count: int, cells: int, rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Return patterns of cells, half of them lit, each far from those before it.

    Examples
    --------
    >>> first, second = unlike(2, 16, np.random.default_rng(0))
    >>> int(first.sum()), int((first != second).sum()) > 8
    (8, True)
    """
    chosen: list[NDArray[np.bool_]] = []
    while len(chosen) < count:
        tries = [rng.permutation(cells) < (cells + 1) // 2 for _ in range(_TRIES)]
        apart = [min((int((t != c).sum()) for c in chosen), default=cells) for t in tries]
        chosen.append(tries[int(np.argmax(apart))])
    return chosen


def limits(data: Dataset) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest value of each coordinate that a trigger may take."""
    if len(data.input_shape) == 1:
        # A table's columns have units of their own; outside what was observed a filter would notice.
        return data.x.amin(0), data.x.amax(0)
    low, high = data.value_range
    if not np.isfinite(low) or not np.isfinite(high):
        low, high = float(data.x.min()), float(data.x.max())
    return torch.full(data.input_shape, low), torch.full(data.input_shape, high)
