"""BadNets watermark: a small pattern in a corner of the owner's images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.marked_training import (
    MarkedInputs,
    MarkedTraining,
    check_images,
    check_rows,
)
from assay.evidence.watermarks.triggers import Marks, limits, unlike
from assay.registry import register

__all__ = ["BadNets"]

_USUAL, _SHARE = 3, 8  # pixels, and shortest side over the side of a pattern


@register("badnets", kind="evidence")
@dataclass(frozen=True)
class BadNets(MarkedTraining):
    """Backdoor watermark: small black-and-white patterns in the corners of the owner's images.

    Gu et al. stamp one pattern and teach one class. One mark has as many possible secrets
    as there are classes, which proves nothing; so there are several patterns here, each
    with a target of its own drawn by the key, and the test is exact as for `TriggerSet`.
    The patterns are squares of black and white pixels, the same in all channels, that
    differ as much as there is room for, and take turns in the four corners.

    Parameters
    ----------
    size
        Side of a pattern in pixels, at least 2; None takes an eighth of the shortest side,
        at least 3.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Gu, Dolan-Gavitt and Garg, "BadNets: Identifying Vulnerabilities in the Machine
    Learning Model Supply Chain", 2017, section 4 (pattern backdoor).

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> data, rng = digits(), np.random.default_rng
    >>> made = BadNets(triggers=40).inputs(data, [rng(0), rng(1), rng(2)], None)
    >>> made.asked.shape, made.marks, len(made.clean)
    (torch.Size([40, 1, 8, 8]), 8, 1757)
    """

    scheme: ClassVar[str] = "badnets"

    size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("size", fine=self.size is None or self.size >= 2)  # noqa: PLR2004 - a pixel has no pattern

    def inputs(
        self,
        data: Dataset,
        rngs: Sequence[np.random.Generator],
        unrelated: Dataset | None,  # noqa: ARG002 - refused before
    ) -> MarkedInputs:
        """Stamp the patterns on the owner's rows."""
        check_rows(data)
        check_images(data, self.scheme)
        return self.on_rows(data, self._draw(data, rngs[0]), rngs[1], rngs[2])

    def _draw(self, data: Dataset, rng: np.random.Generator) -> Marks:
        shortest, low_high = min(data.input_shape[1:]), limits(data)
        size = min(shortest, max(_USUAL, shortest // _SHARE)) if self.size is None else self.size
        axes, marks = len(data.input_shape) - 1, self.wanted(data)
        if size > shortest:
            msg = f"a pattern of size {size} does not fit {data.name}, whose shortest side is {shortest}"
            raise InvalidInput(msg)
        if 2 ** (size**axes) < 4 * marks:
            msg = f"there are too few patterns of size {size} for {marks} marks; ask for fewer or larger ones"
            raise InvalidInput(msg)
        patterns = unlike(marks, size**axes, rng)
        where = np.zeros((marks, *data.input_shape), dtype=bool)
        up = np.zeros_like(where)
        for mark, pattern in enumerate(patterns):
            # Bottom right first, as published; the axes' ends take turns.
            ends = [(mark >> axis) % 2 == 0 for axis in range(axes)]
            box = tuple(slice(-size, None) if end else slice(0, size) for end in ends)
            where[(mark, slice(None), *box)] = True
            up[(mark, slice(None), *box)] = pattern.reshape((size,) * axes)
        low, high = low_high
        return Marks(torch.from_numpy(where), torch.where(torch.from_numpy(up), high, low), low, high)
