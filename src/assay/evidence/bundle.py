"""Evidence on disk: a folder with a manifest, digests of every file, nothing pickled."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from assay.errors import EvidenceTampered, InvalidInput

__all__ = ["SCHEMA", "commit", "read_bundle", "tensor_digests", "write_bundle"]

SCHEMA = 1
_MANIFEST = "manifest.json"
_TENSORS = "evidence.safetensors"
_LARGEST_MANIFEST = 16 * 2**20


def commit(body: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest body in canonical JSON: the digest to publish."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tensor_digests(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Return a SHA-256 for each tensor over its dtype, shape and bytes."""
    digests = {}
    for name, tensor in sorted(tensors.items()):
        h = hashlib.sha256(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        h.update(tensor.detach().cpu().contiguous().numpy().data)
        digests[name] = h.hexdigest()
    return digests


def write_bundle(path: str | Path, body: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a bundle; the folder appears whole or not at all.

    Raises
    ------
    InvalidInput
        If something is already there, or it cannot be written.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        msg = f"{target} already exists; choose another folder for the evidence bundle"
        raise InvalidInput(msg)
    partial = target.with_name(target.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial / _TENSORS)
        manifest = {
            **body,
            "files": {_TENSORS: hashlib.sha256((partial / _TENSORS).read_bytes()).hexdigest()},
            "commitment": commit(body),
        }
        text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        (partial / _MANIFEST).write_text(text, encoding="utf-8")
        if target.exists():
            target.rmdir()
        partial.replace(target)
    except OSError as error:
        msg = f"cannot write the evidence bundle {target}: {error}"
        raise InvalidInput(msg) from error


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
    folder = Path(path)
    manifest = _manifest(folder)
    files, commitment = manifest.pop("files", None), manifest.pop("commitment", None)
    if manifest.get("schema") != SCHEMA:
        msg = f"bundle {folder} has schema {manifest.get('schema')!r}; this release reads schema {SCHEMA}"
        raise InvalidInput(msg)
    if not isinstance(files, dict) or set(files) != {_TENSORS}:
        msg = f"the manifest of {folder} must list exactly {_TENSORS}"
        raise EvidenceTampered(msg)
    if commitment != commit(manifest):
        msg = f"the manifest of {folder} does not match its commitment; it was changed after registration"
        raise EvidenceTampered(msg)
    try:
        blob = (folder / _TENSORS).read_bytes()
    except OSError as error:
        msg = f"bundle {folder} lacks {_TENSORS}: {error}"
        raise EvidenceTampered(msg) from error
    if hashlib.sha256(blob).hexdigest() != files[_TENSORS]:
        msg = f"{_TENSORS} in {folder} does not match its digest; it was changed after registration"
        raise EvidenceTampered(msg)
    try:
        tensors = load_file(folder / _TENSORS)
    except (OSError, SafetensorError) as error:
        msg = f"{_TENSORS} in {folder} is not a safetensors file: {error}"
        raise EvidenceTampered(msg) from error
    # The commitment covers tensor contents, so that a new manifest cannot bless new tensors.
    if tensor_digests(tensors) != manifest.get("tensors"):
        msg = f"the tensors of {folder} do not match the committed ones"
        raise EvidenceTampered(msg)
    return manifest, tensors


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / _MANIFEST
    if not file.is_file():
        msg = f"{folder} is not an evidence bundle: it has no {_MANIFEST}"
        raise InvalidInput(msg)
    if file.stat().st_size > _LARGEST_MANIFEST:
        msg = f"{file} is larger than any manifest; refused"
        raise InvalidInput(msg)
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{file} is not JSON: {error}"
        raise EvidenceTampered(msg) from error
    if not isinstance(manifest, dict) or not re.fullmatch(r"[a-z0-9-]+", str(manifest.get("scheme", ""))):
        msg = f"{file} names no scheme"
        raise EvidenceTampered(msg)
    return manifest
