"""A model of our own as the source of answers, computed in a thread beside the event loop."""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.errors import AssayError, InvalidInput
from assay.gateway.server.problems import NotFound
from assay.gateway.server.replies import OutputTensor, encode_reply
from assay.gateway.server.wire import Query
from assay.gateway.upstream.base import Answer, ModelInfo, TensorInfo, Upstream, UpstreamDown, UpstreamRefused
from assay.model import Access

if TYPE_CHECKING:
    from assay.model import Model

__all__ = ["LocalUpstream"]

_LOG = logging.getLogger("assay.gateway")
_INPUT = "input"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")
_VERSION = "1"


class LocalUpstream(Upstream):
    """Serve one model that Assay can open.

    It takes one FP32 input, called as the model calls it where it does (ONNX), else ``input``,
    and answers ``scores`` if the model shows them, ``labels``
    otherwise or when asked for by name.

    Parameters
    ----------
    model
        Offers at least labels.
    name
        How callers name it; the model's own name unless given.
    waiting
        Requests that may wait for the model; more are refused at once.

    Raises
    ------
    InvalidInput
        If the model offers nothing.
    """

    def __init__(self, model: Model, *, name: str, waiting: int = 256) -> None:
        if Access.LABELS not in model.access:
            msg = f"{model.name} offers no labels, so there is nothing to serve"
            raise InvalidInput(msg)
        self._model, self._name = model, name
        self._graded = Access.SCORES in model.access
        # One thread: a model's own threads share the cores better than several batches do.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._waiting, self._under_way = waiting, 0
        labels = TensorInfo("labels", "INT64", (-1,))
        scores = TensorInfo("scores", "FP32", (-1, model.num_classes))
        self.info = ModelInfo(
            name=name,
            inputs=(TensorInfo(_input_name(model), "FP32", (-1, *model.input_shape)),),
            # Scores alone, since labels follow from them: clients then know what to read.
            outputs=(scores,) if self._graded else (labels,),
            versions=(_VERSION,),
            platform="assay",
            stated_classes=model.num_classes,
        )

    async def close(self) -> None:
        """Wait for the batch under way."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def ready(self, model: str | None = None, version: str | None = None) -> bool:
        """Return whether the model is the one that is served."""
        return model in (None, self._name) and version in (None, _VERSION)

    async def metadata(self, model: str, version: str | None = None) -> ModelInfo:
        """Describe the model."""
        if not await self.ready(model, version):
            msg = f"there is no model {model!r}" + (f" of version {version!r}" if version else "")
            raise NotFound(msg)
        return self.info

    async def infer(self, model: str, version: str | None, query: Query) -> Answer:
        """Compute the answer."""
        await self.metadata(model, version)
        wanted = query.outputs or tuple(one.name for one in self.info.outputs)
        unknown = set(wanted) - ({"scores", "labels"} if self._graded else {"labels"})
        if unknown:
            raise UpstreamRefused(400, f"{self._name} has no output {min(unknown)!r}")
        if self._under_way >= self._waiting:
            msg = f"{self._under_way} requests wait for {self._name} already"
            raise UpstreamDown(msg)
        self._under_way += 1
        try:
            loop = asyncio.get_running_loop()
            body, length = await loop.run_in_executor(self._thread, self._compute, query, wanted)
        finally:
            self._under_way -= 1
        return Answer(body, length)

    def _compute(self, query: Query, wanted: tuple[str, ...]) -> tuple[bytes, int | None]:
        import torch

        given = query.inputs[0].array
        assert given is not None
        # A copy: torch wants memory that it may write to.
        x = torch.from_numpy(np.array(given, dtype=np.float32))
        found: dict[str, OutputTensor] = {}
        try:
            with torch.inference_mode():
                if "scores" in wanted:
                    scores = self._model.scores(x).to(torch.float32).numpy()
                    found["scores"] = OutputTensor("scores", "FP32", scores)
                if "labels" in wanted:
                    found["labels"] = OutputTensor("labels", "INT64", self._model.labels(x).numpy())
        except InvalidInput as error:
            # What a model says may name files and code; that is for the log.
            _LOG.info("%s refused a query: %s", self._name, error)
            raise UpstreamRefused(400, f"{self._name} cannot take this input") from error
        except (AssayError, RuntimeError, ValueError) as error:
            msg = f"{self._name} could not compute an answer ({type(error).__name__})"
            raise UpstreamDown(msg) from error
        members: dict[str, Any] = {"model_name": self._name, "model_version": _VERSION}
        if query.id:
            members["id"] = query.id
        return encode_reply(members, [found[name] for name in dict.fromkeys(wanted)], query.binary_outputs)


def _input_name(model: Model) -> str:
    """Return the model's own name of its input, so that clients need no change behind another server."""
    name = getattr(model, "input_name", None)
    return name if isinstance(name, str) and _NAME.fullmatch(name) else _INPUT
