"""One opener for each way to reach a model; each imports its adapter when it is used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.adapters.answers import Outputs
from assay.adapters.tls import Certificate
from assay.model import Access, Model
from assay.registry import register

__all__ = ["SUFFIXES", "Opening"]


@dataclass(frozen=True)
class Opening:
    """What the caller said about a model; `assay.adapters.open_model` explains the fields."""

    architecture: str | None = None
    input_shape: tuple[int, ...] | None = None
    num_classes: int | None = None
    access: Access | None = None
    name: str | None = None
    device: str = "cpu"
    batch_size: int | None = None
    outputs: Outputs = "auto"
    output: str | None = None
    trust: tuple[str, ...] = ()
    timeout: float = 30.0
    token: str | None = None
    certificate: Certificate | None = None
    ca: str | Path | None = None

    def given(self, *fields: str) -> dict[str, Any]:
        """Return those fields that are not None, for an adapter's own defaults to apply."""
        return {f: getattr(self, f) for f in fields if getattr(self, f) is not None}


_COMMON = ("input_shape", "num_classes", "access", "name", "batch_size")


@register("torch", kind="adapter")
def open_torch(source: Any, how: Opening) -> Model:
    """Open a torch.nn.Module in memory: weights, gradients, scores, labels."""
    from assay.adapters.torch_model import TorchModel

    return TorchModel(source, **how.given(*_COMMON, "device"))


@register("safetensors", kind="adapter")
def open_safetensors(source: Path, how: Opening) -> Model:
    """Open a .safetensors file with a registered architecture or module:function."""
    from assay.adapters.torch_file import load_safetensors

    return load_safetensors(source, **how.given("architecture", *_COMMON, "device"))


@register("state-dict", kind="adapter")
def open_state_dict(source: Path, how: Opening) -> Model:
    """Open a .pt or .pth state dictionary, read with weights_only, with an architecture."""
    from assay.adapters.torch_file import load_state_file

    return load_state_file(source, **how.given("architecture", *_COMMON, "device"))


@register("exported", kind="adapter")
def open_exported(source: Path, how: Opening) -> Model:
    """Open a .pt2 program of torch.export.save, checked before torch reads it: scores, labels."""
    from assay.adapters.exported_model import ExportedModel

    return ExportedModel(source, **how.given(*_COMMON, "outputs"))


@register("onnx", kind="adapter")
def open_onnx(source: Path, how: Opening) -> Model:
    """Open an .onnx file through onnxruntime on the CPU: scores, labels."""
    from assay.adapters.onnx_model import OnnxModel

    return OnnxModel(source, **how.given(*_COMMON, "outputs", "output"))


@register("sklearn", kind="adapter")
def open_sklearn(source: Any, how: Opening) -> Model:
    """Open a fitted scikit-learn classifier, or one in a .skops file: scores, labels."""
    from assay.adapters.sklearn_model import SklearnModel, load_skops

    common = how.given("input_shape", "access", "name", "batch_size")
    if isinstance(source, Path):
        return load_skops(source, trust=how.trust, **common)
    return SklearnModel(source, **common)


@register("callable", kind="adapter")
def open_callable(source: Callable[..., Any] | str, how: Opening) -> Model:
    """Open a Python function, or module:function, that answers labels or scores."""
    from assay.adapters.callable_model import CallableModel

    return CallableModel(source, **how.given(*_COMMON, "outputs"))


@register("http", kind="adapter")
def open_http(source: str, how: Opening) -> Model:
    """Open a model server's URL, Open Inference Protocol version 2: scores, labels."""
    from assay.adapters.http_model import HttpModel

    return HttpModel(
        source, **how.given(*_COMMON, "outputs", "output", "timeout", "token", "certificate", "ca")
    )


Opener = Callable[[Any, Opening], Model]
SUFFIXES: dict[str, Opener] = {
    ".safetensors": open_safetensors,
    ".pt": open_state_dict,
    ".pth": open_state_dict,
    ".pt2": open_exported,
    ".onnx": open_onnx,
    ".skops": open_sklearn,
}


@functools.cache
def accepted_forms() -> str:
    """Return the list of what can be opened, for messages."""
    return f"a file ({', '.join(SUFFIXES)}), a URL (http://host/v2/models/NAME), or module:function"
