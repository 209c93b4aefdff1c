"""Which output of an answer holds the classifier's scores, and which its labels."""

from __future__ import annotations

from assay.gateway.server.replies import OutputTensor, Reply

__all__ = ["label_output", "score_output"]

_MATRIX = 2


def score_output(reply: Reply) -> OutputTensor | None:
    """Return the only float output of shape [n, at least 2], or None."""
    found = [
        one
        for one in reply.outputs
        if one.array.dtype.kind == "f" and one.array.ndim == _MATRIX and one.array.shape[1] >= _MATRIX
    ]
    return found[0] if len(found) == 1 else None


def label_output(reply: Reply) -> OutputTensor | None:
    """Return the only whole-number output of shape [n] or [n, 1], or None."""
    found = [
        one
        for one in reply.outputs
        if one.array.dtype.kind in "iu"
        and (one.array.ndim == 1 or (one.array.ndim == _MATRIX and one.array.shape[1] == 1))
    ]
    return found[0] if len(found) == 1 else None
