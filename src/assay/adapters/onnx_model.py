"""ONNX models through onnxruntime."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.adapters.answers import Answer, Outputs, read_answer
from assay.adapters.base import BatchedModel, reconcile_shape
from assay.adapters.onnx_guard import refuse_external_data
from assay.errors import InvalidInput, MissingDependency
from assay.model import Access

__all__ = ["OnnxModel"]

_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64}


class OnnxModel(BatchedModel):
    """An ONNX graph on the CPU, from one float tensor to labels, scores or both.

    Understood are one tensor of logits or probabilities, integer labels, and the pair
    of label and probability outputs of converted scikit-learn models, be the latter a
    tensor or a list of ``{class: probability}`` maps (ZipMap), whose classes are
    numbered in sorted order. The graph is loaded from bytes and must hold all its
    tensors; references to other files are refused (`assay.adapters.onnx_guard`). Custom operator
    libraries are never loaded.

    Parameters
    ----------
    path
        An ``.onnx`` file.
    input_shape, num_classes
        Only needed where the graph leaves them open; checked otherwise.
    name
        How messages and reports call it; the file's name unless given.
    access
        What to offer, at most scores.
    batch_size
        Rows to send at a time, if the graph leaves it open; padded otherwise.
    outputs
        What the graph's floats are; see `assay.adapters.answers.ScoreScale`.
    output
        Name of the only output to read, where several could be meant.
    threads
        Threads of the runtime.

    Raises
    ------
    InvalidInput
        If the file cannot be read, is not self-contained or takes other inputs.
    MissingDependency
        Without onnxruntime.
    """

    def __init__(
        self,
        path: str | Path,
        input_shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        *,
        name: str | None = None,
        access: Access | None = None,
        batch_size: int = 512,
        outputs: Outputs = "auto",
        output: str | None = None,
        threads: int = 1,
    ) -> None:
        source = Path(path)
        label = name or source.stem
        try:
            data = source.read_bytes()
        except OSError as error:
            msg = f"cannot read {source}: {error}"
            raise InvalidInput(msg) from error
        refuse_external_data(data, str(source))
        self._session = _open_session(data, source, threads)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _FLOATS or len(inputs[0].shape) < 2:  # noqa: PLR2004
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs) or "none"
            msg = f"{label} must take one float tensor [n, *shape]; its inputs are: {found}"
            raise InvalidInput(msg)
        self._input, self._dtype = inputs[0].name, _FLOATS[inputs[0].type]
        # Open sizes are text or None.
        sizes = [size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape]
        super().__init__(
            name=label,
            input_shape=reconcile_shape(sizes[1:], input_shape, label),
            digest=hashlib.sha256(data).hexdigest(),
            batch_size=batch_size,
            outputs=outputs,
            fixed_batch=sizes[0],
        )
        names = [o.name for o in self._session.get_outputs()]
        if output is not None and output not in names:
            msg = f"{label} has no output {output!r}; it has: {', '.join(names)}"
            raise InvalidInput(msg)
        self._outputs = names if output is None else [output]
        self._settle(num_classes, access)

    @property
    def input_name(self) -> str:
        """What the graph calls its input."""
        return str(self._input)

    def _ask(self, x: Tensor) -> Answer:
        feed = {self._input: np.ascontiguousarray(x.cpu().numpy(), dtype=self._dtype)}
        try:
            found = self._session.run(self._outputs, feed)
        except Exception as error:  # onnxruntime's errors share no base but Exception
            msg = f"{self.name} fails on a batch of shape {list(x.shape)}: {str(error).splitlines()[0]}"
            raise InvalidInput(msg) from error
        arrays, maps = [], None
        for item in found:
            if isinstance(item, list):
                maps = _from_maps(item, self.name)
            # Text labels say nothing that the scores beside them do not.
            elif isinstance(item, np.ndarray) and item.dtype.kind in "iufb":
                arrays.append(torch.from_numpy(np.ascontiguousarray(item)))
        if maps is None:
            return read_answer(arrays, len(x), self._scale.outputs, self.name)
        # The label output speaks in the maps' keys; the maps alone say the same by position.
        return read_answer([maps], len(x), self._scale.outputs, self.name)


def _open_session(data: bytes, source: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        msg = "reading .onnx files needs onnxruntime; install it with: pip install 'assay-ml[onnx]'"
        raise MissingDependency(msg) from error
    if threads < 1:
        msg = f"threads must be at least 1, got {threads}"
        raise InvalidInput(msg)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come back as exceptions; the console is not ours
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base but Exception
        msg = f"onnxruntime cannot load {source}: {str(error).splitlines()[0]}"
        raise InvalidInput(msg) from error


def _from_maps(rows: list[Any], name: str) -> Tensor:
    """Turn ``{class: probability}`` maps into a matrix whose columns are sorted by class."""
    keys = sorted(rows[0]) if rows and isinstance(rows[0], Mapping) else []
    if not keys or any(not isinstance(row, Mapping) or row.keys() != set(keys) for row in rows):
        msg = f"{name} answered a list that is no list of maps from the same classes to probabilities"
        raise InvalidInput(msg)
    return torch.tensor([[float(row[key]) for key in keys] for row in rows], dtype=torch.float32)
