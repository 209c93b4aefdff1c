"""What JPEG leaves of images: blocks of 8 x 8 pixels as rounded cosine coefficients."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["compress"]

_BLOCK = 8
_COLOURS = 3
_MIDDLE = 128.0
_KINK = 50  # quality at which the table stands as printed
# Tables K.1 and K.2 of ITU-T T.81.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# Luminance and two differences of colour, ITU-T T.871.
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def compress(unit: Tensor, quality: Tensor) -> Tensor:
    """Return images as they come back from JPEG without subsampling of colours.

    The lossless part of the format changes nothing and is left out.

    Parameters
    ----------
    unit
        Images ``[n, channels, height, width]`` in [0, 1]; three channels are taken for
        red, green and blue, any other number for as many grey images.
    quality
        In [1, 100], on the scale of the Independent JPEG Group.

    References
    ----------
    ITU-T Recommendation T.81 (1992), annexes A and K.

    Examples
    --------
    >>> flat = torch.full((1, 1, 8, 8), 0.5)
    >>> round(float((compress(flat, torch.tensor(75.0)) - flat).abs().max()), 3)
    0.002
    """
    pixels = (unit * 255).round()
    colour = unit.shape[1] == _COLOURS
    if colour:
        pixels = torch.einsum("ij,njhw->nihw", pixels.new_tensor(_TO_YCC), pixels)
        pixels[:, 1:] += _MIDDLE
        pixels = pixels.round().clamp(0, 255)
    height, width = unit.shape[2:]
    padded = functional.pad(pixels, (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
    tables = torch.stack([_table(_LUMINANCE, quality, unit), _table(_CHROMINANCE, quality, unit)])
    chosen = tables[[0, 1, 1]] if colour else tables[:1]
    basis = _basis(unit)
    blocks = (padded - _MIDDLE).unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK)
    table = chosen[:, None, None]
    coefficients = ((basis @ blocks @ basis.T) / table).round() * table
    back = (basis.T @ coefficients @ basis + _MIDDLE).round().clamp(0, 255)
    pixels = back.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)[:, :, :height, :width]
    if colour:
        centre = pixels.new_tensor([0.0, _MIDDLE, _MIDDLE]).view(1, -1, 1, 1)
        pixels = torch.einsum("ij,njhw->nihw", pixels.new_tensor(_TO_RGB), pixels - centre)
        pixels = pixels.round().clamp(0, 255)
    return pixels / 255


def _table(table: tuple[tuple[int, ...], ...], quality: Tensor, like: Tensor) -> Tensor:
    """Scale a printed table to a quality, in whole numbers."""
    scale = torch.where(quality < _KINK, (5000 / quality).floor(), 200 - 2 * quality)
    return ((like.new_tensor(table) * scale + _KINK) / 100).floor().clamp(1, 255)


def _basis(like: Tensor) -> Tensor:
    """Return the orthonormal cosine basis, one function a row."""
    frequency = torch.arange(_BLOCK, device=like.device, dtype=like.dtype)
    waves = torch.cos((2 * frequency[None] + 1) * frequency[:, None] * (math.pi / (2 * _BLOCK)))
    waves[0] *= math.sqrt(0.5)
    return waves * math.sqrt(2 / _BLOCK)
