"""A program written by ``torch.export.save``."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.adapters.answers import Answer, Outputs, read_answer
from assay.adapters.base import BatchedModel, reconcile_shape
from assay.adapters.exported_guard import safe_program
from assay.errors import InvalidInput
from assay.model import Access

__all__ = ["ExportedModel"]


class ExportedModel(BatchedModel):
    """An exported graph, asked on the CPU; it offers scores, for it cannot be trained again.

    Input shape, number of classes and batch size are read from the graph; batches are
    padded when it insists on a size. Loading is safe for files of strangers as far as
    it was examined: ``torch.export.load`` itself runs code from its file in several
    ways (see `assay.adapters.exported_guard`), so the archive is checked against an allow list and
    rewritten before torch sees it. Graphs of ATen operators with raw weights pass;
    custom operators, control flow, pickled constants and compiled packages do not.

    Parameters
    ----------
    path
        A ``.pt2`` file of torch 2.8 or later, for inputs ``[n, *input_shape]``.
    input_shape, num_classes
        Only needed where the graph leaves them open; checked otherwise.
    name
        How messages and reports call it; the file's name unless given.
    access
        What to offer, at most scores.
    batch_size
        Rows to compute at a time, if the graph leaves it open.
    outputs
        What the graph's floats are; see `assay.adapters.answers.ScoreScale`.

    Raises
    ------
    InvalidInput
        If the file cannot be read, is not safe, or takes other than one tensor.

    Examples
    --------
    >>> import tempfile
    >>> from assay.nets import build
    >>> net = build("mlp-4", (3,), 2).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "net.pt2"
    ...     torch.export.save(torch.export.export(net, (torch.zeros(4, 3),)), file)
    ...     model = ExportedModel(file)
    >>> model.input_shape, model.num_classes, model.scores(torch.zeros(5, 3)).shape
    ((3,), 2, torch.Size([5, 2]))
    """

    def __init__(
        self,
        path: str | Path,
        input_shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        *,
        name: str | None = None,
        access: Access | None = None,
        batch_size: int = 128,
        outputs: Outputs = "auto",
    ) -> None:
        source = Path(path)
        label = name or source.stem
        try:
            data = source.read_bytes()
        except OSError as error:
            msg = f"cannot read {source}: {error}"
            raise InvalidInput(msg) from error
        checked = safe_program(data, str(source))
        try:
            program = torch.export.load(io.BytesIO(checked))
            run = program.module()
        except Exception as error:  # a forged graph may fail anywhere inside torch
            msg = f"torch cannot load the exported program {source}: {error}"
            raise InvalidInput(msg) from error
        sizes = _input_sizes(program, label)
        super().__init__(
            name=label,
            input_shape=reconcile_shape(sizes[1:], input_shape, label),
            digest=hashlib.sha256(data).hexdigest(),
            batch_size=batch_size,
            outputs=outputs,
            fixed_batch=sizes[0],
        )
        self._run = run
        self._settle(num_classes, access)

    def _ask(self, x: Tensor) -> Answer:
        try:
            with torch.no_grad():
                result = self._run(x.float())
        except Exception as error:  # operators report bad sizes as they please
            msg = f"{self.name} fails on a batch of shape {list(x.shape)}: {str(error).splitlines()[0]}"
            raise InvalidInput(msg) from error
        found = list(result) if isinstance(result, tuple | list) else [result]
        if not all(isinstance(item, Tensor) for item in found):
            msg = f"{self.name} must return tensors, got {type(result).__name__}"
            raise InvalidInput(msg)
        return read_answer(found, len(x), self._scale.outputs, self.name)


def _input_sizes(program: Any, name: str) -> tuple[int | None, ...]:
    """Return the input's sizes, None where the graph leaves one open."""
    wanted = set(program.graph_signature.user_inputs)
    found = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in wanted]
    value = found[0].meta.get("val") if len(found) == 1 else None
    if not isinstance(value, Tensor) or value.ndim < 2:  # noqa: PLR2004 - [n, *shape]
        msg = f"{name} must take exactly one tensor [n, *shape], it takes {len(found)} inputs"
        raise InvalidInput(msg)
    # A size bound to an open symbol is a SymInt; comparing it with a number would bind it.
    return tuple(size if type(size) is int else None for size in value.shape)
