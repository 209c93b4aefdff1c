"""Transfer learning: keep features, unlearn answers, on a related task or from another network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from assay.adapters.torch_file import load_safetensors
from assay.data import load_data
from assay.data.dataset import Dataset
from assay.data.pools import foreign
from assay.errors import InvalidInput
from assay.nets import Network, predict, train
from assay.observers import Observer
from assay.registry import register
from assay.removal.layers import copied, last_layer, redraw, replace
from assay.removal.tuning import Tuned, check_choice

__all__ = ["TransferLearning", "turns"]

_IMAGES = 3


@register("transfer-learning", kind="removal")
@dataclass(frozen=True, kw_only=True)
class TransferLearning(Tuned):
    """Take features to another task and back, or learn the task with features from elsewhere.

    The network gets a new head for the related task and all of it is trained there, with
    that task's true labels: nothing asks for the mark any more. Then the owner's classes
    come back, in one of the ways of ``back``. With ``features`` of a network that was
    trained elsewhere, nothing of the copy is left but the labels that it gives.

    **What evidence can ask.** A test that asks for classes needs the owner's classes, which
    is why they come back here: with a new head (``"head"``, ``"all"``), learned on the data,
    or through a map of classes without any training (``"map"``), which is what an owner has
    to guess about a model that speaks other classes. A thief who keeps the other task's
    model and publishes nothing else can be met with feature-space evidence alone (radioactive
    data), for which the two tasks need not share a class.

    Parameters
    ----------
    features
        ``"copy"``, or a safetensors file with an architecture of ours, of the same input
        shape; its classes may be others.
    task
        The related task: ``"turns"``, to tell by how much an image was turned; what
        `assay.data.load_data` knows, brought into the copy's shape; or ``"none"``.
    limit
        Rows of the related task at most, at least 2.
    back
        ``"head"``: a new last layer, trained alone; ``"all"``: with all others;
        ``"map"``: every class is answered where the related task's most similar class is,
        by which one the rows of each class get; needs as many classes as the owner has.

    References
    ----------
    Yosinski, Clune, Bengio and Lipson, "How transferable are features in deep neural
    networks?", NeurIPS 2014; Gidaris, Singh and Komodakis, "Unsupervised Representation
    Learning by Predicting Image Rotations", ICLR 2018 (``"turns"``); as a removal, Jia et al.,
    USENIX Security 2021, section 6, and Lukas et al., IEEE S&P 2022.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data.embedded import digits
    >>> from assay.nets import build
    >>> model, data = TorchModel(build("mlp-16", (1, 8, 8), 10)), digits().subset(range(60))
    >>> washed = TransferLearning(epochs=1).run(model, data).model
    >>> washed.num_classes, washed.digest == model.digest
    (10, False)
    """

    name: ClassVar[str] = "transfer-learning"
    features: str = "copy"
    task: str = "turns"
    limit: int = 5000
    back: Literal["head", "all", "map"] = "head"
    epochs: int = 10
    lr: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "back", self.back, ("head", "all", "map"))
        if self.limit < 2:  # noqa: PLR2004 - see `Trained.rows`
            msg = f"limit of {self.name} must be at least 2, got {self.limit}"
            raise InvalidInput(msg)
        if self.back == "map" and self.task == "none":
            msg = f"{self.name} has no other classes to map with task=none; use back=head"
            raise InvalidInput(msg)

    def related(self, data: Dataset, rng: int) -> Dataset:
        """Return the related task.

        Raises
        ------
        InvalidInput
            If it cannot be brought into the shape of ``data``.
        """
        if self.task == "turns":
            return turns(data, self.limit, rng)
        found = load_data(self.task, limit=self.limit, rng=rng)
        x = foreign(found, data.input_shape, found.classes, value_range=data.value_range)
        return Dataset(x.x, found.y, found.classes, x.value_range, found.name)

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Train away from the owner's classes and come back."""
        rows = self.rows(data)
        targets = self.targets(copied(module, self.name), rows)
        network = copied(module, self.name) if self.features == "copy" else self._elsewhere(rows)
        head, classes = _head(network, rows, self.name), rows.num_classes
        if self.task != "none":
            other = self.rows(self.related(rows, rng))
            if self.back == "map" and other.num_classes < classes:
                msg = (
                    f"a map from the {other.num_classes} classes of {other.name} cannot name {classes}; "
                    "use back=head or another task"
                )
                raise InvalidInput(msg)
            head = _new_head(network, head, other.num_classes, rng)
            self._learn(network, other, rng, observers, checkpoint)
        if self.back == "map":
            _map(network, head, rows, targets)
            return network.eval()
        head = _new_head(network, head, classes, rng)
        last = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.back")
        only = head if self.back == "head" else None
        self.tune(network, rows, targets, only=only, rng=rng, observers=observers, checkpoint=last)
        return network

    def _elsewhere(self, rows: Dataset) -> nn.Module:
        found = load_safetensors(self.features)
        network = copied(found.module, self.name)
        if not isinstance(network, Network) or found.input_shape != rows.input_shape:
            msg = (
                f"{self.features} takes inputs of shape {found.input_shape}, "
                f"{rows.name} has {rows.input_shape}"
            )
            raise InvalidInput(msg)
        return network

    def _learn(
        self,
        network: nn.Module,
        other: Dataset,
        rng: int,
        observers: Sequence[Observer],
        checkpoint: Path | None,
    ) -> None:
        recipe = self.recipe
        assert recipe is not None
        # The normalisation stays: the owner's inputs come back through it.
        train(
            network,
            other,
            recipe,
            fit_normalization=False,
            rng=rng,
            observers=observers,
            checkpoint=checkpoint,
            task=self.name,
        )


