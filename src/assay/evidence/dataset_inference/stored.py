"""The secret as a bundle stores it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from assay.errors import EvidenceTampered
from assay.evidence.base import Evidence
from assay.evidence.dataset_inference.secret import Secret

__all__ = ["RANDOM_SPLIT", "least_rows", "secret_parts", "stored_secret"]

RANDOM_SPLIT = "the private rows are a secret, uniformly random draw from the pool, made before training"
_LARGEST_GAIN = 1.9  # one coin at even odds multiplies the wealth by at most this


def secret_parts(secret: Secret) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts that hold a secret."""
    tensors = {"coin": torch.from_numpy(secret.coin.copy()), "strata": torch.from_numpy(secret.strata.copy())}
    return tensors, {"totals": [list(t) for t in secret.totals]}


def stored_secret(evidence: Evidence) -> Secret:
    """Read the secret back.

    Raises
    ------
    EvidenceTampered
        If coins, strata and totals do not fit together.
    """
    try:
        coin, strata = evidence.tensors["coin"].bool(), evidence.tensors["strata"].to(torch.int64)
        totals = tuple((int(rows), int(private)) for rows, private in evidence.facts["totals"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"the evidence lacks its secret: {error}"
        raise EvidenceTampered(msg) from error
    fits = coin.shape == strata.shape == (len(evidence.tensors["x"]),)
    for group, (rows, private) in enumerate(totals):
        here = strata == group
        fits = fits and int(here.sum()) <= rows and int((coin & here).sum()) <= private <= rows
    if not fits or bool(((strata < 0) | (strata >= len(totals))).any()):
        msg = "the coins of the evidence do not fit the pool that they were drawn from"
        raise EvidenceTampered(msg)
    return Secret(coin.numpy(), strata.numpy(), totals)


def least_rows(alpha: float) -> int:
    """Return the fewest rows that can ever reach ``alpha`` by betting on even odds."""
    rows, wealth = 0, 1.0
    while wealth < 1 / alpha:
        rows, wealth = rows + 1, wealth * _LARGEST_GAIN
    return rows
