"""Pools of inputs made from other inputs: what a thief without data of the task would ask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.registry import nearest

__all__ = ["POOLS", "blurred", "foreign", "synthesise"]

_IMAGE_AXES = 3
_SIGN_STEP = 0.1
_BLUR = (0.25, 0.5, 0.25)


def synthesise(like: Dataset, kind: str, rows: int, *, rng: int = 0) -> Dataset:
    """Make inputs of another distribution with the shape and range of ``like``.

    Parameters
    ----------
    like
        Inputs of the task. Only what a thief could know of them is used by ``"noise"``:
        their shape and range.
    kind
        One of `POOLS`: ``"noise"`` (uniform), ``"inversions"`` (each value mirrored at
        the middle of its range), ``"blends"`` (means of two rows), ``"shuffles"``
        (images cut into 16 tiles that change places; tables whose columns are drawn
        independently) or ``"sign-noise"`` (a tenth of the range up or down everywhere).
    rows
        Number of inputs, at least 1.
    rng
        Seed.

    Returns
    -------
    Dataset
        ``rows`` inputs. Their labels are 0: nobody knows better ones.

    Raises
    ------
    InvalidInput
        For an unknown kind, no rows to start from, or fewer than 1 row.

    References
    ----------
    Dziedzic, Kaleem, Lu, Papernot, "Increasing the Cost of Model Extraction with
    Calibrated Proof of Work", ICLR 2022, section 4, on out-of-distribution queries.

    Examples
    --------
    >>> task = Dataset(torch.full((4, 1, 8, 8), 0.25), torch.zeros(4, dtype=torch.int64), ("a", "b"))
    >>> pool = synthesise(task, "inversions", 3)
    >>> pool.name, pool.x.shape, float(pool.x.mean())
    ('inversions of data', torch.Size([3, 1, 8, 8]), 0.75)
    """
    if kind not in POOLS:
        raise InvalidInput(nearest(str(kind), list(POOLS), "kind of pool"))
    if rows < 1 or not len(like):
        msg = f"a pool needs at least 1 row and inputs to start from, got {rows} rows of {len(like)} inputs"
        raise InvalidInput(msg)
    generator = torch.Generator().manual_seed(rng)
    low, high = _span(like)
    x = POOLS[kind](like.x, low, high, rows, generator)
    return Dataset(
        torch.minimum(torch.maximum(x, low), high),
        torch.zeros(rows, dtype=torch.int64),
        like.classes,
        like.value_range,
        f"{kind} of {like.name}",
    )


def foreign(
    data: Dataset,
    input_shape: Sequence[int],
    classes: int | Sequence[str],
    *,
    value_range: tuple[float, float] | None = None,
) -> Dataset:
    """Return the inputs of another task in the shape that a victim takes.

    Images are scaled bilinearly, colour becomes grey by the mean and grey is repeated.
    A table is cut, or repeated from its first column, to the right width. Labels are 0.

    Parameters
    ----------
    data
        Any inputs.
    input_shape
        Shape of one input of the victim.
    classes
        The victim's classes, or how many.
    value_range
        The victim's range, onto which a finite range of ``data`` is mapped; None keeps
        the values.

    Raises
    ------
    InvalidInput
        If images cannot become inputs of that shape.

    Examples
    --------
    >>> pictures = Dataset(torch.rand(2, 3, 32, 32), torch.tensor([0, 1]), ("a", "b"))
    >>> foreign(pictures, (1, 28, 28), 10).x.shape
    torch.Size([2, 1, 28, 28])
    """
    shape = tuple(int(n) for n in input_shape)
    names = tuple(str(c) for c in range(classes)) if isinstance(classes, int) else tuple(classes)
    images = len(data.input_shape) == len(shape) == _IMAGE_AXES
    if not images and not len(data.input_shape) == len(shape) == 1:
        msg = f"{data.name} has inputs of shape {data.input_shape}, which cannot become {shape}"
        raise InvalidInput(msg)
    x = _fit_image(data.x, shape) if images else data.x[:, torch.arange(shape[0]) % data.x.shape[1]]
    span = data.value_range
    if value_range is not None and all(math.isfinite(v) for v in (*span, *value_range)):
        x = value_range[0] + (x - span[0]) * ((value_range[1] - value_range[0]) / (span[1] - span[0]))
        span = value_range
    x = x.clamp(*span).contiguous()
    return Dataset(x, torch.zeros(len(x), dtype=torch.int64), names, span, f"foreign {data.name}")


def blurred(data: Dataset, *, share: float = 1.0) -> Dataset:
    """Return images out of focus, or table rows moved towards their column means.

    An honest shift of the inputs, with their labels: a cheaper camera, not an attack.

    Parameters
    ----------
    data
        The inputs.
    share
        How much of the 3x3 binomial filter is blended in, in (0, 1]; a table goes a tenth
        of that way.

    Examples
    --------
    >>> dot = torch.zeros(1, 1, 5, 5)
    >>> dot[..., 2, 2] = 1
    >>> float(blurred(Dataset(dot, torch.tensor([0]), ("a", "b"))).x.max())
    0.25
    """
    if not 0 < share <= 1:
        msg = f"the share of the blur must lie in (0, 1], got {share}"
        raise InvalidInput(msg)
    x = data.x
    if len(data.input_shape) != _IMAGE_AXES:
        x = torch.lerp(x, x.mean(0).expand_as(x), 0.1 * share)
    else:
        taps = torch.tensor(_BLUR)
        kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 3, 3)
        padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        x = torch.lerp(x, functional.conv2d(padded, kernel, groups=x.shape[1]), share)
    low, high = data.value_range
    return Dataset(x.clamp(low, high), data.y, data.classes, data.value_range, f"blurred {data.name}")


def _span(like: Dataset) -> tuple[Tensor, Tensor]:
    """Return what a coordinate may be: the declared range, or each column's own where there is none."""
    low, high = like.value_range
    shape = (1,) * len(like.input_shape)
    if math.isfinite(low) and math.isfinite(high):
        return torch.full(shape, low), torch.full(shape, high)
    return like.x.amin(0), like.x.amax(0)


