"""A function of the user's that answers for a model we cannot open otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from assay.adapters.answers import Answer, Outputs, read_answer
from assay.adapters.base import BatchedModel
from assay.adapters.imported import import_object
from assay.errors import InvalidInput
from assay.model import Access

__all__ = ["CallableModel"]


class CallableModel(BatchedModel):
    """A Python function from a batch to labels ``[n]`` or scores ``[n, k]``.

    Where number of classes or access are not given, one row of zeros is asked to see.

    Parameters
    ----------
    function
        The function, or ``module:function`` to import, which runs that module's code.
    input_shape
        Shape of one input.
    num_classes
        Number of classes; needed if the function answers labels.
    access
        What to offer; what the function answers unless given.
    name
        How messages and reports call it; the function's name unless given.
    outputs
        What float answers are; see `assay.adapters.answers.ScoreScale`.
    takes
        ``"array"`` for numpy arrays or ``"tensor"``; unless given, a first parameter
        annotated as a tensor gets tensors and all others get arrays.
    batch_size
        Rows to pass at a time.

    Raises
    ------
    InvalidInput
        If this is no function, its answer is neither labels nor scores, or
        ``num_classes`` is needed.

    Examples
    --------
    >>> model = CallableModel(lambda x: (x.sum(1) > 0).astype(int), (2,), 2)
    >>> model.access.title, model.labels(torch.tensor([[1.0, 1.0], [-1.0, 0.0]]))
    ('labels', tensor([1, 0]))
    """

    def __init__(
        self,
        function: Callable[[Any], Any] | str,
        input_shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        *,
        access: Access | None = None,
        name: str | None = None,
        outputs: Outputs = "auto",
        takes: Literal["array", "tensor"] | None = None,
        batch_size: int = 512,
    ) -> None:
        target = import_object(function) if isinstance(function, str) else function
        title = (
            f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', type(target).__name__)}"
        )
        known = function if isinstance(function, str) else str(getattr(target, "__name__", title))
        label = name or known
        if not callable(target):
            msg = f"{label} must be a function, got {type(target).__name__}"
            raise InvalidInput(msg)
        if input_shape is None:
            msg = f"the function {label} does not say its input shape; pass input_shape"
            raise InvalidInput(msg)
        if takes not in (None, "array", "tensor"):
            msg = f"takes must be 'array' or 'tensor', got {takes!r}"
            raise InvalidInput(msg)
        super().__init__(
            name=label,
            input_shape=input_shape,
            digest=f"callable:{title}",
            batch_size=batch_size,
            outputs=outputs,
        )
        self._function = target
        self._tensors = _wants_tensors(target) if takes is None else takes == "tensor"
        stated = num_classes is not None and access in (Access.LABELS, Access.SCORES)
        self._settle(num_classes, access, access if stated else None)

    def _ask(self, x: Tensor) -> Answer:
        # A copy, so that a function that works in place cannot change the caller's data.
        given: Any = x.cpu().clone()
        try:
            found = self._function(given if self._tensors else given.numpy())
        except Exception as error:  # the user's function may raise anything
            msg = f"{self.name} raised {type(error).__name__} on a batch of shape {list(x.shape)}: {error}"
            raise InvalidInput(msg) from error
        if not isinstance(found, Tensor):
            try:
                array = np.asarray(found)
            except ValueError as error:
                msg = f"{self.name} answered rows of different lengths"
                raise InvalidInput(msg) from error
            if array.dtype.kind not in "iufb":
                msg = f"{self.name} answered {type(found).__name__} of {array.dtype}; expected numbers"
                raise InvalidInput(msg)
            found = torch.from_numpy(np.ascontiguousarray(array))
        return read_answer([found.detach().cpu()], len(x), self._scale.outputs, self.name)


def _wants_tensors(function: Callable[..., Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters.values()))
    except (TypeError, ValueError, StopIteration):
        return False
    # Annotations are text under `from __future__ import annotations`.
    return first.annotation is Tensor or str(first.annotation) in ("Tensor", "torch.Tensor")
