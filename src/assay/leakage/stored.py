"""Fitted estimators on disk: a folder with a manifest and digests of every file, nothing pickled."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from assay.errors import EvidenceTampered, InvalidInput

__all__ = ["SCHEMA", "VICTIM", "body_digest", "read_folder", "tensor_digests", "write_folder"]

SCHEMA = 1
VICTIM = "victim.safetensors"
_MANIFEST = "manifest.json"
_TENSORS = "estimator.safetensors"
_LARGEST_MANIFEST = 16 * 2**20


def body_digest(body: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest body in canonical JSON: the version of an estimator.

    Examples
    --------
    >>> body_digest({"a": 1, "b": 2}) == body_digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tensor_digests(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Return a SHA-256 for each tensor over its dtype, shape and bytes."""
    digests = {}
    for name, tensor in sorted(tensors.items()):
        h = hashlib.sha256(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        h.update(tensor.detach().cpu().contiguous().numpy().data)
        digests[name] = h.hexdigest()
    return digests


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
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        msg = f"{target} already exists; choose another folder for the estimator"
        raise InvalidInput(msg)
    partial = target.with_name(target.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial / _TENSORS)
        for name, write in others.items():
            write(partial / name)
        files = {
            f.relative_to(partial).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
            for f in sorted(partial.rglob("*"))
            if f.is_file()
        }
        manifest = {**body, "files": files, "digest": body_digest(body)}
        text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        (partial / _MANIFEST).write_text(text, encoding="utf-8")
        if target.exists():
            target.rmdir()
        partial.replace(target)
    except OSError as error:
        msg = f"cannot write the estimator {target}: {error}"
        raise InvalidInput(msg) from error
    return target


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read an estimator's manifest body and tensors after every digest was checked.

    Raises
    ------
    InvalidInput
        If the folder is no estimator of a version this release reads.
    EvidenceTampered
        If anything in it does not match its digest.
    """
    folder = Path(path)
    manifest = _manifest(folder)
    files, digest = manifest.pop("files", None), manifest.pop("digest", None)
    if manifest.get("schema") != SCHEMA:
        msg = f"estimator {folder} has schema {manifest.get('schema')!r}; this release reads schema {SCHEMA}"
        raise InvalidInput(msg)
    if digest != body_digest(manifest):
        msg = f"the manifest of {folder} does not match its digest; it was changed after it was fitted"
        raise EvidenceTampered(msg)
    if not isinstance(files, dict) or _TENSORS not in files:
        msg = f"the manifest of {folder} does not list {_TENSORS}"
        raise EvidenceTampered(msg)
    blob = b""
    for name, expected in files.items():
        content = _read_inside(folder, name)
        if hashlib.sha256(content).hexdigest() != expected:
            msg = f"{name} in {folder} does not match its digest; it was changed after it was fitted"
            raise EvidenceTampered(msg)
        blob = content if name == _TENSORS else blob
    try:
        tensors = load(blob)  # the very bytes that were checked
    except SafetensorError as error:
        msg = f"{_TENSORS} in {folder} is not a safetensors file: {error}"
        raise EvidenceTampered(msg) from error
    # The digest covers tensor contents, so that a new manifest cannot bless new tensors.
    if tensor_digests(tensors) != manifest.get("tensors"):
        msg = f"the tensors of {folder} do not match those of its digest"
        raise EvidenceTampered(msg)
    return manifest, tensors


def _read_inside(folder: Path, name: object) -> bytes:
    if not isinstance(name, str) or not (folder / name).resolve().is_relative_to(folder.resolve()):
        msg = f"the manifest of {folder} lists a file outside its folder: {name!r}"
        raise EvidenceTampered(msg)
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        msg = f"estimator {folder} lacks {name}: {error}"
        raise EvidenceTampered(msg) from error


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / _MANIFEST
    if not file.is_file():
        msg = f"{folder} is not an estimator: it has no {_MANIFEST}"
        raise InvalidInput(msg)
    if file.stat().st_size > _LARGEST_MANIFEST:
        msg = f"{file} is larger than any manifest; refused"
        raise InvalidInput(msg)
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{file} is not JSON: {error}"
        raise EvidenceTampered(msg) from error
    if not isinstance(manifest, dict) or not re.fullmatch(r"[a-z0-9-]+", str(manifest.get("estimator", ""))):
        msg = f"{file} names no estimator"
        raise EvidenceTampered(msg)
    return manifest
