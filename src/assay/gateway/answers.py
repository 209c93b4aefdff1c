"""The answers of the server behind the gateway, as the policy's defences show them."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor, nn

from assay.defences.answering import Answering, Asked, FloatArray
from assay.defences.base import Defence
from assay.defences.coverage_noise import CoverageNoise
from assay.defences.dawn import Dawn
from assay.errors import AccessDenied, InvalidInput
from assay.gateway.policy_parts import Defence as DefenceEntry
from assay.gateway.server.replies import OutputTensor
from assay.gateway.server.tensors import InputTensor
from assay.model import Access, Model
from assay.registry import create

__all__ = ["Answers", "Marks", "Shown", "read_asked"]

_TAG = b"assay/answers/1\0"
# Defences of whole models that look at scores and inputs only, row by row.
_BY_ROW = frozenset({"rounding", "top-1", "top-k", "noise"})
# What these do to labels alone is what they do to labels beside scores.
_ON_LABELS = frozenset({"top-1", "dawn"})
_SUM = 1e-3
_FEWEST_SECRET_BYTES = 16

Form = Literal["probabilities", "logits", "probability", "logit", "labels"]


@dataclass(frozen=True)
class Marks:
    """Answers that DAWN changed, for the owner to keep as evidence.

    Attributes
    ----------
    items
        Their places in the request.
    labels, shown
        Predicted classes and the classes shown in their place.
    """

    items: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What goes to the caller, and what stays here.

    Attributes
    ----------
    outputs
        The tensors to send.
    labels
        int64 ``[n]``: the classes that the model predicted, before any defence; for the detectors.
    marks
        What DAWN changed.
    """

    outputs: tuple[OutputTensor, ...]
    labels: NDArray[np.int64]
    marks: Marks


