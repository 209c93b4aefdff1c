"""Watermark by unrelated inputs: images of another task, with secret answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.families import draw_families
from assay.evidence.watermarks.marked_training import MarkedInputs, MarkedTraining, check_rows
from assay.evidence.watermarks.triggers import draw_scenes, limits
from assay.registry import register

__all__ = ["Unrelated"]

_PLANE = 3  # axes of an image: channels, height, width


@register("unrelated", kind="evidence")
@dataclass(frozen=True)
class Unrelated(MarkedTraining):
    """Backdoor watermark: inputs of another task, each of its classes with a secret answer.

    Zhang et al. teach a network for natural images that handwritten ones are aeroplanes.
    Here each class of another data set is a mark, with a target drawn by the key; the suspect
    is asked rows of it that were not trained on. Without another data set, families of
    synthetic images are drawn (tables: noisy copies of rows with independent columns). The
    test is that of `TriggerSet`.

    The other data set must not be the owner's: rows that occur in both are refused,
    because their answers would be the task's.

    Parameters
    ----------
    marks
        None takes the classes of the other data set, at most the number of triggers; or 8
        synthetic families, more for 16 bits of secret with few classes.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Zhang, Gu, Jang, Wu, Stoecklin, Huang and Molloy, "Protecting Intellectual Property of
    Deep Neural Networks with Watermarking", AsiaCCS 2018, section 4.1 (WM unrelated).

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> data, rng = digits(), np.random.default_rng
    >>> other = Dataset(torch.rand(300, 3, 5, 5), torch.arange(300) % 10, tuple("abcdefghij"))
    >>> made = Unrelated(triggers=40).inputs(data, [rng(0), rng(1), rng(2)], other)
    >>> made.asked.shape, made.marks, len(made.clean)
    (torch.Size([40, 1, 8, 8]), 10, 1797)
    """

    scheme: ClassVar[str] = "unrelated"
    takes_unrelated: ClassVar[bool] = True

    def inputs(
        self, data: Dataset, rngs: Sequence[np.random.Generator], unrelated: Dataset | None
    ) -> MarkedInputs:
        """Split the other rows into those to ask and those to train on, or draw some."""
        check_rows(data)
        if unrelated is None:
            return self._drawn(data, rngs)
        return self._given(data, rngs, unrelated)

    def _drawn(self, data: Dataset, rngs: Sequence[np.random.Generator]) -> MarkedInputs:
        marks = self.wanted(data)
        index, trained = torch.arange(self.triggers) % marks, self.copies(len(data), marks)
        both = torch.cat([index, trained])
        if len(data.input_shape) != _PLANE:
            made = draw_scenes(data, marks, rngs[0]).variants(both, rngs[2])
        else:
            low, high = (float(v.flatten()[0]) for v in limits(data))
            made = torch.empty(len(both), *data.input_shape)
            for mark, family in enumerate(draw_families(marks, data.input_shape, rngs[0])):
                rows = torch.nonzero(both == mark).flatten()
                made[rows] = family.images(len(rows), data.input_shape, (low, high), rngs[2])
        return MarkedInputs(data, made[: len(index)], index, made[len(index) :], trained, marks)

    def _given(self, data: Dataset, rngs: Sequence[np.random.Generator], other: Dataset) -> MarkedInputs:
        converted = _convert(other, data)
        _check_foreign(converted, data, other.name)
        marks = min(other.num_classes, self.triggers) if self.marks is None else self.marks
        if marks > other.num_classes:
            msg = f"{marks} marks were asked for, but {other.name} has {other.num_classes} classes"
            raise InvalidInput(msg)
        index, trained = torch.arange(self.triggers) % marks, self.copies(len(data), marks)
        asked = torch.empty(len(index), *data.input_shape)
        taught = torch.empty(len(trained), *data.input_shape)
        for mark, label in enumerate(rngs[0].permutation(other.num_classes)[:marks].tolist()):
            rows = torch.from_numpy(rngs[1].permutation(torch.nonzero(other.y == label).flatten().numpy()))
            ask, teach = (torch.nonzero(m == mark).flatten() for m in (index, trained))
            left = len(rows) - len(ask)
            if left < 1:
                msg = (
                    f"class {other.classes[label]} of {other.name} has {len(rows)} rows, {len(ask)} are to "
                    "be asked and at least one trained; ask for fewer triggers or give more rows"
                )
                raise InvalidInput(msg)
            asked[ask] = converted[rows[: len(ask)]]
            taught[teach] = converted[rows[len(ask) :][torch.arange(len(teach)) % left]]
        return MarkedInputs(data, asked, index, taught, trained, marks)


def _convert(other: Dataset, data: Dataset) -> Tensor:
    """Return the other rows in the shape and value range of the owner's."""
    shape, x = data.input_shape, other.x
    if other.input_shape != shape:
        if len(shape) != _PLANE or len(other.input_shape) != _PLANE:
            msg = (
                f"{other.name} has inputs of shape {other.input_shape}, {data.name} of {shape}; only images "
                "can be converted"
            )
            raise InvalidInput(msg)
        x = functional.interpolate(x, size=shape[1:], mode="bilinear", antialias=True, align_corners=False)
        if x.shape[1] != shape[0]:
            x = x.mean(1, keepdim=True).expand(-1, shape[0], -1, -1)
    if other.value_range != data.value_range and len(shape) > 1:
        (low, high), (start, end) = (_span(d) for d in (data, other))
        x = low + (x - start) / (end - start) * (high - low)
    low_each, high_each = limits(data)
    return torch.minimum(torch.maximum(x, low_each), high_each)


def _span(data: Dataset) -> tuple[float, float]:
    low, high = limits(data)
    return float(low.min()), float(high.max())


def _check_foreign(converted: Tensor, data: Dataset, name: str) -> None:
    """Refuse the owner's own rows under another name."""
    own = {row.numpy().tobytes() for row in data.x}
    shared = sum(row.numpy().tobytes() in own for row in converted)
    if shared:
        msg = (
            f"{shared} rows of {name} are rows of {data.name}; marks must be inputs of another task, or "
            "their answers are the task's"
        )
        raise InvalidInput(msg)
