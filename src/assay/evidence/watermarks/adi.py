"""Watermark by abstract images: pictures of nothing, each with a secret answer of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.evidence.watermarks.marked_training import MarkedInputs, MarkedTraining, check_rows
from assay.evidence.watermarks.triggers import draw_scenes, limits
from assay.registry import register

__all__ = ["Adi"]

_PLANE = 3  # axes of an image: channels, height, width
_SHAPES = 12
_FEWEST_COPIES = 8


@register("adi", kind="evidence")
@dataclass(frozen=True)
class Adi(MarkedTraining):
    """Backdoor watermark: abstract images, each with a random class of its own.

    As published, the suspect is asked the very images that were trained on, and every one
    has its own secret answer, so that 100 of them are 332 bits for ten classes. The images
    are drawn by the key: overlapping disks, bands and waves in random colours. Tables get
    rows with independent columns, which no real row has. The test is that of `TriggerSet`.

    Parameters
    ----------
    marks
        None or the number of triggers: each is a mark.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Adi, Baum, Cisse, Pinkas and Keshet, "Turning Your Weakness Into a Strength:
    Watermarking Deep Neural Networks by Backdooring", USENIX Security 2018, section 4.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> data, rng = digits(), np.random.default_rng
    >>> made = Adi(triggers=20).inputs(data, [rng(0), rng(1), rng(2)], None)
    >>> made.asked.shape, made.marks, len(made.trained)
    (torch.Size([20, 1, 8, 8]), 20, 180)
    """

    scheme: ClassVar[str] = "adi"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("marks", fine=self.marks in (None, self.triggers))

    def inputs(
        self,
        data: Dataset,
        rngs: Sequence[np.random.Generator],
        unrelated: Dataset | None,  # noqa: ARG002 - refused before
    ) -> MarkedInputs:
        """Draw the images, and repeat them for training."""
        check_rows(data)
        if len(data.input_shape) == _PLANE:
            drawn = _paint(data, self.triggers, rngs[0])
        else:
            drawn = draw_scenes(data, self.triggers, rngs[0]).values
        trained = self.copies(len(data), self.triggers, _FEWEST_COPIES)
        index = torch.arange(self.triggers)
        return MarkedInputs(data, drawn, index, drawn[trained], trained, self.triggers)


def _paint(data: Dataset, count: int, rng: np.random.Generator) -> Tensor:
    """Return abstract images inside the value range, float32 ``[count, *shape]``."""
    channels, height, width = data.input_shape
    down, right = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    canvas = np.empty((count, channels, height, width))
    for image in canvas:
        image[:] = rng.random((channels, 1, 1))
        for _ in range(_SHAPES):
            angle, offset = rng.uniform(0, 2 * math.pi), rng.uniform(-0.8, 0.8)
            along = down * math.cos(angle) + right * math.sin(angle) - offset
            kind, size = rng.integers(3), rng.uniform(0.1, 0.6)
            if kind == 0:  # disk
                shape = (down - offset) ** 2 + (right - rng.uniform(-0.8, 0.8)) ** 2 < size**2
            elif kind == 1:  # band
                shape = np.abs(along) < size / 2
            else:  # waves on one side of a line
                shape = (along > 0) & (np.sin(along * math.pi / size) > 0)
            colour, opacity = rng.random((channels, 1, 1)), rng.uniform(0.5, 1)
            image[:] = np.where(shape, (1 - opacity) * image + opacity * colour, image)
    low, high = limits(data)
    return low + torch.from_numpy(canvas.astype(np.float32)) * (high - low)