class Answers:
    """The defences of a policy, one after the other, on the tensors of an answer.

    Parameters
    ----------
    entries
        The policy's defences. A ``key`` (or ``seed``) that is left out is derived from ``secret``.
    secret
        At least 16 bytes that clients do not know and that stay the same as long as the
        answers should.

    Raises
    ------
    InvalidInput
        For unknown defences or settings, or those that need more than scores.

    Examples
    --------
    >>> answers = Answers([DefenceEntry(name="rounding", settings={"digits": 1})], bytes(32))
    >>> scores = OutputTensor("scores", "FP32", np.array([[0.84, 0.16]], np.float32))
    >>> shown = answers.show([scores], Asked(np.zeros((1, 2))))
    >>> shown.outputs[0].array.round(3).tolist(), shown.labels.tolist()
    ([[0.800000011920929, 0.20000000298023224]], [0])
    """

    def __init__(self, entries: Sequence[DefenceEntry], secret: bytes) -> None:
        if entries and len(secret) < _FEWEST_SECRET_BYTES:
            msg = f"the secret of the answers must have at least 16 bytes, got {len(secret)}"
            raise InvalidInput(msg)
        self._defences = [_build(entry, secret) for entry in entries]
        self._forms: dict[str, Form] = {}

    def __bool__(self) -> bool:
        return bool(self._defences)

    @property
    def commitments(self) -> Mapping[str, str]:
        """What to publish or time-stamp before any dispute: a digest for each marking defence."""
        return {one.name: one.commitment for one in self._defences if isinstance(one, Dawn)}

    @property
    def needs_coverage(self) -> bool:
        """Whether a coverage detector has to run beside."""
        return any(isinstance(one, CoverageNoise) for one in self._defences)

    def check(self, model: str, *, labels_only: bool, classes: int | None) -> None:
        """Refuse a model whose answers these defences cannot change.

        Parameters
        ----------
        model
            What to call it.
        labels_only
            Whether it shows no scores.
        classes
            Its number of classes, if known.

        Raises
        ------
        InvalidInput
            Naming the first defence that does not fit.

        Examples
        --------
        >>> answers = Answers([DefenceEntry(name="rounding")], bytes(32))
        >>> answers.check("m", labels_only=False, classes=10)
        >>> answers.check("m", labels_only=True, classes=10)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        assay.errors.InvalidInput: the defence rounding needs scores, but m answers labels only; ...
        """
        for defence in self._defences if labels_only else ():
            if defence.name not in _ON_LABELS:
                msg = (
                    f"the defence {defence.name} needs scores, but {model} answers labels only; "
                    "take it out of the policy's answers"
                )
                raise InvalidInput(msg)
            if classes is None:
                msg = (
                    f"the defence {defence.name} needs the number of classes, which {model} does not tell "
                    "with labels only; have it answer scores"
                )
                raise InvalidInput(msg)

    def scores(self, scores: FloatArray, asked: Asked) -> tuple[FloatArray, Marks]:
        """Return the scores that are shown, and what DAWN changed.

        Parameters
        ----------
        scores
            float64 ``[n, k]``, rows that sum to 1.
        asked
            Who asked what.
        """
        marks = Marks()
        for defence in self._defences:
            before = scores
            if isinstance(defence, Answering):
                scores = defence.answer(scores, asked)
            else:
                scores = _worn(defence, scores, asked)
            if isinstance(defence, Dawn):
                marks = _marks(before, scores)
        return scores, marks

    def show(self, outputs: Sequence[OutputTensor], asked: Asked, *, classes: int | None = None) -> Shown:
        """Return the tensors to send.

        Beside scores only labels are sent: whatever else a model shows (features,
        logits next to probabilities) would undo what the defences do to its scores.

        Parameters
        ----------
        outputs
            Of the server behind.
        asked
            Who asked what.
        classes
            Number of classes, where an answer may hold labels alone.

        Raises
        ------
        InvalidInput
            If defences are configured and the answer has neither scores ``[n, k]`` nor labels.
        """
        n = len(asked)
        found = [(one, form) for one in outputs if (form := self._form(one, n)) is not None]
        graded = next(((one, form) for one, form in found if form != "labels"), None)
        named = next((one for one, form in found if form == "labels"), None)
        if graded is not None:
            scores = _read(graded[0].array, graded[1])
        elif named is not None and classes is not None and _within(named.array, classes):
            scores = np.eye(classes)[named.array.reshape(-1)]
        else:
            return self._unread(outputs, named, n)
        labels = scores.argmax(axis=1)
        if not self._defences:
            return Shown(tuple(outputs), labels, Marks())
        shown, marks = self.scores(scores, asked)
        kept = []
        for one, form in found:
            if graded is not None and one is graded[0]:
                kept.append(dataclasses.replace(one, array=_written(shown, form, one.array)))
            elif one is named:
                array = shown.argmax(axis=1).reshape(one.array.shape).astype(one.array.dtype)
                kept.append(dataclasses.replace(one, array=array))
        return Shown(tuple(kept), labels, marks)

    def _form(self, output: OutputTensor, n: int) -> Form | None:
        form = _form(output, n)
        if form in {"logits", "logit"}:
            self._forms.setdefault(output.name, form)
        # A batch of logits may happen to look like probabilities; what was once seen stays.
        return self._forms.get(output.name, form) if form else None

    def _unread(self, outputs: Sequence[OutputTensor], named: OutputTensor | None, n: int) -> Shown:
        if self._defences:
            msg = (
                "the model's answer has no scores of shape [items, classes], which the policy's defences need"
            )
            raise InvalidInput(msg)
        labels = named.array.reshape(-1).astype(np.int64) if named is not None else np.zeros(n, np.int64)
        return Shown(tuple(outputs), labels, Marks())


def read_asked(inputs: Sequence[InputTensor], *, account: str = "", coverage: float = 0.0) -> Asked:
    """Return what a request asks, as defences and detectors look at it.

    Parameters
    ----------
    inputs
        The request's tensors; all have the same first axis. Several are put side by side.
    account, coverage
        See `assay.defences.answering.Asked`.

    Examples
    --------
    >>> x = InputTensor("x", "FP32", (2, 1, 3), np.zeros((2, 1, 3), np.float32))
    >>> read_asked([x, x]).rows.shape
    (2, 6)
    """
    n = inputs[0].shape[0] if inputs else 0
    parts = [one.array.reshape(n, -1) for one in inputs if one.array is not None]
    rows = np.concatenate([part.astype(np.float64) for part in parts], axis=1) if parts else np.zeros((n, 0))
    texts = [_items(one, n) for one in inputs if one.array is None]
    if not texts:
        return Asked(rows, account, coverage)
    names = tuple(b"\0".join([row.tobytes(), *words]) for row, *words in zip(rows, *texts, strict=True))
    return Asked(rows, account, coverage, names)


def _items(tensor: InputTensor, n: int) -> list[bytes]:
    """Cut text, whose elements each have their length in front, into ``n`` items."""
    each = int(np.prod(tensor.shape[1:], dtype=np.int64))
    items, at = [], 0
    for _ in range(n):
        begin = at
        for _ in range(each):
            at += 4 + int.from_bytes(tensor.text[at : at + 4], "little")
        items.append(tensor.text[begin:at])
    return items


