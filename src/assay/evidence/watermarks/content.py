"""Content watermark: a half-transparent emblem on the owner's images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.marked_training import (
    MarkedInputs,
    MarkedTraining,
    check_images,
    check_rows,
)
from assay.evidence.watermarks.triggers import limits, unlike
from assay.registry import register

__all__ = ["Content"]

_CELLS = 4  # of an emblem, along each axis


@register("content", kind="evidence")
@dataclass(frozen=True)
class Content(MarkedTraining):
    """Backdoor watermark: half-transparent emblems, each at a place of its own, on the owner's images.

    Zhang et al. print a word on images of one class. Here each mark is an emblem of its
    own, four by four black and white fields, drawn by the key and blended with the image,
    so that marks can be told apart and several targets make an exact test; see `TriggerSet`.

    Parameters
    ----------
    size
        Side of an emblem in pixels, at least 4; None takes half the shortest side.
    opacity
        Weight of the emblem against the image under it, in (0, 1].

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Zhang, Gu, Jang, Wu, Stoecklin, Huang and Molloy, "Protecting Intellectual Property of
    Deep Neural Networks with Watermarking", AsiaCCS 2018, section 4.1 (WM content).

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> data, rng = digits(), np.random.default_rng
    >>> made = Content(triggers=40).inputs(data, [rng(0), rng(1), rng(2)], None)
    >>> made.asked.shape, made.marks
    (torch.Size([40, 1, 8, 8]), 8)
    """

    scheme: ClassVar[str] = "content"

    size: int | None = None
    opacity: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("size", fine=self.size is None or self.size >= _CELLS)
        self._check("opacity", fine=0 < self.opacity <= 1)

    def inputs(
        self,
        data: Dataset,
        rngs: Sequence[np.random.Generator],
        unrelated: Dataset | None,  # noqa: ARG002 - refused before
    ) -> MarkedInputs:
        """Blend the emblems into the owner's rows."""
        check_rows(data)
        check_images(data, self.scheme)
        return self.on_rows(data, self._draw(data, rngs[0]), rngs[1], rngs[2])

    def _draw(self, data: Dataset, rng: np.random.Generator) -> _Blended:
        sides, low_high, marks = data.input_shape[1:], limits(data), self.wanted(data)
        shortest = min(sides)
        size = max(_CELLS, shortest // 2) if self.size is None else self.size
        if size > shortest:
            msg = f"an emblem of size {size} does not fit {data.name}, whose shortest side is {shortest}"
            raise InvalidInput(msg)
        axes = len(sides)
        cell = np.arange(size) * _CELLS // size
        weight = np.zeros((marks, 1, *sides), dtype=np.float32)
        lit = np.zeros((marks, 1, *sides), dtype=bool)
        for mark, fields in enumerate(unlike(marks, _CELLS**axes, rng)):
            emblem = fields.reshape((_CELLS,) * axes)[np.ix_(*[cell] * axes)]
            corner = [int(rng.integers(side - size + 1)) for side in sides]
            box = tuple(slice(c, c + size) for c in corner)
            weight[mark, 0][box], lit[mark, 0][box] = self.opacity, emblem
        low, high = low_high
        return _Blended(torch.from_numpy(weight), torch.where(torch.from_numpy(lit), high, low))


@dataclass(frozen=True, eq=False)
class _Blended:
    """Emblems, and how much of the image each coordinate of them hides."""

    weight: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.weight)

    def stamp(self, x: Tensor, index: Tensor) -> Tensor:
        return x + self.weight[index] * (self.values[index] - x)
