"""A model that sees everything that is asked of it, whatever road the question takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from assay.model import Access, Model

__all__ = ["Spy", "demand"]


def demand(condition: object, sentence: str) -> None:
    """Raise `AssertionError` with a sentence unless the condition holds.

    Written out, because ``assert`` disappears under ``python -O``.

    Examples
    --------
    >>> demand(2 > 1, "arithmetic is broken")
    """
    if not condition:
        raise AssertionError(sentence)


class Spy:
    """Offers ``access`` of a model, counts every row, and remembers questions beyond ``allowed``.

    It stands *below* the meter, so that rows asked around the meter are counted too.

    Parameters
    ----------
    model
        The model behind it.
    access
        What to offer.
    allowed
        What may be used, ``access`` unless given; more is answered, but noted in ``forbidden``.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> spy = Spy(TorchModel(build("mlp-4", (3,), 2)), Access.LABELS)
    >>> spy.labels(torch.zeros(5, 3)).shape, spy.rows, spy.forbidden
    (torch.Size([5]), 5, set())
    """

    def __init__(self, model: Model, access: Access, allowed: Access | None = None) -> None:
        self._model, self.access = model, access
        self.allowed = access if allowed is None else allowed
        self.name, self.digest = model.name, model.digest
        self.input_shape, self.num_classes = tuple(model.input_shape), model.num_classes
        self.rows = 0
        self.forbidden: set[str] = set()

    def labels(self, x: Tensor) -> Tensor:
        """Return the model's labels."""
        self._note("labels", Access.LABELS, len(x))
        return self._model.labels(x)

    def scores(self, x: Tensor) -> Tensor:
        """Return the model's scores."""
        self._note("scores", Access.SCORES, len(x))
        return self._model.scores(x)

    def embeddings(self, x: Tensor) -> Tensor:
        """Return the model's embeddings."""
        self._note("embeddings", Access.EMBEDDINGS, len(x))
        return self._model.embeddings(x)

    @property
    def module(self) -> nn.Module:
        """The model's network; rows of its forward passes are counted."""
        self._note("weights", Access.WEIGHTS, 0)
        return _Watched(self._model.module, lambda rows: self._note("weights", Access.WEIGHTS, rows))

    def _note(self, what: str, needed: Access, rows: int) -> None:
        self.rows += rows
        if needed not in self.allowed:
            self.forbidden.add(what)


class _Watched(nn.Module):
    def __init__(self, inner: nn.Module, count: Callable[[int], None]) -> None:
        super().__init__()
        self.inner, self._count = inner, count

    def forward(self, x: Tensor) -> Any:
        self._count(len(x))
        return self.inner(x)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        # Whoever holds the weights may copy them, and what is done with a copy asks the model nothing.
        return copy.deepcopy(self.inner, memo)
