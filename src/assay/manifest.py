"""Folders of tensors with a manifest and digests of every file: whole or absent, nothing pickled.

Evidence bundles and fitted estimators are kept so. What differs between them is words and
names, which a `FolderKind` holds.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from assay.errors import EvidenceTampered, InvalidInput

__all__ = ["FolderKind", "body_digest", "read_folder", "tensor_digests", "write_folder"]

_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class FolderKind:
    """What one kind of folder is called, and how it calls its parts.

    Parameters
    ----------
    name, short
        The kind in errors, as in "evidence bundle" and "bundle".
    schema
        Version of the format.
    tensors
        File name of the tensors.
    maker
        Field of the manifest that names what made the content.
    digest
        Field of the manifest that holds the digest of its body.
    since
        What a folder must not have changed after, as in "registration".
    covered
        The tensors that the digest covers, as in "the committed ones".
    alone
        Whether the tensors are the only file beside the manifest.
    """

    name: str
    short: str
    schema: int
    tensors: str
    maker: str
    digest: str
    since: str
    covered: str
    alone: bool


def body_digest(body: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest body in canonical JSON.

    Examples
    --------
    >>> body_digest({"a": 1, "b": 2}) == body_digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tensor_digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return a SHA-256 for each tensor over its name, dtype, shape and bytes.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(4)
    >>> tensor_digests({"x": x}) == tensor_digests({"x": x.view(2, 2)})
    False
    """
    digests = {}
    for name, tensor in sorted(tensors.items()):
        h = hashlib.sha256(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        h.update(tensor.detach().cpu().contiguous().numpy().data)
        digests[name] = h.hexdigest()
    return digests


def write_folder(
    kind: FolderKind,
    path: str | Path,
    body: dict[str, Any],
    tensors: Mapping[str, Tensor],
    others: Mapping[str, Callable[[Path], object]] | None = None,
) -> Path:
    """Write a folder, which appears whole or not at all.

    Parameters
    ----------
    kind
        What is written.
    path
        Folder that does not exist, or is empty.
    body
        The manifest without ``files`` and its digest; ``tensors`` in it are `tensor_digests`.
    tensors
        Everything large.
    others
        For each further file or folder, what writes it.

    Raises
    ------
    InvalidInput
        If something is already there, or it cannot be written.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        msg = f"{target} already exists; choose another folder for the {kind.name}"
        raise InvalidInput(msg)
    partial = target.with_name(target.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial / kind.tensors)
        for name, write in (others or {}).items():
            write(partial / name)
        files = {
            f.relative_to(partial).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
            for f in sorted(partial.rglob("*"))
            if f.is_file()
        }
        manifest = {**body, "files": files, kind.digest: body_digest(body)}
        text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        (partial / _MANIFEST).write_text(text, encoding="utf-8")
        if target.exists():
            target.rmdir()
        partial.replace(target)
    except OSError as error:
        msg = f"cannot write the {kind.name} {target}: {error}"
        raise InvalidInput(msg) from error
    return target


def read_folder(kind: FolderKind, path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a folder's manifest body and tensors after every digest was checked.

    Parameters
    ----------
    kind
        What it must be.
    path
        The folder.

    Raises
    ------
    InvalidInput
        If the folder is none of this kind, or of a version that this release does not read.
    EvidenceTampered
        If anything in it does not match its digest.
    """
    folder = Path(path)
    manifest = _manifest(kind, folder)
    files, digest = manifest.pop("files", None), manifest.pop(kind.digest, None)
    if manifest.get("schema") != kind.schema:
        found = manifest.get("schema")
        msg = f"{kind.short} {folder} has schema {found!r}; this release reads schema {kind.schema}"
        raise InvalidInput(msg)
    if digest != body_digest(manifest):
        msg = f"the manifest of {folder} does not match its {kind.digest}; it was changed after {kind.since}"
        raise EvidenceTampered(msg)
    if not isinstance(files, dict) or kind.tensors not in files or (kind.alone and len(files) > 1):
        wrong = "must list exactly" if kind.alone else "does not list"
        msg = f"the manifest of {folder} {wrong} {kind.tensors}"
        raise EvidenceTampered(msg)
    blob = b""
    for name, expected in files.items():
        content = _read_inside(kind, folder, name)
        if hashlib.sha256(content).hexdigest() != expected:
            msg = f"{name} in {folder} does not match its digest; it was changed after {kind.since}"
            raise EvidenceTampered(msg)
        blob = content if name == kind.tensors else blob
    try:
        tensors = load(blob)  # the very bytes that were checked
    except SafetensorError as error:
        msg = f"{kind.tensors} in {folder} is not a safetensors file: {error}"
        raise EvidenceTampered(msg) from error
    # The digest covers tensor contents, so that a new manifest cannot bless new tensors.
    if tensor_digests(tensors) != manifest.get("tensors"):
        msg = f"the tensors of {folder} do not match {kind.covered}"
        raise EvidenceTampered(msg)
    return manifest, tensors


def _read_inside(kind: FolderKind, folder: Path, name: object) -> bytes:
    if not isinstance(name, str) or not (folder / name).resolve().is_relative_to(folder.resolve()):
        msg = f"the manifest of {folder} lists a file outside its folder: {name!r}"
        raise EvidenceTampered(msg)
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        msg = f"{kind.short} {folder} lacks {name}: {error}"
        raise EvidenceTampered(msg) from error


def _manifest(kind: FolderKind, folder: Path) -> dict[str, Any]:
    file = folder / _MANIFEST
    if not file.is_file():
        msg = f"{folder} is not an {kind.name}: it has no {_MANIFEST}"
        raise InvalidInput(msg)
    if file.stat().st_size > _LARGEST_MANIFEST:
        msg = f"{file} is larger than any manifest; refused"
        raise InvalidInput(msg)
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{file} is not JSON: {error}"
        raise EvidenceTampered(msg) from error
    if not isinstance(manifest, dict) or not re.fullmatch(r"[a-z0-9-]+", str(manifest.get(kind.maker, ""))):
        msg = f"{file} names no {kind.maker}"
        raise EvidenceTampered(msg)
    return manifest
