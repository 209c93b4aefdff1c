"""Models behind the Open Inference Protocol, version 2 (KServe, Triton, MLServer, ...)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from assay.adapters.answers import Answer, Outputs, read_answer
from assay.adapters.base import BatchedModel, reconcile_shape
from assay.adapters.http_client import HttpClient
from assay.adapters.http_wire import (
    FLOATS,
    INTEGERS,
    InferRequest,
    InferResponse,
    ModelMetadata,
    TensorMetadata,
    WireTensor,
)
from assay.adapters.tls import Certificate
from assay.errors import InvalidInput, SuspectUnreachable
from assay.model import Access
from assay.puzzles.payer import Paid

__all__ = ["HttpModel"]


class HttpModel(BatchedModel):
    """A model on a server, asked in JSON.

    Opening it reads the model's metadata. If that tells neither access nor number of
    classes and the caller does not either, one row of zeros is asked. A batch whose
    connection broke is asked again, up to ``retries`` times.

    Parameters
    ----------
    url
        Such as ``http://host:8000/v2/models/NAME``.
    input_shape, num_classes
        Only needed where the metadata leaves them open; checked otherwise. The number
        of classes is needed if the server answers labels.
    name
        How messages and reports call it; the URL without credentials unless given.
    access
        What to offer, at most scores.
    batch_size
        Rows to send at a time, if the metadata leaves it open; padded otherwise.
    outputs
        What float answers are; see `assay.adapters.answers.ScoreScale`.
    output
        Name of the only output to read, where several could be meant.
    timeout, retries, backoff, max_wait, max_bytes, token, headers, certificate, ca
        See `assay.adapters.http_client.HttpClient`.

    Raises
    ------
    SuspectUnreachable
        If the server does not answer, or answers with something else than the protocol.
    InvalidInput
        If the URL, or what the caller says about the model, does not fit.
    """

    def __init__(
        self,
        url: str,
        input_shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        *,
        name: str | None = None,
        access: Access | None = None,
        batch_size: int = 64,
        outputs: Outputs = "auto",
        output: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        backoff: float = 0.5,
        max_wait: float = 30.0,
        max_bytes: int = 64 * 2**20,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        certificate: Certificate | None = None,
        ca: str | Path | None = None,
    ) -> None:
        self._client = HttpClient(
            url,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            max_wait=max_wait,
            max_bytes=max_bytes,
            token=token,
            headers=headers,
            certificate=certificate,
            ca=ca,
        )
        self._where = self._client.shown
        self._output = output
        try:
            meta = self._metadata()
            source = meta.inputs[0]
            self._input, self._datatype = source.name, source.datatype
            sizes = [size if size > 0 else None for size in source.shape]
            super().__init__(
                name=name or self._where,
                input_shape=reconcile_shape(sizes[1:], input_shape, self._where),
                digest=f"url:{self._where}",
                batch_size=batch_size,
                outputs=outputs,
                fixed_batch=sizes[0] if sizes else None,
            )
            self._settle(num_classes, access, *self._declared(meta))
        except BaseException:
            self.close()
            raise

    @property
    def paid(self) -> Paid:
        """The work that a gateway in front of the model was paid so far."""
        return self._client.paid

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _metadata(self) -> ModelMetadata:
        try:
            meta = ModelMetadata.model_validate_json(self._client.request("GET", ""))
        except ValidationError as error:
            msg = f"{self._where} does not describe a model in the Open Inference Protocol ({_first(error)})"
            raise SuspectUnreachable(msg) from None
        if len(meta.inputs) != 1 or meta.inputs[0].datatype not in ("FP32", "FP64"):
            found = ", ".join(f"{i.name} {i.datatype}" for i in meta.inputs)
            msg = f"{self._where} must take one FP32 or FP64 tensor; its inputs are: {found}"
            raise InvalidInput(msg)
        return meta

    def _declared(self, meta: ModelMetadata) -> tuple[Access | None, int | None]:
        """Return the access and the number of classes that the metadata promises."""
        wanted = [o for o in meta.outputs if self._output in (None, o.name)]
        if self._output is not None and meta.outputs and not wanted:
            names = ", ".join(o.name for o in meta.outputs)
            msg = f"{self._where} has no output {self._output!r}; it has: {names}"
            raise InvalidInput(msg)
        graded = [o for o in wanted if o.datatype in FLOATS and _width(o) is not None]
        if len(graded) == 1:
            return Access.SCORES, _width(graded[0])
        if wanted and all(o.datatype in INTEGERS for o in wanted):
            return Access.LABELS, None
        return None, None

    def _ask(self, x: Tensor) -> Answer:
        kind = np.float64 if self._datatype == "FP64" else np.float32
        with np.errstate(over="ignore"):  # the check below says it in words
            values = x.cpu().numpy().astype(kind)
        if not np.isfinite(values).all():
            msg = f"inputs for {self._where} exceed the range of {self._datatype}"
            raise InvalidInput(msg)
        tensor = WireTensor.model_construct(
            name=self._input, datatype=self._datatype, shape=list(x.shape), data=values.ravel().tolist()
        )
        body = InferRequest.model_construct(inputs=[tensor]).model_dump()
        raw = self._client.request("POST", "/infer", body)
        try:
            answer = InferResponse.model_validate_json(raw)
        except ValidationError as error:
            msg = f"{self._where} answered something else than the Open Inference Protocol ({_first(error)})"
            raise SuspectUnreachable(msg) from None
        wanted = [o for o in answer.outputs if self._output in (None, o.name)]
        # Text labels and flags say nothing that labels or scores beside them do not.
        arrays = [o.tensor(self._where) for o in wanted if o.datatype in FLOATS | INTEGERS]
        return read_answer(arrays, len(x), self._scale.outputs, self.name)


def _width(output: TensorMetadata) -> int | None:
    matrix = len(output.shape) == 2 and output.shape[1] >= 2  # noqa: PLR2004 - [n, classes]
    return output.shape[1] if matrix else None


def _first(error: ValidationError) -> str:
    """Say what is wrong without quoting what the server sent."""
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"])) or "body"
    return f"{place}: {fault['type']}"
