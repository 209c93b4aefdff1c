"""Ways to reach a model: in memory, from files read safely, as functions, over HTTP."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from assay.adapters.open_model import open_model
from assay.adapters.restricted import restrict
from assay.adapters.torch_model import TorchModel, save_model

if TYPE_CHECKING:
    from assay.adapters.callable_model import CallableModel as CallableModel
    from assay.adapters.exported_model import ExportedModel as ExportedModel
    from assay.adapters.http_model import HttpModel as HttpModel
    from assay.adapters.onnx_model import OnnxModel as OnnxModel
    from assay.adapters.sklearn_model import SklearnModel as SklearnModel
    from assay.adapters.sklearn_model import load_skops as load_skops
    from assay.adapters.torch_file import load_safetensors as load_safetensors
    from assay.adapters.torch_file import load_state_file as load_state_file

# These need httpx, onnxruntime or skops, or seconds of torch.export; they load on first use.
_HOMES = {
    "CallableModel": "assay.adapters.callable_model",
    "ExportedModel": "assay.adapters.exported_model",
    "HttpModel": "assay.adapters.http_model",
    "OnnxModel": "assay.adapters.onnx_model",
    "SklearnModel": "assay.adapters.sklearn_model",
    "load_safetensors": "assay.adapters.torch_file",
    "load_skops": "assay.adapters.sklearn_model",
    "load_state_file": "assay.adapters.torch_file",
}

__all__ = ["TorchModel", "open_model", "restrict", "save_model", *_HOMES]  # noqa: PLE0604 - the keys are text


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'assay.adapters' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)
