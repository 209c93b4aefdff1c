"""A PyTorch network in memory, and its file."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from assay.adapters.answers import Answer
from assay.adapters.base import BatchedModel
from assay.adapters.restricted import restrict
from assay.errors import InvalidInput
from assay.model import Access, Model, check_inputs, require
from assay.nets import Network

__all__ = ["TorchModel", "save_model", "weights_digest"]


class TorchModel(BatchedModel):
    """A network held in memory, asked in evaluation mode and without gradients.

    The network is left as it was found: training flags are restored after each call,
    and one that lives on another device is copied there rather than moved. ``digest``
    describes the weights at construction.

    Parameters
    ----------
    module
        From inputs ``[n, *input_shape]`` to logits ``[n, num_classes]``, normalisation
        included.
    input_shape, num_classes
        Shape of one input and number of classes. A `Network` of ours knows both.
    name
        How messages and reports call it.
    access
        What to offer: weights, and embeddings for a `Network`, unless stated.
    device
        Where to compute; answers are on the CPU anyway.
    batch_size
        Rows to compute at a time.

    Raises
    ------
    InvalidInput
        If this is no module, or shape and classes are missing or do not fit.
    AccessDenied
        If embeddings are asked of a module that has no ``embed`` of ours.

    Examples
    --------
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> Access.WEIGHTS in model.access, model.scores(torch.zeros(5, 3)).shape
    (True, torch.Size([5, 2]))
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        *,
        name: str = "net",
        access: Access | None = None,
        device: str | torch.device = "cpu",
        batch_size: int = 128,
    ) -> None:
        if not isinstance(module, nn.Module):
            msg = f"{name} must be a torch.nn.Module, got {type(module).__name__}"
            raise InvalidInput(msg)
        ours = isinstance(module, Network)
        shape = module.input_shape if input_shape is None and isinstance(module, Network) else input_shape
        classes = module.num_classes if num_classes is None and isinstance(module, Network) else num_classes
        if shape is None or classes is None:
            msg = (
                f"{name} does not say its input shape and number of classes; pass input_shape and num_classes"
            )
            raise InvalidInput(msg)
        digest = weights_digest(module)
        super().__init__(name=name, input_shape=shape, digest=digest, batch_size=batch_size, outputs="logits")
        self._offer(classes, access, Access.WEIGHTS | Access.EMBEDDINGS if ours else Access.WEIGHTS)
        self._device = torch.device(device)
        tensors = [*module.parameters(), *module.buffers()]
        moved = any(t.device.type != self._device.type for t in tensors)
        self._module = copy.deepcopy(module).to(self._device) if moved else module
        self._dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)

    @property
    def module(self) -> nn.Module:
        """The network itself, from inputs to logits.

        Raises
        ------
        AccessDenied
            If weights are not offered.
        """
        require(self, Access.WEIGHTS, "the network itself")
        return self._module

    def embeddings(self, x: Tensor) -> Tensor:
        """Return the features that the head sees, float ``[n, d]``.

        Raises
        ------
        AccessDenied
            If embeddings are not offered.
        InvalidInput
            If inputs or features are malformed.
        """
        require(self, Access.EMBEDDINGS, "embeddings()")
        check_inputs(x, self.input_shape, self.name)
        network = self._module
        assert isinstance(network, Network)
        with _evaluating(network):
            # One empty batch gives an empty answer of the right width.
            starts = range(0, max(len(x), 1), self.batch_size)
            parts = [network.embed(self._place(x[i : i + self.batch_size])).float().cpu() for i in starts]
        features = torch.cat(parts)
        if not bool(torch.isfinite(features).all()):
            msg = f"{self.name} answered embeddings that contain NaN or infinity"
            raise InvalidInput(msg)
        return features

    def restricted(self, access: Access | str) -> Model:
        """Return a view that offers only ``access``."""
        return restrict(self, access)

    def _place(self, x: Tensor) -> Tensor:
        return x.detach().to(self._device, self._dtype)

    def _ask(self, x: Tensor) -> Answer:
        with _evaluating(self._module):
            logits = self._module(self._place(x))
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            msg = f"{self.name} must return one float tensor of logits, got {type(logits).__name__}"
            raise InvalidInput(msg)
        return Answer(scores=logits.cpu() if logits.dtype == torch.float64 else logits.float().cpu())


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of all weights, sorted by name.

    Parameters
    ----------
    module
        Any module whose state consists of tensors.

    Raises
    ------
    InvalidInput
        If its state holds something else.

    Examples
    --------
    >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> weights_digest(a) == weights_digest(b)
    False
    >>> _ = b.load_state_dict(a.state_dict())
    >>> weights_digest(a) == weights_digest(b)
    True
    """
    total = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            msg = f"state entry {name!r} of the module is no tensor but {type(value).__name__}"
            raise InvalidInput(msg)
        flat = value.detach().cpu().contiguous().reshape(-1)
        total.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


def save_model(
    model: Model | nn.Module,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    classes: Sequence[str] | None = None,
    architecture: str | None = None,
) -> Path:
    """Write weights to a safetensors file that `open_model` opens without further words.

    Parameters
    ----------
    model
        A model that offers weights, or a network.
    path
        File to write; the old one stays until the new one is whole.
    metadata
        Further text to store.
    classes
        Names of the classes.
    architecture
        Registered name; a `Network` knows its own, other modules need not have one.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    AccessDenied
        If the model offers no weights.
    InvalidInput
        If the metadata is not text or uses a reserved key.

    Examples
    --------
    >>> import tempfile
    >>> from assay.adapters import open_model
    >>> from assay.nets import build
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save_model(build("mlp-4", (3,), 2), Path(folder) / "net.safetensors")
    ...     open_model(file).num_classes
    2
    """
    module = model if isinstance(model, nn.Module) else model.module
    known: dict[str, str] = {}
    name = module.architecture if isinstance(module, Network) else None
    shape, count = getattr(model, "input_shape", None), getattr(model, "num_classes", None)
    if architecture or name:
        known["architecture"] = architecture or str(name)
    if shape is not None and count is not None:
        known |= {"input_shape": json.dumps(list(shape)), "num_classes": str(count)}
    if classes is not None:
        known["classes"] = json.dumps(list(classes))
    extra = dict(metadata or {})
    if clash := extra.keys() & {"architecture", "input_shape", "num_classes", "classes"}:
        msg = f"metadata must not use the reserved keys {', '.join(sorted(clash))}"
        raise InvalidInput(msg)
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in extra.items()):
        msg = "metadata must map text to text; encode other values with json.dumps"
        raise InvalidInput(msg)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    # Copies, because safetensors refuses tensors that share memory (tied weights).
    tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in module.state_dict().items()}
    save_file(tensors, partial, known | extra)
    partial.replace(target)
    return target


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    # Only what was training is switched: writing every flag for every batch costs more than a small network.
    training = [part for part in module.modules() if part.training]
    if training:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True
