"""What the gateway asks of the thing that computes answers, and how a model describes itself."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.errors import AssayError
from assay.gateway.server.problems import NotFound, Unacceptable
from assay.gateway.server.wire import Query

__all__ = ["Answer", "ModelInfo", "TensorInfo", "Upstream", "UpstreamDown", "UpstreamRefused", "check_name"]

# What may stand in a path without being quoted, so that no name can change the address.
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~+@-]{1,128}")
_MAX_TENSORS = 64
_MAX_AXES = 8
_MAX_TEXT = 256
_OPEN = -1
_FLOATS = frozenset({"FP16", "FP32", "FP64", "BF16"})
_INTEGERS = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))


class UpstreamDown(AssayError):
    """The server behind the gateway did not answer, or not in the protocol; nothing is charged."""


class UpstreamRefused(AssayError):
    """The server behind the gateway refused this request; nothing is charged.

    Parameters
    ----------
    status
        Its status, 400 to 499.
    detail
        Its words, cut to a few hundred characters.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output: name, datatype, and shape with -1 for an open size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def content(self) -> dict[str, Any]:
        """Return the members of the protocol."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """How a model describes itself.

    Attributes
    ----------
    name, inputs, outputs, versions, platform
        As in the protocol.
    stated_classes
        Number of classes, where that is known beside the outputs.

    Examples
    --------
    >>> scores = TensorInfo("scores", "FP32", (-1, 10))
    >>> ModelInfo("m", (TensorInfo("x", "FP32", (-1, 4)),), (scores,)).classes
    10
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...] = ()
    versions: tuple[str, ...] = ()
    platform: str = ""
    stated_classes: int | None = None

    @property
    def classes(self) -> int | None:
        """Number of classes; None where the description does not tell."""
        if self.stated_classes is not None:
            return self.stated_classes
        rows = [one.shape[1:] for one in self.outputs if one.datatype in _FLOATS]
        widths = {max(row[0], 2) for row in rows if len(row) == 1 and row[0] > 0}
        single = any(row == () for row in rows)
        return widths.pop() if len(widths) == 1 else 2 if single and not widths else None

    @property
    def labels_only(self) -> bool:
        """Whether the description says that there are labels and no scores."""
        kinds = {one.datatype for one in self.outputs}
        return bool(kinds & _INTEGERS) and not kinds & _FLOATS

    def content(self) -> dict[str, Any]:
        """Return the answer to ``GET /v2/models/NAME``."""
        return {
            "name": self.name,
            "versions": list(self.versions),
            "platform": self.platform,
            "inputs": [one.content() for one in self.inputs],
            "outputs": [one.content() for one in self.outputs],
        }

    def check(self, query: Query) -> None:
        """Raise `Unacceptable` unless the query's inputs are those of the model.

        The size of a request is its first axis only, so all other axes must be what the
        model states: otherwise one item could hold many.
        """
        known = {one.name: one for one in self.inputs}
        for tensor in query.inputs:
            declared = known.get(tensor.name)
            if declared is None:
                msg = f"{self.name} has no input {tensor.name!r}; it takes {', '.join(known)}"
                raise Unacceptable(msg)
            if tensor.datatype != declared.datatype:
                msg = f"input {tensor.name!r} must be {declared.datatype}, not {tensor.datatype}"
                raise Unacceptable(msg)
            fits = len(tensor.shape) == len(declared.shape) and all(
                wanted in (_OPEN, given) for wanted, given in zip(declared.shape, tensor.shape, strict=True)
            )
            if not fits:
                msg = (
                    f"input {tensor.name!r} must have shape {list(declared.shape)}, not {list(tensor.shape)}"
                )
                raise Unacceptable(msg)
        missing = known.keys() - {tensor.name for tensor in query.inputs}
        if missing:
            msg = f"{self.name} also needs the input {min(missing)!r}"
            raise Unacceptable(msg)

    @classmethod
    def parse(cls, content: Any, where: str) -> ModelInfo:
        """Read a server's description of a model, bounded and strict.

        Raises
        ------
        UpstreamDown
            If it is none.
        """
        if not isinstance(content, Mapping):
            msg = f"{where} does not describe the model as a JSON object"
            raise UpstreamDown(msg)
        versions = content.get("versions") or []
        sound = isinstance(versions, list) and all(isinstance(one, str) for one in versions)
        if not sound or len(versions) > _MAX_TEXT:
            msg = f"{where} gives no proper list of versions"
            raise UpstreamDown(msg)
        inputs = _tensors(content.get("inputs"), where)
        if not inputs:
            msg = f"{where} does not say which inputs the model takes"
            raise UpstreamDown(msg)
        return cls(
            name=str(content.get("name", ""))[:_MAX_TEXT],
            inputs=inputs,
            outputs=_tensors(content.get("outputs") or [], where),
            versions=tuple(version[:_MAX_TEXT] for version in versions),
            platform=str(content.get("platform") or "")[:_MAX_TEXT],
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, as it goes to the caller.

    Attributes
    ----------
    body
        JSON, perhaps with binary tensors after it.
    header_length
        Length of the JSON part, or None if all of it is JSON.
    """

    body: bytes
    header_length: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Upstream(ABC):
    """Where answers come from. All methods run on the event loop and must not block it."""

    async def start(self) -> None:
        """Get ready; called once on the event loop."""
        return

    async def close(self) -> None:
        """Give everything back; called once on the event loop."""
        return

    @abstractmethod
    async def ready(self, model: str | None = None, version: str | None = None) -> bool:
        """Return whether the server (or the model) can answer now."""

    @abstractmethod
    async def metadata(self, model: str, version: str | None = None) -> ModelInfo:
        """Describe a model.

        Raises
        ------
        NotFound
            If there is no such model.
        UpstreamDown
            If that cannot be said now.
        """

    @abstractmethod
    async def infer(self, model: str, version: str | None, query: Query) -> Answer:
        """Answer a query that `ModelInfo.check` has passed.

        Raises
        ------
        UpstreamRefused
            If this query cannot be answered.
        UpstreamDown
            If none can.
        """

    def begin(self, model: str, version: str | None, query: Query) -> asyncio.Task[Answer]:
        """Begin to answer, as early as can be, and return the rest as a task; see `infer`."""
        return asyncio.ensure_future(self.infer(model, version, query))


def check_name(name: str, what: str = "model") -> str:
    """Return a model's name or version, or raise `NotFound` if it cannot be one.

    Examples
    --------
    >>> check_name("digits-v2.1")
    'digits-v2.1'
    >>> check_name("../admin")
    Traceback (most recent call last):
    assay.gateway.server.problems.NotFound: there is no model of that name
    """
    if not _NAME.fullmatch(name):
        msg = f"there is no {what} of that name"
        raise NotFound(msg)
    return name


def _tensors(content: Any, where: str) -> tuple[TensorInfo, ...]:
    if not isinstance(content, list) or len(content) > _MAX_TENSORS:
        msg = f"{where} gives no proper list of tensors"
        raise UpstreamDown(msg)
    return tuple(_tensor(one, where) for one in content)


def _tensor(one: Any, where: str) -> TensorInfo:
    if isinstance(one, Mapping):
        name, datatype, shape = one.get("name"), one.get("datatype"), one.get("shape", [])
        sizes = isinstance(shape, list) and len(shape) <= _MAX_AXES
        if (
            isinstance(name, str)
            and isinstance(datatype, str)
            and sizes
            and all(type(size) is int and _OPEN <= size < 2**31 for size in shape)
        ):
            return TensorInfo(name[:_MAX_TEXT], datatype[:_MAX_TEXT], tuple(shape))
    msg = f"{where} describes a tensor in a way that the protocol does not know"
    raise UpstreamDown(msg)