def turns(data: Dataset, limit: int, rng: int = 0) -> Dataset:
    """Return images turned by 0, 90, 180 or 270 degrees, labelled by how much.

    Images that are not square are mirrored instead: not at all, across, up and down, both.

    Raises
    ------
    InvalidInput
        If the inputs are no images.

    Examples
    --------
    >>> data = Dataset(torch.rand(6, 1, 4, 4), torch.arange(6) % 2, ("a", "b"))
    >>> turns(data, 10).x.shape, turns(data, 10).num_classes
    (torch.Size([10, 1, 4, 4]), 4)
    """
    if len(data.input_shape) != _IMAGES:
        msg = f"{data.name} holds no images to turn; name a related task, as in task=wine or task=rows.npz"
        raise InvalidInput(msg)
    if data.input_shape[1] == data.input_shape[2]:
        versions = [torch.rot90(data.x, quarter, (2, 3)) for quarter in range(4)]
    else:
        versions = [data.x, data.x.flip(3), data.x.flip(2), data.x.flip((2, 3))]
    x, y = torch.cat(versions), torch.arange(4).repeat_interleave(len(data))
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(rng))[:limit]
    names = ("0", "1", "2", "3")
    return Dataset(x[rows].contiguous(), y[rows], names, data.value_range, f"turned {data.name}")


def _head(network: nn.Module, rows: Dataset, attack: str) -> nn.Linear:
    """Return the last layer; of a network of ours, however many classes it has."""
    head = network.head if isinstance(network, Network) else last_layer(network, rows, attack)
    if not isinstance(head, nn.Linear):
        msg = f"{attack} needs a network whose last layer is linear, not {type(head).__name__}"
        raise InvalidInput(msg)
    return head


def _new_head(network: nn.Module, old: nn.Linear, classes: int, rng: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):  # the constructor draws weights that are replaced below
        head = nn.Linear(old.in_features, classes).to(old.weight.device)
    redraw(head, rng)
    replace(network, old, head)
    if isinstance(network, Network):
        network.num_classes = classes
    return head


@torch.no_grad()
def _map(network: nn.Module, head: nn.Linear, rows: Dataset, targets: Tensor) -> None:
    """Let each class be answered by the other task's class that its rows get, one for one."""
    given = predict(network, rows.x).argmax(1)
    counts = np.zeros((rows.num_classes, len(head.weight)))
    np.add.at(counts, (targets.numpy(), given.numpy()), 1)
    chosen = torch.from_numpy(linear_sum_assignment(-counts)[1]).to(head.weight.device)
    weight, bias = head.weight[chosen], head.bias[chosen]
    mapped = _new_head(network, head, rows.num_classes, 0)
    mapped.weight.copy_(weight)
    mapped.bias.copy_(bias)
