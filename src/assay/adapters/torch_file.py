"""Weights from files: safetensors, or state dictionaries read without unpickling."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from assay.adapters.base import checked_shape
from assay.adapters.imported import import_object, is_import_spec
from assay.adapters.torch_model import TorchModel
from assay.errors import InvalidInput
from assay.model import Access
from assay.nets import Network, build

__all__ = ["load_safetensors", "load_state_file"]

_STATE_KEYS = ("state_dict", "model_state_dict", "model")


def load_safetensors(
    path: str | Path,
    architecture: str | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    *,
    name: str | None = None,
    access: Access | None = None,
    device: str = "cpu",
    batch_size: int = 128,
) -> TorchModel:
    """Open a safetensors file; what its metadata says need not be said again.

    Parameters
    ----------
    path
        File written by `save_model`, or by anyone for a known architecture.
    architecture
        Registered name such as ``"wrn-16-1"``, or ``module:function`` of the user's own
        code, called with ``input_shape`` and ``num_classes`` if it has parameters of
        these names or requires two, and with nothing otherwise. A file's metadata may
        only give a registered name: a file cannot choose code to import.
    input_shape, num_classes
        Shape of one input and number of classes.
    name, access, device, batch_size
        See `TorchModel`.

    Raises
    ------
    InvalidInput
        If the file is damaged, something is not known, or keys do not fit.

    Examples
    --------
    >>> import tempfile
    >>> from assay.adapters import save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save_model(build("mlp-4", (3,), 2), Path(folder) / "net.safetensors")
    ...     load_safetensors(file).input_shape
    (3,)
    """
    source = Path(path)
    try:
        with safe_open(str(source), "pt") as file:
            meta = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        msg = f"cannot read {source} as safetensors: {error}"
        raise InvalidInput(msg) from error
    try:
        shape = json.loads(meta["input_shape"]) if "input_shape" in meta else None
        classes = int(meta["num_classes"]) if "num_classes" in meta else None
    except ValueError as error:
        msg = f"the metadata of {source} is malformed: {error}"
        raise InvalidInput(msg) from error
    stated = meta.get("architecture")
    if architecture is None and stated is not None and is_import_spec(stated):
        msg = f"{source} asks to import {stated!r}; if you trust that code, pass it as architecture yourself"
        raise InvalidInput(msg)
    module, shape, classes = _assemble(
        source,
        tensors,
        architecture or stated,
        shape if input_shape is None else input_shape,
        classes if num_classes is None else num_classes,
    )
    return TorchModel(
        module, shape, classes, name=name or source.stem, access=access, device=device, batch_size=batch_size
    )


def load_state_file(
    path: str | Path,
    architecture: str | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    *,
    name: str | None = None,
    access: Access | None = None,
    device: str = "cpu",
    batch_size: int = 128,
) -> TorchModel:
    """Open a ``.pt`` or ``.pth`` state dictionary with ``torch.load(weights_only=True)``.

    The dictionary may sit under ``state_dict``, ``model_state_dict`` or ``model``, and
    its keys may carry the ``module.`` prefix of data-parallel training. Parameters are
    those of `load_safetensors`; the architecture must be given.

    Raises
    ------
    InvalidInput
        If the file holds more than tensors, or keys do not fit.
    """
    source = Path(path)
    if not source.is_file():
        msg = f"there is no file {source}"
        raise InvalidInput(msg)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle may fail in any way
        msg = (
            f"{source} is no plain state dictionary, and whole pickled modules are refused because reading "
            "them runs code from the file; convert it where you trust it, with "
            "safetensors.torch.save_file(module.state_dict(), 'model.safetensors')"
        )
        raise InvalidInput(msg) from error
    tensors = _state(content, source)
    module, shape, classes = _assemble(source, tensors, architecture, input_shape, num_classes)
    return TorchModel(
        module, shape, classes, name=name or source.stem, access=access, device=device, batch_size=batch_size
    )


def _state(content: Any, source: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        content = next((content[k] for k in _STATE_KEYS if isinstance(content.get(k), Mapping)), content)
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        msg = f"{source} must hold a dictionary of tensors (module.state_dict()), possibly under 'state_dict'"
        raise InvalidInput(msg)
    parallel = bool(content) and all(str(key).startswith("module.") for key in content)
    return {str(k).removeprefix("module.") if parallel else str(k): v for k, v in content.items()}


def _assemble(
    source: Path,
    tensors: dict[str, Tensor],
    architecture: str | None,
    shape: Sequence[int] | None,
    classes: int | None,
) -> tuple[nn.Module, Sequence[int], int]:
    """Build the network and fill it, after its keys and shapes were compared."""
    if architecture is None:
        msg = f"{source} does not name its architecture; pass one such as 'wrn-16-1' or 'module:function'"
        raise InvalidInput(msg)
    if is_import_spec(architecture):
        module = _own_network(architecture, shape, classes)
        if isinstance(module, Network):
            shape, classes = shape or module.input_shape, classes or module.num_classes
    if shape is None or classes is None:
        msg = f"{source} does not say its input shape and number of classes; pass input_shape and num_classes"
        raise InvalidInput(msg)
    shape = checked_shape(shape, str(source))
    if not is_import_spec(architecture):
        # On the meta device first: a forged width must not allocate memory before it is compared.
        with torch.device("meta"):
            _check_keys(build(architecture, shape, classes), tensors, source, architecture)
        module = build(architecture, shape, classes)
    _check_keys(module, tensors, source, architecture)
    module.load_state_dict(tensors)
    return module.eval(), shape, classes


def _own_network(spec: str, shape: Sequence[int] | None, classes: int | None) -> nn.Module:
    make = import_object(spec)
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError) as error:
        msg = f"{spec} must be a function that returns a network"
        raise InvalidInput(msg) from error
    named = {"input_shape", "num_classes"} <= {p.name for p in parameters}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = sum(p.default is p.empty and p.kind in positional for p in parameters)
    wants = named or required == 2  # noqa: PLR2004 - input_shape and num_classes
    if wants and (shape is None or classes is None):
        msg = f"{spec} wants the input shape and the number of classes; pass input_shape and num_classes"
        raise InvalidInput(msg)
    if named:
        module = make(input_shape=tuple(shape or ()), num_classes=classes)
    elif wants:
        module = make(tuple(shape or ()), classes)
    else:
        module = make()
    if not isinstance(module, nn.Module):
        msg = f"{spec} must return a torch.nn.Module, got {type(module).__name__}"
        raise InvalidInput(msg)
    return module


def _check_keys(module: nn.Module, tensors: Mapping[str, Tensor], source: Path, architecture: str) -> None:
    expected = module.state_dict()
    faults = {
        "lacks": sorted(expected.keys() - tensors.keys()),
        "has unexpected": sorted(tensors.keys() - expected.keys()),
        "has other shapes for": [
            f"{k} {list(tensors[k].shape)} instead of {list(expected[k].shape)}"
            for k in sorted(expected.keys() & tensors.keys())
            if tensors[k].shape != expected[k].shape
        ],
    }
    found = [
        f"{verb} {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"  # noqa: PLR2004
        for verb, keys in faults.items()
        if keys
    ]
    if found:
        msg = f"{source} does not fit {architecture}: it {'; it '.join(found)}"
        raise InvalidInput(msg)
