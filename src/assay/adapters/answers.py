"""What a foreign model's numbers mean: labels, logits or probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from assay.errors import InvalidInput

__all__ = ["Answer", "Outputs", "ScoreScale", "read_answer"]

Outputs = Literal["auto", "logits", "probabilities", "partial", "labels"]
_TOLERANCE = 1e-2  # the same slack as assay.model.check_scores: services round
_MATRIX = 2
_ROUNDED = 4  # decimals: scores shown to people have no more


@dataclass(frozen=True)
class Answer:
    """One batch of answers.

    Parameters
    ----------
    labels
        Classes, int64 ``[n]``, or None where the model gives none of its own.
    scores
        Logits or probabilities, float ``[n, k]``, or None.
    """

    labels: Tensor | None = None
    scores: Tensor | None = None

    def cut(self, rows: int) -> Answer:
        """Return the first ``rows`` answers."""
        labels = None if self.labels is None else self.labels[:rows]
        return Answer(labels, None if self.scores is None else self.scores[:rows])


class ScoreScale:
    """Turns raw scores into probabilities and remembers which of the two they are.

    With ``"auto"`` the first answer decides: rows that are non-negative and sum to 1 are
    probabilities, anything else is logits. A later answer that contradicts the decision
    is an error, because the earlier ones were then read wrongly. So is a first answer
    that could be either logits or probabilities of which some are rounded or not shown.

    Parameters
    ----------
    outputs
        ``"logits"``, ``"probabilities"``, ``"partial"`` for probabilities whose rows need
        not sum to 1, because they are rounded or only the largest are shown, or ``"auto"``.
    name
        How messages call the model.

    Examples
    --------
    >>> scale = ScoreScale("auto", "net")
    >>> scale.probabilities(torch.tensor([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, outputs: Outputs, name: str) -> None:
        if outputs not in get_args(Outputs):
            msg = f"outputs must be one of {', '.join(get_args(Outputs))}, got {outputs!r}"
            raise InvalidInput(msg)
        self.outputs, self.name = outputs, name

    @property
    def complete(self) -> bool:
        """Whether rows sum to 1."""
        return self.outputs != "partial"

    def probabilities(self, raw: Tensor) -> Tensor:
        """Return probabilities ``[n, k]`` for raw scores ``[n, k]``.

        Raises
        ------
        InvalidInput
            If scores taken for probabilities turn out to be none.
        """
        if not bool(torch.isfinite(raw).all()):
            msg = f"{self.name} answered scores that contain NaN or infinity"
            raise InvalidInput(msg)
        if self.outputs == "logits":
            return torch.softmax(raw, 1)
        if self.outputs == "partial":
            return raw
        proper = bool(((raw >= -_TOLERANCE).all(1) & ((raw.sum(1) - 1).abs() <= _TOLERANCE)).all())
        if self.outputs == "auto" and len(raw):
            if not proper and _looks_partial(raw):
                msg = (
                    f"{self.name} answered numbers in [0, 1] that do not sum to 1; open it with "
                    "outputs='partial' if scores are rounded or hidden, with 'logits' if these are logits"
                )
                raise InvalidInput(msg)
            self.outputs = "probabilities" if proper else "logits"
            return raw if proper else torch.softmax(raw, 1)
        if not proper:
            msg = (
                f"{self.name} answered rows that are not probabilities where earlier ones (or the caller) "
                "said so; open it with outputs='logits' if these are logits, with 'partial' if scores are "
                "rounded or hidden"
            )
            raise InvalidInput(msg)
        return raw


def _looks_partial(raw: Tensor) -> bool:
    """Return whether rows may be probabilities of which some are rounded away or not shown."""
    values = raw.double()
    inside = (values >= 0).all() & (values <= 1).all() & (values.amax(1) > 0).all()
    hidden = (values == 0).any(1).all()
    rounded = ((values - torch.round(values, decimals=_ROUNDED)).abs() < 1e-7).all()  # noqa: PLR2004 - float32
    # One decimal moves each score by up to 0.05; hiding only takes away.
    most = 1 + (0.05 * values.shape[1] if bool(rounded) else _TOLERANCE)
    return bool(inside & (values.sum(1) <= most).all() & (hidden | rounded))


def read_answer(arrays: Sequence[Tensor], rows: int, outputs: Outputs, name: str) -> Answer:
    """Tell labels from scores among the arrays that a model returned for ``rows`` inputs.

    Integers ``[n]`` or ``[n, 1]`` are labels and floats ``[n, k]`` are scores. A single
    float column is the score of class 1 of 2, once the caller has said on which scale.

    Raises
    ------
    InvalidInput
        If a shape or dtype fits neither, or more than one array could be the scores.

    Examples
    --------
    >>> read_answer([torch.tensor([[1], [0]])], 2, "auto", "net").labels
    tensor([1, 0])
    """
    labels: Tensor | None = None
    scores: Tensor | None = None
    for array in arrays:
        if array.ndim == 0 or array.shape[0] != rows:
            msg = f"{name} answered shape {list(array.shape)} for {rows} rows; the first axis must be {rows}"
            raise InvalidInput(msg)
        if array.dtype == torch.bool or array.is_complex():
            msg = f"{name} answered {array.dtype}; expected integer labels or float scores"
            raise InvalidInput(msg)
        flat = array.reshape(rows) if array.shape[1:] in ((), (1,)) else None
        if outputs == "labels" or not array.is_floating_point():
            found = _labels(array, flat, name)
            if labels is not None:
                raise InvalidInput(_ambiguous(name, "labels"))
            labels = found
        else:
            if scores is not None:
                raise InvalidInput(_ambiguous(name, "scores"))
            scores = _scores(array, flat, outputs, name)
    if labels is None and scores is None:
        msg = f"{name} answered nothing"
        raise InvalidInput(msg)
    return Answer(labels, scores)


def _labels(array: Tensor, flat: Tensor | None, name: str) -> Tensor:
    if flat is None:
        shape = list(array.shape)
        msg = f"{name} answered {array.dtype} of shape {shape}; labels must have shape [n] or [n, 1]"
        raise InvalidInput(msg)
    whole = not flat.is_floating_point() or bool((torch.isfinite(flat) & (flat == flat.round())).all())
    if not whole:
        msg = f"{name} answered labels that are not whole numbers"
        raise InvalidInput(msg)
    return flat.to(torch.int64)


def _scores(array: Tensor, flat: Tensor | None, outputs: Outputs, name: str) -> Tensor:
    array = array if array.dtype == torch.float64 else array.float()
    if flat is None and array.ndim == _MATRIX and array.shape[1] >= _MATRIX:
        return array
    if flat is None:
        msg = f"{name} answered scores of shape {list(array.shape)}; expected [n, classes]"
        raise InvalidInput(msg)
    positive = array.reshape(-1)
    if outputs == "auto":
        msg = (
            f"{name} answered one float a row, which could be a probability, a logit or a label; "
            "say so with outputs='probabilities', 'logits' or 'labels'"
        )
        raise InvalidInput(msg)
    # softmax([0, z]) is the sigmoid of z, so a single logit becomes a pair of logits.
    rest = torch.zeros_like(positive) if outputs == "logits" else 1 - positive
    return torch.stack([rest, positive], 1)


def _ambiguous(name: str, what: str) -> str:
    return f"{name} has more than one output that could be {what}; name the right one with output=..."
