"""Input preprocessing: put compression, blur, noise or fewer levels before the copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import Network
from assay.nets.input_layers import INPUT_LAYERS, InputLayer, put_in_front
from assay.observers import Observer
from assay.registry import register
from assay.removal.adversarial_inputs import limits
from assay.removal.base import Removal
from assay.removal.layers import copied
from assay.removal.tuning import check_choice

__all__ = ["InputPreprocessing"]


@register("input-preprocessing", kind="removal")
@dataclass(frozen=True, kw_only=True)
class InputPreprocessing(Removal):
    """Change every question before the copy sees it; the copy itself stays as it is.

    Takes away what small changes take away: triggers with fine structure and moved
    inputs, not patches of several pixels. Costs accuracy on the task alike. Nothing is
    trained, and data are needed only for the range of inputs, which is 0 to 1 without them.

    A network of ours becomes one with a layer in front (architecture ``"jpeg+wrn-16-1"``),
    which is saved, opened, washed and trained like any other. Any other network is
    wrapped and saved without architecture, as it was before.

    Parameters
    ----------
    kind
        ``"jpeg"``, ``"gaussian"`` blur, ``"mean"`` or ``"median"`` of 3 x 3 pixels,
        ``"noise"``, ``"levels"`` or ``"flip"`` (left for right). Tables can have noise
        and levels.
    strength
        Quality of JPEG in [1, 100] (65 unless given), standard deviation of the blur in
        pixels, in [0.05, 2] (0.6), or of the noise as a share of the range (0.05), number
        of levels in [2, 256] (16; b bits are 2^b levels). The others have none.

    References
    ----------
    Xu, Evans and Qi, "Feature Squeezing: Detecting Adversarial Examples in Deep Neural
    Networks", NDSS 2018; Lukas et al., "SoK: How Robust is Image Classification Deep
    Neural Network Watermarking?", IEEE S&P 2022 (input preprocessing).

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("cnn-4", (1, 8, 8), 2))
    >>> washed = InputPreprocessing(kind="levels", strength=2).run(model).model
    >>> washed.module.architecture
    'levels+cnn-4'
    >>> x = torch.rand(3, 1, 8, 8)
    >>> torch.equal(washed.scores(x), model.scores(x.round()))
    True
    """

    name: ClassVar[str] = "input-preprocessing"
    kind: Literal["jpeg", "gaussian", "mean", "median", "noise", "levels", "flip"] = "jpeg"
    strength: float | None = None

    def __post_init__(self) -> None:
        check_choice(self.name, "kind", self.kind, tuple(INPUT_LAYERS))
        _ = self._layer(0.0, 1.0)  # a strength out of range is refused here

    @property
    def needs_data(self) -> bool:
        """False: nothing is trained."""
        return False

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,  # noqa: ARG002 - nothing is drawn before the first question
        observers: Sequence[Observer] = (),  # noqa: ARG002 - nothing takes time
        checkpoint: Path | None = None,  # noqa: ARG002
    ) -> nn.Module:
        """Put the layer in front of a copy."""
        network = copied(module, self.name)
        layer = self._layer(*((0.0, 1.0) if data is None else limits(data)))
        shape = module.input_shape if isinstance(module, Network) else None
        shape = shape if data is None else data.input_shape
        if layer.images and shape is not None and len(shape) != 3:  # noqa: PLR2004 - [channels, height, width]
            msg = f"{self.kind} works on images, not on inputs of shape {shape}; use kind=noise or levels"
            raise InvalidInput(msg)
        if isinstance(network, Network):
            put_in_front(network, layer)
            return network.eval()
        return _Fronted(layer, network).eval()

    def _layer(self, low: float, high: float) -> InputLayer:
        return INPUT_LAYERS[self.kind](self.strength, low, high)


class _Fronted(nn.Module):
    """An input layer, then a network that is none of ours."""

    def __init__(self, layer: InputLayer, network: nn.Module) -> None:
        super().__init__()
        self.layer = layer.to(next(network.parameters()).device)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.layer(x))  # type: ignore[no-any-return]  # modules are untyped callables
