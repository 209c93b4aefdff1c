"""Evidence on disk: a folder with a manifest, digests of every file, nothing pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from assay.manifest import FolderKind, body_digest, read_folder, tensor_digests, write_folder

__all__ = ["SCHEMA", "commit", "read_bundle", "tensor_digests", "write_bundle"]

SCHEMA = 1
_BUNDLE = FolderKind(
    name="evidence bundle",
    short="bundle",
    schema=SCHEMA,
    tensors="evidence.safetensors",
    maker="scheme",
    digest="commitment",
    since="registration",
    covered="the committed ones",
    alone=True,
)


def commit(body: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest body in canonical JSON: the digest to publish."""
    return body_digest(body)


def write_bundle(path: str | Path, body: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a bundle; the folder appears whole or not at all.

    Raises
    ------
    InvalidInput
        If something is already there, or it cannot be written.
    """
    write_folder(_BUNDLE, path, body, tensors)


def read_bundle(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a bundle and check every digest.

    Returns
    -------
    tuple
        The manifest body (without files and commitment) and the tensors.

    Raises
    ------
    InvalidInput
        If the folder is no bundle of a version this release reads.
    EvidenceTampered
        If anything in it does not match its digest.
    """
    return read_folder(_BUNDLE, path)