def _noise(x: Tensor, low: Tensor, high: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand((rows, *x.shape[1:]), generator=generator)


def _draw(x: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Return rows without replacement as far as they go, then once more from the beginning."""
    repeats = -(-rows // len(x))
    order = torch.cat([torch.randperm(len(x), generator=generator) for _ in range(repeats)])
    return x[order[:rows]]


def _inversions(x: Tensor, low: Tensor, high: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    return low + high - _draw(x, rows, generator)


def _blends(x: Tensor, low: Tensor, high: Tensor, rows: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001 - one signature for all
    return (_draw(x, rows, generator) + _draw(x, rows, generator)) / 2


def _shuffles(x: Tensor, low: Tensor, high: Tensor, rows: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001 - one signature for all
    if x.ndim - 1 != _IMAGE_AXES or min(x.shape[2:]) < 4:  # noqa: PLR2004 - too small for tiles
        flat = x.flatten(1)
        index = torch.randint(len(x), (rows, flat.shape[1]), generator=generator)
        return flat.gather(0, index).view(rows, *x.shape[1:])
    drawn = _draw(x, rows, generator).clone()
    high_tile, wide_tile = x.shape[2] // 4, x.shape[3] // 4
    part = drawn[:, :, : 4 * high_tile, : 4 * wide_tile]
    tiles = part.unfold(2, high_tile, high_tile).unfold(3, wide_tile, wide_tile)  # [n, c, 4, 4, h, w]
    tiles = tiles.reshape(rows, x.shape[1], 16, high_tile, wide_tile)
    places = torch.rand(rows, 16, generator=generator).argsort(1)
    moved = tiles.gather(2, places[:, None, :, None, None].expand_as(tiles))
    moved = moved.view(rows, x.shape[1], 4, 4, high_tile, wide_tile).permute(0, 1, 2, 4, 3, 5)
    drawn[:, :, : 4 * high_tile, : 4 * wide_tile] = moved.reshape(part.shape)
    return drawn


def _sign_noise(x: Tensor, low: Tensor, high: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    drawn = _draw(x, rows, generator)
    signs = torch.randint(0, 2, drawn.shape, generator=generator) * 2 - 1
    return drawn + _SIGN_STEP * (high - low) * signs


def _fit_image(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    channels = shape[0]
    if x.shape[1] != channels:
        x = x.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    if tuple(x.shape[2:]) != shape[1:]:
        x = functional.interpolate(x, shape[1:], mode="bilinear", align_corners=False, antialias=True)
    return x


POOLS: dict[str, Callable[[Tensor, Tensor, Tensor, int, torch.Generator], Tensor]] = {
    "noise": _noise,
    "inversions": _inversions,
    "blends": _blends,
    "shuffles": _shuffles,
    "sign-noise": _sign_noise,
}
"""Kinds of synthesised pools, each a function ``(x, low, high, rows, generator) -> inputs``."""
