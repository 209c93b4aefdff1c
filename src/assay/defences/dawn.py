"""A few inputs, chosen by a secret, are answered wrongly for ever: the mark of a copy."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.defences.answering import Answering, Asked, FloatArray, secret_bytes
from assay.defences.sketch import Sketch
from assay.errors import InvalidInput
from assay.registry import register

__all__ = ["Choice", "Dawn"]

_TAG = b"assay/dawn/1\0"
_WORD = 1 << 64


@dataclass(frozen=True)
class Choice:
    """What a secret decides about inputs.

    Parameters
    ----------
    marked
        bool ``[n]``: answered wrongly.
    wrong
        int64 ``[n]``: the class that is shown in place of the predicted one if so; uniform
        over the other classes.
    """

    marked: NDArray[np.bool_]
    wrong: NDArray[np.int64]


@register("dawn", kind="defence")
@dataclass(frozen=True, kw_only=True)
class Dawn(Answering):
    """Answer a small share of inputs with a wrong label, always the same inputs and labels.

    Which inputs, and which wrong labels, follows from a secret key by HMAC-SHA-256. A copy
    that is trained on the answers learns some of them; anybody who is shown the key can test
    that it did, against the commitment that was published before. The scores of the predicted
    and the wrong class change places, so that the row looks as sure as it was.

    Parameters
    ----------
    rate
        Share of inputs that are answered wrongly, 0 to 0.5. This is what it costs in accuracy.
    key
        At least 32 hex digits. A gateway derives it from its own secret when it is left out.
    grain
        0 decides by the exact input: repeats get the same answer, and a changed pixel is
        another input. Above 0, inputs whose distance is small against ``grain`` get the
        same decision with high probability: the decision is taken on ``directions``
        secret projections, rounded to multiples of ``grain``.
    directions
        Number of projections, 1 to 64. Inputs at distance ``t`` are told apart with
        probability of at most about ``0.8 t sqrt(directions) / grain``.

    References
    ----------
    Szyller, Atli, Marchal and Asokan, "DAWN: Dynamic Adversarial Watermarking of Neural
    Networks", ACM Multimedia 2021.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: np.eye(3)[[0] * len(x)], (1,), outputs="probabilities")
    >>> marked = Dawn(rate=0.5, key="ab" * 16).wear(model)
    >>> labels = marked.labels(torch.arange(1000.0).reshape(-1, 1))
    >>> bool(((labels > 0).double().mean() - 0.5).abs() < 0.05)
    True
    """

    name: ClassVar[str] = "dawn"

    rate: float = 0.005
    key: str = ""
    grain: float = 0.0
    directions: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 0.5:  # noqa: PLR2004 - beyond it the wrong answers are the rule
            msg = f"the rate of wrong answers must lie in 0 to 0.5, got {self.rate}"
            raise InvalidInput(msg)
        if not 0 <= self.grain < np.inf:
            msg = f"the grain must be at least 0, got {self.grain}"
            raise InvalidInput(msg)
        if not 1 <= self.directions <= 64:  # noqa: PLR2004 - more only split near-duplicates
            msg = f"directions must lie in 1 to 64, got {self.directions}"
            raise InvalidInput(msg)

    def ready(self) -> None:
        """Refuse to mark without a key."""
        secret_bytes(self.key, "dawn")

    @property
    def commitment(self) -> str:
        """SHA-256 over key and settings, 64 hex digits: publish it before any dispute."""
        facts = {"rate": self.rate, "grain": self.grain, "directions": self.directions}
        text = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        return hashlib.sha256(
            _TAG + b"commitment\0" + secret_bytes(self.key, "dawn") + b"\0" + text
        ).hexdigest()

    def choose(self, asked: Asked, labels: NDArray[np.int64], classes: int) -> Choice:
        """Return what the key decides about inputs, whether or not they were ever asked.

        Parameters
        ----------
        asked
            The inputs.
        labels
            int64 ``[n]``: the classes that the model predicts for them.
        classes
            Number of classes, at least 2.

        Raises
        ------
        InvalidInput
            If there is no key, or fewer than two classes.

        Examples
        --------
        >>> choice = Dawn(rate=0.5, key="ab" * 16).choose(Asked(np.zeros((1, 2))), np.array([2]), 3)
        >>> int(choice.wrong[0]) in {0, 1}
        True
        """
        secret = secret_bytes(self.key, "dawn")
        if classes < 2:  # noqa: PLR2004 - there must be a wrong class
            msg = "a model of one class has no wrong answers"
            raise InvalidInput(msg)
        limit = int(self.rate * _WORD)
        digests = [hmac.digest(secret, _TAG + name, "sha256") for name in self._names(asked, secret)]
        marked = np.array([int.from_bytes(d[:8], "big") < limit for d in digests], dtype=bool)
        # The remainder of 64 bits favours no class by more than k / 2**64.
        step = np.array([1 + int.from_bytes(d[8:16], "big") % (classes - 1) for d in digests], dtype=np.int64)
        return Choice(marked, (np.asarray(labels, dtype=np.int64) + step) % classes)

    def _names(self, asked: Asked, secret: bytes) -> tuple[bytes, ...]:
        if self.grain == 0 or asked.rows.shape[1] == 0:
            return asked.fingerprints
        inner = hmac.digest(secret, _TAG + b"sketch", "sha256")
        near = Sketch(inner, self.directions)(asked.rows) / self.grain
        shift = (
            np.frombuffer(hashlib.shake_128(_TAG + inner).digest(8 * self.directions), dtype=">u8") / _WORD
        )
        cells = np.clip(np.floor(near + shift), -(2.0**62), 2.0**62).astype(">i8")
        return tuple(cell.tobytes() for cell in cells)

    def answer(self, scores: FloatArray, asked: Asked) -> FloatArray:
        """Return scores in which marked rows have two of them exchanged, float64 ``[n, k]``."""
        label = scores.argmax(axis=1)
        choice = self.choose(asked, label, scores.shape[1])
        shown = scores.copy()
        row = np.flatnonzero(choice.marked)
        shown[row, label[row]] = scores[row, choice.wrong[row]]
        shown[row, choice.wrong[row]] = scores[row, label[row]]
        return shown
