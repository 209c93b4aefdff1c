"""A language model's service: the most likely tokens only, and a bias that the caller sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.defences.base import Defence, Dressed
from assay.errors import InvalidInput
from assay.model import Access, Model
from assay.registry import register

__all__ = ["LogitBias"]


@register("logit-bias", kind="defence")
@dataclass(frozen=True, kw_only=True)
class LogitBias(Defence):
    """Show the most likely tokens after adding the caller's bias to a few logits.

    The model behind takes a prompt ``[p]`` and gives scores over its vocabulary. A
    question to the service is ``[p + 2 * slots]``: the prompt, then ``slots`` token
    numbers (-1 for an unused slot), then their biases in nats.

    ``scores`` has the probabilities of the ``k`` most likely tokens and 0 elsewhere;
    ``embeddings`` is the same answer as it is sent, ``[n, 2 * k]``: the tokens, most likely
    first, then their log-probabilities.

    Parameters
    ----------
    k
        Tokens shown, at least 1.
    slots
        Biases that one question may set, at least 0.

    References
    ----------
    Carlini et al., "Stealing Part of a Production Language Model", ICML 2024, section 4.

    Examples
    --------
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: x, (4,), outputs="logits")
    >>> service = LogitBias(k=2, slots=1).wear(model)
    >>> question = torch.tensor([[0.0, 1.0, 2.0, 3.0, 0.0, 100.0]])
    >>> service.embeddings(question)[0, :2].tolist()
    [0.0, 3.0]
    """

    name: ClassVar[str] = "logit-bias"

    k: int = 5
    slots: int = 4

    def __post_init__(self) -> None:
        if self.k < 1 or self.slots < 0:
            msg = f"k must be at least 1 and slots at least 0, got {self.k} and {self.slots}"
            raise InvalidInput(msg)

    def wear(self, model: Model) -> Dressed:
        """Return the service of a language model."""
        if self.k > model.num_classes:
            msg = f"{model.name} has {model.num_classes} tokens, fewer than k = {self.k}"
            raise InvalidInput(msg)
        return _Service(model, self)


class _Service(Dressed):
    def __init__(self, model: Model, how: LogitBias) -> None:
        self._prompt = math.prod(model.input_shape)
        super().__init__(
            model,
            how,
            access=Access.SCORES | Access.EMBEDDINGS,
            complete=how.k >= model.num_classes,
            missing=False,
            input_shape=(self._prompt + 2 * how.slots,),
        )
        self._how = how

    def _top(self, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens int64 ``[n, k]`` and their log-probabilities."""
        prompts, which = np.unique(x[:, : self._prompt].numpy(), axis=0, return_inverse=True)
        shaped = torch.from_numpy(prompts).reshape(len(prompts), *self._model.input_shape)
        with np.errstate(divide="ignore"):
            z = np.log(self._plain(shaped))[which.reshape(-1)]
        slots = x[:, self._prompt :].double().numpy().reshape(len(x), 2, self._how.slots)
        token, bias = slots[:, 0], slots[:, 1]
        if not ((token == np.rint(token)) & (token >= -1) & (token < self.num_classes)).all():
            msg = f"{self.name}: a biased token must be a whole number from -1 to {self.num_classes - 1}"
            raise InvalidInput(msg)
        row, slot = np.nonzero(token >= 0)
        np.add.at(z, (row, token[row, slot].astype(np.int64)), bias[row, slot])
        top = np.argpartition(-z, self._how.k - 1, axis=1)[:, : self._how.k]
        order = np.argsort(-np.take_along_axis(z, top, axis=1), axis=1, kind="stable")
        top = np.take_along_axis(top, order, axis=1)
        shown = np.take_along_axis(z, top, axis=1)
        peak = shown[:, :1]
        total = peak + np.log(np.exp(z - peak).sum(axis=1, keepdims=True))
        return top, shown - total

    def _scores(self, x: Tensor) -> np.ndarray:
        top, logs = self._top(x)
        shown = np.zeros((len(x), self.num_classes))
        np.put_along_axis(shown, top, np.exp(logs), axis=1)
        return shown

    def _embeddings(self, x: Tensor) -> np.ndarray:
        top, logs = self._top(x)
        return np.concatenate([top.astype(np.float64), logs], axis=1)
