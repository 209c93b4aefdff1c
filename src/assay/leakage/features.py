"""What fast estimators read of a query: the victim's features, its scores, or the input itself."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from assay.errors import InvalidInput
from assay.model import Access, Model, require

__all__ = ["FeatureKind", "Features", "choose_features", "log_scores"]

FeatureKind = Literal["auto", "embeddings", "scores", "both", "inputs"]
_KINDS = ("auto", "embeddings", "scores", "both", "inputs")
_FLOOR = 1e-12


def log_scores(scores: Tensor) -> Tensor:
    """Return logarithms of probabilities, of which none is taken for smaller than 1e-12."""
    return scores.clamp(min=_FLOOR).log()


def choose_features(kind: FeatureKind, victim: Model | None) -> FeatureKind:
    """Decide what ``"auto"`` means for a victim, and refuse what it does not offer.

    Raises
    ------
    InvalidInput, AccessDenied
        For an unknown kind, or a victim that offers too little.

    Examples
    --------
    >>> choose_features("auto", None)
    'inputs'
    """
    if kind not in _KINDS:
        msg = f"features must be one of {', '.join(_KINDS)}, got {kind!r}"
        raise InvalidInput(msg)
    if kind == "auto":
        if victim is None:
            return "inputs"
        if Access.EMBEDDINGS in victim.access:
            return "embeddings"
        return "scores" if Access.SCORES in victim.access else "inputs"
    if kind == "inputs":
        return kind
    if victim is None:
        msg = f"features={kind!r} are those of the model; pass victim"
        raise InvalidInput(msg)
    needed = {
        "embeddings": Access.EMBEDDINGS,
        "scores": Access.SCORES,
        "both": Access.EMBEDDINGS | Access.SCORES,
    }[kind]
    require(victim, needed, f"features={kind!r}")
    return kind


class Features:
    """Reads features of one settled kind.

    Parameters
    ----------
    kind
        Anything but ``"auto"``.

    Attributes
    ----------
    reads_scores
        Whether scores that are known already save work.
    needs_network
        Whether the victim is needed even then.

    Examples
    --------
    >>> Features("inputs")(torch.zeros(2, 1, 8, 8), None).shape
    torch.Size([2, 64])
    """

    def __init__(self, kind: FeatureKind) -> None:
        if kind not in _KINDS or kind == "auto":
            msg = f"features must be one of {', '.join(_KINDS[1:])}, got {kind!r}"
            raise InvalidInput(msg)
        self.kind = kind
        self.reads_scores = kind in {"scores", "both"}
        self.needs_network = kind in {"embeddings", "both"}

    def __call__(self, x: Tensor, victim: Model | None, scores: Tensor | None = None) -> Tensor:
        """Return float32 ``[n, d]`` on the CPU; raise `InvalidInput` where the victim is missed."""
        if self.kind == "inputs":
            return x.flatten(1).float()
        if victim is None and (self.needs_network or scores is None):
            msg = f"features={self.kind!r} are those of the model; pass victim"
            raise InvalidInput(msg)
        parts = []
        if self.needs_network:
            assert victim is not None
            parts.append(victim.embeddings(x))
        if self.reads_scores:
            if scores is None:
                assert victim is not None
                scores = victim.scores(x)
            parts.append(log_scores(scores))
        return torch.cat([p.float() for p in parts], 1)
