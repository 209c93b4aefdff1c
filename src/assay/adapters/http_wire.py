"""Wire format of the Open Inference Protocol, version 2, as JSON.

What a suspect's server sends is read through these models only: unknown fields are
ignored, known ones are strict and bounded.

References
----------
Open Inference Protocol, "REST/HTTP inference protocol", version 2 (KServe, Triton).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from assay.errors import InvalidInput

__all__ = [
    "FLOATS",
    "INTEGERS",
    "InferRequest",
    "InferResponse",
    "ModelMetadata",
    "TensorMetadata",
    "WireTensor",
]

FLOATS = frozenset({"FP16", "FP32", "FP64"})
INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
Name = Annotated[str, Field(max_length=256)]
# -1 stands for an open size in metadata.
Sizes = Annotated[list[Annotated[int, Field(strict=True, ge=-1, le=2**31)]], Field(max_length=8)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class TensorMetadata(_Wire):
    """One input or output as the server describes it."""

    name: Name
    datatype: Name
    shape: Sizes = []


class ModelMetadata(_Wire):
    """Answer to ``GET /v2/models/NAME``."""

    name: Name = ""
    inputs: Annotated[list[TensorMetadata], Field(min_length=1, max_length=16)]
    outputs: Annotated[list[TensorMetadata], Field(max_length=64)] = []


class WireTensor(_Wire):
    """One tensor with its numbers, nested by row or flat."""

    name: Name
    datatype: Literal[
        "BOOL",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "FP16",
        "FP32",
        "FP64",
        "BYTES",
    ]
    shape: Sizes
    data: list[Any]

    def tensor(self, where: str) -> Tensor:
        """Return int64 or float64 numbers of the stated shape.

        Raises
        ------
        InvalidInput
            If shape, datatype and data do not agree.
        """
        try:
            array = np.asarray(self.data)
        except (ValueError, OverflowError) as error:
            msg = f"output {self.name!r} of {where} has rows of different lengths"
            raise InvalidInput(msg) from error
        if array.dtype.kind not in ("iuf" if self.datatype in FLOATS else "iu") and array.size:
            msg = f"output {self.name!r} of {where} says {self.datatype} but holds {array.dtype}"
            raise InvalidInput(msg)
        shape = tuple(self.shape)
        if (
            min(shape, default=0) < 0
            or math.prod(shape) != array.size
            or array.shape not in (shape, (array.size,))
        ):
            msg = f"output {self.name!r} of {where} says shape {list(shape)} but holds {list(array.shape)}"
            raise InvalidInput(msg)
        kind = np.float64 if self.datatype in FLOATS else np.int64
        if (
            array.dtype == np.uint64
            and kind is np.int64
            and array.size
            and array.max() > np.iinfo(np.int64).max
        ):
            msg = f"output {self.name!r} of {where} holds numbers beyond int64"
            raise InvalidInput(msg)
        return torch.from_numpy(np.ascontiguousarray(array, dtype=kind).reshape(shape))


class InferRequest(_Wire):
    """Body of ``POST .../infer``."""

    inputs: list[WireTensor]


class InferResponse(_Wire):
    """Answer to ``POST .../infer``."""

    outputs: Annotated[list[WireTensor], Field(min_length=1, max_length=64)]
