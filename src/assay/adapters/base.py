"""What all adapters share: access, validation, batches, padding, labels from scores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from assay.adapters.answers import Answer, Outputs, ScoreScale
from assay.errors import AccessDenied, InvalidInput
from assay.model import Access, check_inputs, check_labels, check_scores, require

__all__ = ["BatchedModel", "checked_shape", "reconcile_shape"]

_PAIR = 2
_MAX_NUMBERS = 2**28  # a gigabyte of float32 in one batch; only a forged shape wants more


def checked_shape(shape: Sequence[int], name: str) -> tuple[int, ...]:
    """Return an input shape as a tuple of positive whole numbers or raise `InvalidInput`."""
    try:
        result = tuple(int(n) for n in shape)
    except (TypeError, ValueError):
        result = ()
    if not result or min(result) < 1 or result != tuple(shape):
        msg = f"the input shape of {name} must be positive whole numbers such as (3, 32, 32), got {shape!r}"
        raise InvalidInput(msg)
    return result


def reconcile_shape(
    declared: Sequence[int | None], stated: Sequence[int] | None, name: str
) -> tuple[int, ...]:
    """Return the input shape that a model declares (None is open) and its caller states.

    Raises
    ------
    InvalidInput
        If they differ, or neither tells a size.
    """
    if stated is None:
        known = tuple(size for size in declared if size is not None)
        if not declared or len(known) < len(declared):
            msg = f"{name} leaves its input shape open; pass input_shape"
            raise InvalidInput(msg)
        return known
    fits = len(stated) == len(declared) and all(
        size in (None, given) for size, given in zip(declared, stated, strict=True)
    )
    if declared and not fits:
        shown = ", ".join("?" if size is None else str(size) for size in declared)
        msg = f"{name} takes inputs of shape ({shown}), not {tuple(stated)}"
        raise InvalidInput(msg)
    return tuple(stated)


class BatchedModel(ABC):
    """A model that is asked batch by batch through one method, `_ask`.

    Subclasses answer one batch with labels, raw scores or both; this class checks
    inputs and answers, enforces the access, scales scores to probabilities, and pads
    batches for models of a fixed batch size.

    Parameters
    ----------
    name
        How messages and reports call the model.
    input_shape
        Shape of one input.
    digest
        SHA-256 of the weights, or an address.
    batch_size
        Rows to send at a time, at least 1.
    outputs
        What float answers are; see `ScoreScale`.
    fixed_batch
        Batch size that the model insists on, or None.

    Raises
    ------
    InvalidInput
        For an impossible shape or batch size.
    """

    def __init__(
        self,
        *,
        name: str,
        input_shape: Sequence[int],
        digest: str,
        batch_size: int,
        outputs: Outputs = "auto",
        fixed_batch: int | None = None,
    ) -> None:
        if batch_size < 1:
            msg = f"the batch size of {name} must be at least 1, got {batch_size}"
            raise InvalidInput(msg)
        self.name = name
        self.access = Access.NONE
        self.input_shape = checked_shape(input_shape, name)
        if math.prod(self.input_shape) * (fixed_batch or 1) > _MAX_NUMBERS:
            msg = (
                f"{name} wants batches of {fixed_batch or 1} x {self.input_shape}, which is implausibly large"
            )
            raise InvalidInput(msg)
        self.num_classes = 0
        self.digest = digest
        self.batch_size = fixed_batch or batch_size
        self._fixed = fixed_batch
        self._scale = ScoreScale(outputs, name)

    @property
    def complete_scores(self) -> bool:
        """Whether rows of scores sum to 1; those opened with ``outputs="partial"`` need not."""
        return self._scale.complete

    @abstractmethod
    def _ask(self, x: Tensor) -> Answer:
        """Answer one checked batch."""

    def _settle(
        self,
        num_classes: int | None,
        access: Access | None,
        offered: Access | None = None,
        width: int | None = None,
    ) -> None:
        """Fix classes and access, asking one row of zeros only for what nobody stated."""
        if self._scale.outputs == "labels":
            offered, width = Access.LABELS, None
        if offered is None or (num_classes is None and width is None and offered != Access.LABELS):
            probe = self._padded(torch.zeros(1, *self.input_shape))
            offered = offered or (Access.LABELS if probe.scores is None else Access.SCORES)
            width = None if probe.scores is None else int(probe.scores.shape[1])
        if num_classes is None and width is None:
            msg = (
                f"{self.name} answers labels only, which do not tell the number of classes; pass num_classes"
            )
            raise InvalidInput(msg)
        if num_classes is not None and width is not None and num_classes != width:
            msg = f"{self.name} answers {width} scores a row, but num_classes is {num_classes}"
            raise InvalidInput(msg)
        self._offer(num_classes if num_classes is not None else width or 0, access, offered)

    def _offer(self, num_classes: int, access: Access | None, offered: Access) -> None:
        if num_classes < _PAIR:
            msg = f"{self.name} must have at least 2 classes, got {num_classes}"
            raise InvalidInput(msg)
        if access is not None and access not in offered:
            msg = f"{self.name} cannot offer {access.title}, only {offered.title}"
            raise AccessDenied(msg)
        self.num_classes, self.access = num_classes, offered if access is None else access

    def labels(self, x: Tensor) -> Tensor:
        """Return predicted classes, int64 ``[n]``.

        Raises
        ------
        AccessDenied
            If the model offers no labels.
        InvalidInput
            If inputs or answers are malformed.
        """
        require(self, Access.LABELS, "labels()")
        parts = []
        for batch, answer in self._answers(x):
            if answer.labels is not None:
                parts.append(check_labels(answer.labels, len(batch), self.num_classes, self.name))
            else:
                parts.append(self._largest(answer, len(batch)))
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def scores(self, x: Tensor) -> Tensor:
        """Return class probabilities, float ``[n, num_classes]``; raises as `labels` does."""
        require(self, Access.SCORES, "scores()")
        parts = [self._probabilities(answer, len(batch)) for batch, answer in self._answers(x)]
        return torch.cat(parts) if parts else torch.empty(0, self.num_classes)

    def embeddings(self, x: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's signature
        """Refuse: this kind of model shows no features.

        Raises
        ------
        AccessDenied
            Always, unless a subclass knows better.
        """
        require(self, Access.EMBEDDINGS, "embeddings()")
        raise AssertionError  # pragma: no cover - only subclasses with embeddings pass the line above

    @property
    def module(self) -> nn.Module:
        """Refuse: this kind of model shows no weights.

        Raises
        ------
        AccessDenied
            Always, unless a subclass knows better.
        """
        require(self, Access.WEIGHTS, "the network itself")
        raise AssertionError  # pragma: no cover - only subclasses with weights pass the line above

    def _probabilities(self, answer: Answer, rows: int) -> Tensor:
        if answer.scores is None:
            msg = f"{self.name} answered labels where scores were expected"
            raise InvalidInput(msg)
        scores = self._scale.probabilities(answer.scores)
        return check_scores(scores, rows, self.num_classes, self.name, complete=self.complete_scores)

    def _largest(self, answer: Answer, rows: int) -> Tensor:
        """Return the classes of the largest scores; logits have the order of their probabilities."""
        raw = answer.scores
        plain = raw is not None and self._scale.outputs == "logits" and raw.shape == (rows, self.num_classes)
        if raw is None or not plain or not bool(torch.isfinite(raw).all()):
            return self._probabilities(answer, rows).argmax(1)  # or what is wrong with them
        return raw.argmax(1)

    def _answers(self, x: Tensor) -> Iterator[tuple[Tensor, Answer]]:
        check_inputs(x, self.input_shape, self.name)
        for start in range(0, len(x), self.batch_size):
            batch = x[start : start + self.batch_size].detach()
            yield batch, self._padded(batch)

    def _padded(self, batch: Tensor) -> Answer:
        rows = len(batch)
        if self._fixed is None or rows == self._fixed:
            return self._ask(batch)
        filler = batch[-1:].expand(self._fixed - rows, *batch.shape[1:])
        return self._ask(torch.cat([batch, filler])).cut(rows)
