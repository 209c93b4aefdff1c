"""Many networks of one architecture asked at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from assay.errors import EvidenceTampered
from assay.nets import Network, build

__all__ = ["StackedNetworks", "stack_weights"]

# Above this many rows a batched convolution is slower than one network after the other: its grouped
# kernels leave the cache, while a single network in channels-last order stays in it.
_FEW_ROWS = 4
_IMAGE_AXES = 3


def stack_weights(networks: Sequence[Network]) -> dict[str, Tensor]:
    """Return the weights of networks of one architecture, each ``[networks, ...]``."""
    parameters, buffers = stack_module_state(list(networks))
    return {name: value.detach() for name, value in {**parameters, **buffers}.items()}


class StackedNetworks:
    """Answers of an ensemble, ``[networks, n, classes]``.

    Perceptrons, and few images, run as one batched computation over stacked weights; more
    images run network by network.

    Parameters
    ----------
    architecture, input_shape, num_classes
        From which `assay.nets.build` makes one network.
    weights
        As `stack_weights` returns them.

    Raises
    ------
    EvidenceTampered
        If the weights do not fit the architecture.

    Examples
    --------
    >>> members = [build("mlp-4", (3,), 2, rng).eval() for rng in range(5)]
    >>> stack = StackedNetworks("mlp-4", (3,), 2, stack_weights(members))
    >>> stack.logits(torch.zeros(7, 3)).shape
    torch.Size([5, 7, 2])
    """

    def __init__(
        self,
        architecture: str,
        input_shape: tuple[int, ...],
        num_classes: int,
        weights: Mapping[str, Tensor],
    ) -> None:
        with torch.device("meta"):
            self._skeleton = build(architecture, input_shape, num_classes).eval()
        expected = self._skeleton.state_dict()
        counts = {len(v) for v in weights.values() if v.ndim}
        fits = expected.keys() == weights.keys() and len(counts) == 1
        if not fits or any(weights[k].shape[1:] != v.shape for k, v in expected.items()):
            msg = f"the stored weights of the ensemble do not fit {architecture}"
            raise EvidenceTampered(msg)
        self.count = counts.pop()
        self._weights = dict(weights)
        self._images = len(input_shape) == _IMAGE_AXES and any(
            isinstance(part, nn.Conv2d) for part in self._skeleton.modules()
        )
        self._single = [self._network(i) for i in range(self.count)] if self._images else []
        self.logits(torch.zeros(1, *input_shape))  # loads what vmap needs, so that no query waits for it

    def logits(self, x: Tensor) -> Tensor:
        """Return float32 logits ``[networks, n, classes]`` of one batch ``[n, *input_shape]``."""
        x = x.float()
        with torch.no_grad():
            if not self._images or len(x) <= _FEW_ROWS:
                return vmap(self._call, in_dims=(0, None))(self._weights, x)
            x = x.contiguous(memory_format=torch.channels_last)
            return torch.stack([network(x) for network in self._single])

    def _call(self, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        answer: Tensor = functional_call(self._skeleton, weights, (x,))
        return answer

    def _network(self, index: int) -> nn.Module:
        network = copy.deepcopy(self._skeleton)
        state = {name: _laid_out(value[index]) for name, value in self._weights.items()}
        network.load_state_dict(state, assign=True)
        return network.eval()


def _laid_out(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value  # noqa: PLR2004