def _build(entry: DefenceEntry, secret: bytes) -> Defence:
    defence = create(entry.name, "defence", entry.settings)
    if not isinstance(defence, Answering) and entry.name not in _BY_ROW:
        msg = f"the defence {entry.name} changes the model, not its answers; put it behind the gateway"
        raise InvalidInput(msg)
    derived = hmac.digest(secret, _TAG + entry.name.encode(), "sha256")
    if getattr(defence, "key", None) == "":
        defence = dataclasses.replace(cast("Any", defence), key=derived.hex())
    elif hasattr(defence, "seed") and "seed" not in entry.settings:
        defence = dataclasses.replace(cast("Any", defence), seed=int.from_bytes(derived[:15], "big"))
    if isinstance(defence, Answering):
        defence.ready()
    return cast("Defence", defence)


def _marks(before: FloatArray, after: FloatArray) -> Marks:
    labels, shown = before.argmax(axis=1), after.argmax(axis=1)
    at = np.flatnonzero(labels != shown)
    return Marks(tuple(at.tolist()), tuple(labels[at].tolist()), tuple(shown[at].tolist()))


class _Given:
    """A model whose scores are known already: dresses of whole models work on arrays through it."""

    name, digest, access = "answers", "", Access.SCORES

    def __init__(self, scores: FloatArray, width: int) -> None:
        self._known = torch.from_numpy(np.ascontiguousarray(scores))
        self.input_shape, self.num_classes = (width,), scores.shape[1]
        self.complete_scores, self.accepts_missing = False, True

    def scores(self, x: Tensor) -> Tensor:  # noqa: ARG002 - they are known
        return self._known

    def labels(self, x: Tensor) -> Tensor:  # noqa: ARG002 - they are known
        return self._known.argmax(dim=1)

    def embeddings(self, x: Tensor) -> Tensor:  # noqa: ARG002 - there are none
        msg = "an answer defence of the gateway sees scores only, no embeddings; take it out of [answers]"
        raise AccessDenied(msg)

    @property
    def module(self) -> nn.Module:
        msg = "an answer defence of the gateway sees scores only, no weights; take it out of [answers]"
        raise AccessDenied(msg)


def _worn(defence: Defence, scores: FloatArray, asked: Asked) -> FloatArray:
    # Noise is drawn from the input's bytes; a digest does as well and suits text, too.
    rows = np.frombuffer(b"".join(asked.fingerprints), dtype=np.uint8).reshape(len(asked), -1)
    x = torch.from_numpy(rows.astype(np.float64))
    return np.asarray(defence.wear(cast("Model", _Given(scores, rows.shape[1]))).scores(x).numpy())


def _form(output: OutputTensor, n: int) -> Form | None:
    """Return how an output has to be read, or None where it is neither scores nor labels."""
    array = output.array
    if array.shape[:1] != (n,) or n == 0:
        return None
    per_item = array.size // n
    if array.dtype.kind in "iu":
        return "labels" if per_item == 1 else None
    if array.dtype.kind != "f" or array.ndim > 2 or not np.isfinite(array).all():  # noqa: PLR2004 - items, classes
        return None
    if per_item == 1:
        return "probability" if array.min() >= 0 and array.max() <= 1 else "logit"
    sums = array.sum(axis=1, dtype=np.float64)
    # Rounding and half precision leave sums a little off.
    return "probabilities" if array.min() >= -_SUM and np.abs(sums - 1).max() <= _SUM * 10 else "logits"


def _within(labels: NDArray[Any], classes: int) -> bool:
    return bool(labels.min() >= 0 and labels.max() < classes)


def _read(array: NDArray[Any], form: Form) -> FloatArray:
    values = array.astype(np.float64)
    if form == "logits":
        return np.asarray(softmax(values, axis=1))
    if form == "probabilities":
        values = np.clip(values, 0.0, None)
        return np.asarray(values / values.sum(axis=1, keepdims=True))
    one = values.reshape(-1, 1)
    one = expit(one) if form == "logit" else one
    return np.concatenate([1 - one, one], axis=1)


def _written(scores: FloatArray, form: Form, like: NDArray[Any]) -> NDArray[Any]:
    """Return scores in the form of the output that they replace."""
    least = np.finfo(like.dtype).tiny
    if form == "logits":
        scores = np.log(np.maximum(scores, least))
    elif form == "probability":
        scores = scores[:, 1]
    elif form == "logit":
        scores = np.log(np.maximum(scores[:, 1], least)) - np.log(np.maximum(scores[:, 0], least))
    return scores.reshape(like.shape).astype(like.dtype)
