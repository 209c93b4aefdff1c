"""Feature shuffling: let hidden channels change places, without any change of answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.observers import Observer
from assay.registry import register
from assay.removal.base import Removal
from assay.removal.layers import WEIGHTED, Weighted, copied

__all__ = ["FeatureShuffling"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_PROBES = 8
_CLOSE = 1e-6  # of the largest logit, in float64, where honest reordering leaves 1e-15


@dataclass(frozen=True, eq=False)
class _Link:
    """A layer that writes channels, the normalisations behind it, and the one that reads them."""

    writer: Weighted
    norms: tuple[nn.Module, ...]
    reader: Weighted


@register("feature-shuffling", kind="removal")
@dataclass(frozen=True, kw_only=True)
class FeatureShuffling(Removal):
    """Permute the hidden channels of each layer and of the one that reads it alike.

    The network answers as before, so that accuracy and every mark in answers stay. Gone are
    marks at fixed places in weights or activations; this attack is the control that shows
    which evidence reads them. Channels that meet others in a sum stay where they are:
    every permutation is tried on random inputs in float64, and undone if answers change.

    Data are needed only for the shape of inputs of networks that are not of ours.

    References
    ----------
    Lukas et al., "SoK: How Robust is Image Classification Deep Neural Network
    Watermarking?", IEEE S&P 2022 (feature shuffling).

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-8-8", (3,), 2))
    >>> washed = FeatureShuffling().run(model).model
    >>> x = torch.rand(5, 3)
    >>> washed.digest == model.digest, torch.allclose(washed.scores(x), model.scores(x), atol=1e-6)
    (False, True)
    """

    name: ClassVar[str] = "feature-shuffling"

    @property
    def needs_data(self) -> bool:
        """False: nothing is learned."""
        return False

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - nothing takes time
        checkpoint: Path | None = None,  # noqa: ARG002 - nothing is trained
    ) -> nn.Module:
        """Permute what can be permuted in a copy."""
        network = copied(module, self.name)
        shape = getattr(network, "input_shape", None) if data is None else data.input_shape
        if shape is None:
            msg = f"{self.name} does not know the shape of this network's inputs; pass some data"
            raise InvalidInput(msg)
        generator = torch.Generator().manual_seed(rng)
        device = next(network.parameters()).device
        x = torch.rand(_PROBES, *shape, generator=generator, dtype=torch.float64).to(device)
        network.double()
        moved = sum([self._shuffle(network, link, x, generator) for link in _links(network, x)])
        if not moved:
            msg = f"{self.name} finds no hidden channels in this network that can change places"
            raise InvalidInput(msg)
        return network.float()

    @torch.no_grad()
    def _shuffle(self, network: nn.Module, link: _Link, x: Tensor, generator: torch.Generator) -> bool:
        """Permute one link and say whether that left the answers alone."""
        before = network(x)
        parts = [link.writer, *link.norms, link.reader]
        kept = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]
        channels = len(link.writer.weight)
        order = torch.randperm(channels, generator=generator).to(x.device)
        for part in parts[:-1]:
            for value in part.state_dict().values():
                if value.ndim:
                    value.copy_(value[order])
        weight = link.reader.weight
        grouped = weight.view(len(weight), channels, -1)
        weight.copy_(grouped[:, order].reshape(weight.shape))
        if float((network(x) - before).abs().max()) <= _CLOSE * float(before.abs().max().clamp_min(1)):
            return True
        for part, state in zip(parts, kept, strict=True):
            part.load_state_dict(state)
        return False


def _links(network: nn.Module, x: Tensor) -> list[_Link]:
    """Return pairs of layers that run one after the other, each layer once, with norms between."""
    ran: list[nn.Module] = []

    def note(layer: nn.Module, _inputs: tuple[Any, ...]) -> None:
        ran.append(layer)

    layers = [m for m in network.modules() if isinstance(m, (*WEIGHTED, *_NORMS))]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    places = [place for place, layer in enumerate(ran) if isinstance(layer, WEIGHTED)]
    found = []
    for start, end in itertools.pairwise(places):
        writer, reader, norms = ran[start], ran[end], tuple(ran[start + 1 : end])
        assert isinstance(writer, WEIGHTED)
        assert isinstance(reader, WEIGHTED)
        once = all(ran.count(layer) == 1 for layer in (writer, reader, *norms))
        plain = all(isinstance(m.weight, nn.Parameter) for m in (writer, reader))
        grouped = any(getattr(m, "groups", 1) != 1 for m in (writer, reader))
        if once and plain and not grouped and reader.weight.shape[1] % len(writer.weight) == 0:
            fitting = tuple(n for n in norms if getattr(n, "num_features", 0) == len(writer.weight))
            found.append(_Link(writer, fitting, reader))
    return found
