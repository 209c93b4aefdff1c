"""A victim that notices everything done to it, whoever does it and by whatever way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.adapters.torch_model import TorchModel
from assay.model import Access

__all__ = ["SpyModel"]


class SpyModel:
    """A network that counts rows and remembers which access was used.

    It counts below the ledger: rows that reach the network by its methods, and rows
    that reach the module or any of its layers directly. Copies of the module are the
    copier's own and are not counted.

    Parameters
    ----------
    module
        From inputs to logits. It gets hooks, so hand in one that nobody else uses.
    input_shape, num_classes
        Shape of one input and number of classes.
    access
        What the model says that it offers. It answers everything all the same, so
        that whoever asks for more is found out.

    Attributes
    ----------
    rows
        Rows answered so far.
    used
        Access that was made use of.

    Examples
    --------
    >>> from assay.nets import build
    >>> spy = SpyModel(build("mlp-4", (3,), 2), (3,), 2)
    >>> spy.labels(torch.zeros(5, 3)).shape, spy.module(torch.zeros(2, 3)).shape
    (torch.Size([5]), torch.Size([2, 2]))
    >>> spy.rows, spy.used.title, spy.changes()
    (7, 'weights', [])
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: Sequence[int],
        num_classes: int,
        access: Access = Access.WEIGHTS | Access.EMBEDDINGS,
    ) -> None:
        self._model = TorchModel(module, input_shape, num_classes, name="spy")
        self._module = module
        self.name, self.digest, self.access = self._model.name, self._model.digest, access
        self.input_shape, self.num_classes = tuple(input_shape), num_classes
        self.rows, self.used = 0, Access.NONE
        self._depth = 0
        # Hooks are copied with a module; only these very layers are the victim.
        own = {id(layer) for layer in module.modules()}

        def enter(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            if id(layer) in own:
                if self._depth == 0:
                    self.rows += len(inputs[0])
                self._depth += 1

        def leave(layer: nn.Module, _inputs: tuple[Any, ...], _output: object) -> None:
            if id(layer) in own:
                self._depth -= 1

        for layer in module.modules():
            layer.register_forward_pre_hook(enter)
            layer.register_forward_hook(leave, always_call=True)
        self._found = self._state()

    def labels(self, x: Tensor) -> Tensor:
        """Return predicted classes, int64 ``[n]``."""
        return self._answer(Access.LABELS, self._model.labels, x)

    def scores(self, x: Tensor) -> Tensor:
        """Return class probabilities, float ``[n, num_classes]``."""
        return self._answer(Access.SCORES, self._model.scores, x)

    def embeddings(self, x: Tensor) -> Tensor:
        """Return features, float ``[n, d]``."""
        return self._answer(Access.EMBEDDINGS, self._model.embeddings, x)

    @property
    def module(self) -> nn.Module:
        """The network itself."""
        self.used |= Access.WEIGHTS
        return self._module

    def changes(self) -> list[str]:
        """Return what is no longer as it was handed in: weights, gradients, training flags."""
        before, now = self._found, self._state()
        if before.keys() != now.keys():
            return sorted(before.keys() ^ now.keys())
        return [name for name, value in before.items() if not _same(value, now[name])]

    def _answer(self, level: Access, ask: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        self.used |= level
        self.rows += len(x)
        self._depth += 1  # layers reached from here are not counted again
        try:
            return ask(x)
        finally:
            self._depth -= 1

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {f"weight {k}": v.clone() for k, v in self._module.state_dict().items()}
        for name, value in self._module.named_parameters():
            state[f"gradient of {name}"] = None if value.grad is None else value.grad.clone()
            state[f"requires_grad of {name}"] = value.requires_grad
        for name, layer in self._module.named_modules():
            state[f"training flag of {name or 'the network'}"] = layer.training
        return state


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return one is other
