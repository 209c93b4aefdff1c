"""A view of a model that offers less than the model does."""

from __future__ import annotations

from torch import Tensor, nn

from assay.errors import InvalidInput
from assay.model import Access, Model, accepts_missing, require, shows_complete_scores

__all__ = ["Restricted", "restrict"]


class Restricted:
    """Pass on what ``access`` covers and refuse the rest.

    It guards against honest mistakes, such as a test that reads scores in a study of
    label-only verification; it does not hide the model from hostile code in the same
    process.

    Parameters
    ----------
    model
        The model behind.
    access
        What to offer; part of what the model offers.

    Raises
    ------
    AccessDenied
        If the model does not offer that much.
    InvalidInput
        If nothing is offered.
    """

    def __init__(self, model: Model, access: Access) -> None:
        if access == Access.NONE:
            msg = f"a view of {model.name} must offer something; choose labels, scores, embeddings or weights"
            raise InvalidInput(msg)
        require(model, access, "this view")
        self._model = model
        self.access: Access = access
        self.name, self.digest = model.name, model.digest
        self.input_shape, self.num_classes = tuple(model.input_shape), model.num_classes
        self.accepts_missing, self.complete_scores = accepts_missing(model), shows_complete_scores(model)

    def labels(self, x: Tensor) -> Tensor:
        """Return predicted classes, int64 ``[n]``."""
        require(self, Access.LABELS, "labels()")
        return self._model.labels(x)

    def scores(self, x: Tensor) -> Tensor:
        """Return class probabilities, float ``[n, num_classes]``."""
        require(self, Access.SCORES, "scores()")
        return self._model.scores(x)

    def embeddings(self, x: Tensor) -> Tensor:
        """Return features, float ``[n, d]``."""
        require(self, Access.EMBEDDINGS, "embeddings()")
        return self._model.embeddings(x)

    @property
    def module(self) -> nn.Module:
        """The network itself."""
        require(self, Access.WEIGHTS, "the network itself")
        return self._model.module


def restrict(model: Model, access: Access | str) -> Model:
    """Return a view of ``model`` that offers only ``access``.

    Parameters
    ----------
    model
        Any model.
    access
        A level or its name.

    Raises
    ------
    AccessDenied
        If the model does not offer that much.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> view = restrict(TorchModel(build("mlp-4", (3,), 2), (3,), 2), "labels")
    >>> view.labels(torch.zeros(2, 3)).shape
    torch.Size([2])
    >>> view.scores(torch.zeros(2, 3))
    Traceback (most recent call last):
    assay.errors.AccessDenied: scores() needs scores of net, which offers only labels; ...
    """
    level = Access.parse(access) if isinstance(access, str) else access
    return model if level == model.access else Restricted(model, level)
