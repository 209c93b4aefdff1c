"""Synthetic images that belong to no class, in families that look alike inside and differ between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.errors import InvalidInput
from assay.result import Record

__all__ = ["Family", "Kind", "draw_families"]

FloatArray = NDArray[np.float64]
Kind = Literal["bars", "waves", "checks", "disk", "ring", "frame", "cross", "dots", "dim", "bright", "halves"]
_SMALLEST = 4  # pixels a side: below, families cannot be told apart
_NOISE = 0.05
_DARKEST = 0.7
_FINE, _WIDE = (0.16, 0.28), (0.34, 0.58)  # of the shorter side


@dataclass(frozen=True)
class Family(Record):
    """One family of images.

    Parameters
    ----------
    kind
        What is drawn.
    angle
        Direction of bars, waves and halves, in radians.
    period
        Smallest and largest period or size, as a share of the shorter side.
    tint
        Strength of the drawing in each channel, in [0, 1].

    Examples
    --------
    >>> bars = Family("bars", 0.0, (0.2, 0.3), (1.0,))
    >>> images = bars.images(3, (1, 8, 8), (0.0, 1.0), np.random.default_rng(0))
    >>> images.shape, bool((images >= 0).all() and (images <= 1).all())
    (torch.Size([3, 1, 8, 8]), True)
    """

    kind: Kind
    angle: float
    period: tuple[float, float]
    tint: tuple[float, ...]

    def images(
        self,
        count: int,
        shape: Sequence[int],
        value_range: tuple[float, float],
        rng: np.random.Generator,
    ) -> Tensor:
        """Return float32 ``[count, *shape]``; place, phase, size, strength and noise vary.

        Raises
        ------
        InvalidInput
            If ``shape`` is no image of at least 4 x 4 pixels with as many channels as the tint.
        """
        channels, height, width = _check_image(shape)
        if channels != len(self.tint):
            msg = f"a family tinted for {len(self.tint)} channels cannot be drawn on {channels}"
            raise InvalidInput(msg)
        side = min(height, width)
        # Places are shares of the shorter side, so that a family looks the same at every size.
        down, right = np.meshgrid(np.arange(height) / side, np.arange(width) / side, indexing="ij")
        drawn = np.stack([self._draw(down, right, rng) for _ in range(count)]) if count else np.empty((0,))
        drawn = drawn.reshape(count, 1, height, width) * np.array(self.tint).reshape(1, channels, 1, 1)
        strength = rng.uniform(_DARKEST, 1, (count, 1, 1, 1))
        unit = np.clip(drawn * strength + rng.normal(0, _NOISE, (count, channels, height, width)), 0, 1)
        low, high = value_range
        return torch.from_numpy((low + unit * (high - low)).astype(np.float32)).clamp(low, high)

    def _draw(self, down: FloatArray, right: FloatArray, rng: np.random.Generator) -> FloatArray:
        size = rng.uniform(*self.period)
        centre = rng.uniform(0.35, 0.65, 2)
        along = math.cos(self.angle) * right + math.sin(self.angle) * down
        distance = np.hypot(down - centre[0] * down.max(), right - centre[1] * right.max())
        phase = rng.uniform(0, 1)
        if self.kind == "bars":
            shape = ((along / size + phase) % 1 < 0.5).astype(float)  # noqa: PLR2004 - half bright, half dark
        elif self.kind == "waves":
            shape = 0.5 + 0.5 * np.sin(2 * math.pi * (along / size + phase))
        elif self.kind == "checks":
            steps = np.floor(2 * (down / size + phase)) + np.floor(2 * (right / size + rng.uniform(0, 1)))
            shape = steps % 2
        elif self.kind == "disk":
            shape = (distance < size / 1.5).astype(float)
        elif self.kind == "ring":
            shape = (np.abs(distance - size / 1.5) < size / 4).astype(float)
        elif self.kind == "frame":
            rim = np.minimum(np.minimum(down, down.max() - down), np.minimum(right, right.max() - right))
            shape = ((rim >= size / 3 * phase) & (rim < size / 3 * phase + size / 2)).astype(float)
        elif self.kind == "cross":
            near = np.abs(down - centre[0] * down.max()), np.abs(right - centre[1] * right.max())
            shape = (np.minimum(*near) < size / 3).astype(float)
        elif self.kind == "dots":
            shape = (rng.random(down.shape) < size).astype(float)
        elif self.kind == "dim":
            shape = rng.random(down.shape) * size
        elif self.kind == "bright":
            shape = 1 - rng.random(down.shape) * size
        else:  # halves
            shape = (along - along.min() < (0.35 + 0.3 * phase) * np.ptp(along)).astype(float)
        return shape


def draw_families(count: int, shape: Sequence[int], rng: np.random.Generator) -> tuple[Family, ...]:
    """Draw different families, as unlike one another as there is room for.

    Parameters
    ----------
    count
        How many.
    shape
        ``(channels, height, width)``; with several channels each family has a tint.
    rng
        Source of angles, sizes and tints.

    Raises
    ------
    InvalidInput
        If ``shape`` is no image of at least 4 x 4 pixels.

    Examples
    --------
    >>> drawn = draw_families(12, (3, 32, 32), np.random.default_rng(0))
    >>> len({family.kind for family in drawn}), len(drawn[0].tint)
    (11, 3)
    """
    channels, _, _ = _check_image(shape)
    turns = {"bars": 8, "waves": 4, "halves": 4}  # how many angles are far enough apart
    fine: tuple[Kind, ...] = ("bars", "checks", "disk", "ring", "frame", "cross", "dots", "dim", "bright")
    wide: tuple[Kind, ...] = ("waves", "halves", *fine)
    kinds: list[tuple[Kind, tuple[float, float]]] = []
    while len(kinds) < count:
        # Every kind once before any kind twice; the second round is of another size.
        order = list(wide) if not kinds else list(rng.permutation(np.array(wide, dtype=object)))
        kinds += [(kind, _FINE if len(kinds) % 2 else _WIDE) for kind in order]
    start = rng.uniform(0, math.pi)
    seen: dict[str, int] = {}
    found = []
    for kind, period in kinds[:count]:
        turn = seen[kind] = seen.get(kind, -1) + 1
        parts = turns.get(kind, 8)
        # Steps of nearly a golden section of the half circle spread any number of angles.
        angle = (start + math.pi * ((turn * 5) % parts) / parts) % math.pi
        tint = (1.0,) if channels == 1 else tuple(float(t) for t in rng.uniform(0.2, 1, channels))
        found.append(Family(kind, float(angle), period, tint))
    return tuple(found)


def _check_image(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape[1:]) < _SMALLEST:  # noqa: PLR2004 - channels, height, width
        msg = (
            f"families of images need inputs of at least {_SMALLEST} x {_SMALLEST} pixels, got {tuple(shape)}"
        )
        raise InvalidInput(msg)
    return int(shape[0]), int(shape[1]), int(shape[2])
