"""Every account sees the model through a transformation of its own."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from assay.defences.answering import Answering, Asked, FloatArray, keep_top, secret_bytes
from assay.errors import InvalidInput
from assay.registry import register

__all__ = ["PerAccount"]

_TAG = b"assay/per-account/1\0"


@register("per-account", kind="defence")
@dataclass(frozen=True, kw_only=True)
class PerAccount(Answering):
    """Give every account scores of its own temperature and class weights; labels stay.

    The scores of one account are consistent with each other, so that nothing is noisy for
    its user. Two accounts disagree: answers that a copier collects through several do not
    fit together.

    Parameters
    ----------
    key
        At least 32 hex digits. A gateway derives it from its own secret when it is left out.
    temperature
        The account's temperature is ``exp(t)``, ``t`` uniform within this of 0; at least 0.
    weights
        Standard deviation of what is added to the logarithm of each class's score, drawn once
        for the account; at least 0.
    account
        Whose view a dressed model shows; a gateway says so with every request.

    References
    ----------
    Dubiński, Pawlak, Boenisch, Trzciński and Dziedzic, "Bucks for Buckets (B4B): Active
    Defenses Against Stealing Encoders", NeurIPS 2023, has transformations per
    user for embeddings; this is the same idea for scores.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import CallableModel
    >>> model = CallableModel(lambda x: x, (2,), outputs="probabilities")
    >>> x = torch.tensor([[0.6, 0.4]])
    >>> one, other = (PerAccount(key="ab" * 16, account=who).wear(model) for who in "ab")
    >>> bool((one.scores(x) == one.scores(x)).all()), bool((one.scores(x) == other.scores(x)).any())
    (True, False)
    """

    name: ClassVar[str] = "per-account"
    keeps_label: ClassVar[bool] = True

    key: str = ""
    temperature: float = 0.3
    weights: float = 0.3
    account: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < np.inf and 0 <= self.weights < np.inf):
            msg = f"temperature and weights must be at least 0, got {self.temperature} and {self.weights}"
            raise InvalidInput(msg)

    def ready(self) -> None:
        """Refuse to serve without a key."""
        secret_bytes(self.key, "per-account")

    def answer(self, scores: FloatArray, asked: Asked) -> FloatArray:
        """Return the scores as this account sees them, float64 ``[n, k]``."""
        power, weight = self._view(asked.account, scores.shape[1])
        # Where a score is 0 it stays 0; the row's largest is set to 1 before powers are taken.
        largest = scores.max(axis=1, keepdims=True)
        shown = (scores / np.where(largest > 0, largest, 1.0)) ** power * weight
        total = shown.sum(axis=1, keepdims=True)
        return keep_top(np.where(total > 0, shown / np.where(total > 0, total, 1.0), scores), scores)

    def _view(self, account: str, classes: int) -> tuple[float, FloatArray]:
        digest = hmac.digest(secret_bytes(self.key, "per-account"), _TAG + account.encode(), "sha256")
        rng = np.random.default_rng(int.from_bytes(digest, "big"))
        power = float(np.exp(-self.temperature * rng.uniform(-1, 1)))
        return power, np.exp(self.weights * rng.standard_normal(classes))
