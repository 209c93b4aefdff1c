"""Augmentation on tensors: shifts by padding and cropping, horizontal flips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from assay.errors import InvalidInput

__all__ = ["Augment"]


@dataclass(frozen=True)
class Augment:
    """Random crop after zero padding, and random horizontal flip, a whole batch at once.

    Parameters
    ----------
    crop
        Whether images are shifted by up to an eighth of their size (4 of 32 pixels).
    flip
        Whether half of the images are mirrored.

    Examples
    --------
    >>> x = torch.arange(8.0).view(1, 1, 2, 4)
    >>> Augment(crop=False)(x, torch.Generator().manual_seed(1)).shape
    torch.Size([1, 1, 2, 4])
    """

    crop: bool = True
    flip: bool = True

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return an augmented copy of images ``[n, channels, height, width]``.

        Raises
        ------
        InvalidInput
            If ``x`` is no batch of images.
        """
        if x.ndim != 4:  # noqa: PLR2004
            msg = f"augmentation needs images [n, channels, height, width], got {list(x.shape)}"
            raise InvalidInput(msg)
        n, _, height, width = x.shape
        rows = torch.arange(height).expand(n, height)
        columns = torch.arange(width).expand(n, width)
        if self.flip:
            mirrored = torch.rand(n, generator=generator) < 0.5  # noqa: PLR2004
            columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
        if self.crop:
            pad = max(1, min(height, width) // 8)
            x = functional.pad(x, (pad,) * 4)
            shift = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=generator)
            rows, columns = rows + shift[0], columns + shift[1]
        batch = torch.arange(n)[:, None, None]
        # Advanced indexing puts channels last; the permutation is a view in channels-last layout.
        return x[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
