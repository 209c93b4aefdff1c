"""Fitted estimators on disk: a folder with a manifest and digests of every file, nothing pickled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from assay import manifest
from assay.manifest import FolderKind, body_digest, tensor_digests

__all__ = ["SCHEMA", "VICTIM", "body_digest", "read_folder", "tensor_digests", "write_folder"]

SCHEMA = 1
VICTIM = "victim.safetensors"
_ESTIMATOR = FolderKind(
    name="estimator",
    short="estimator",
    schema=SCHEMA,
    tensors="estimator.safetensors",
    maker="estimator",
    digest="digest",
    since="it was fitted",
    covered="those of its digest",
    alone=False,
)


def write_folder(
    path: str | Path,
    body: dict[str, Any],
    tensors: dict[str, Tensor],
    others: dict[str, Callable[[Path], object]],
) -> Path:
    """Write an estimator; the folder appears whole or not at all.

    Parameters
    ----------
    path
        Folder that does not exist, or is empty.
    body
        The manifest without ``files`` and ``digest``.
    tensors
        Fitted state.
    others
        For each further file or folder, what writes it.

    Raises
    ------
    InvalidInput
        If something is already there, or it cannot be written.
    """
    return manifest.write_folder(_ESTIMATOR, path, body, tensors, others)


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read an estimator's manifest body and tensors after every digest was checked.

    Raises
    ------
    InvalidInput
        If the folder is no estimator of a version this release reads.
    EvidenceTampered
        If anything in it does not match its digest.
    """
    return manifest.read_folder(_ESTIMATOR, path)
