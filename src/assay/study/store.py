"""Where finished steps are kept: content-addressed, on any file system that fsspec knows.

An artifact is a folder of files and a manifest. The files of each attempt go to a folder
of their own; the manifest, written last and at once, names the attempt. Whoever is killed
half-way leaves files that no manifest names, and two writers of one key cannot mix.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from assay.errors import AssayError, InvalidInput
from assay.result import Record
from assay.study.step import canonical

__all__ = ["CorruptArtifact", "Manifest", "Store"]

_CHUNK = 2**20
_MANIFEST = "manifest.json"


class CorruptArtifact(AssayError):
    """An artifact whose files no longer match their digests."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"the artifact {key[:12]} is damaged: {reason}")
        self.key, self.reason = key, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return CorruptArtifact, (self.key, self.reason)


@dataclass(frozen=True)
class Manifest(Record):
    """What a finished step left, and where it came from.

    Parameters
    ----------
    key, kind, version, config, inputs, seed, label
        The step.
    attempt
        Folder of the files.
    files
        For each file its SHA-256 and its size in bytes.
    facts
        What the step returned.
    seconds, memory
        Wall-clock seconds, and the largest resident size of the process in bytes.
    finished
        Seconds since 1970.
    versions
        Of everything that the result may depend on.
    """

    key: str
    kind: str
    version: int
    config: dict[str, Any]
    inputs: dict[str, Any]
    seed: int
    label: str
    attempt: str
    files: dict[str, list[Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    memory: int = 0
    finished: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def seal(self) -> str:
        """Digest of everything above."""
        return hashlib.sha256(canonical(self.to_dict()).encode()).hexdigest()


class Store:
    """A place for artifacts.

    Parameters
    ----------
    url
        A folder, or anything that fsspec understands, such as ``s3://bucket/prefix``.
    cache
        Local folder for copies of remote artifacts; a temporary one by default.

    Examples
    --------
    >>> store = Store("memory://example-store")
    >>> store.find("0" * 64) is None
    True
    """

    def __init__(self, url: str | Path, cache: str | Path | None = None) -> None:
        self.url = str(url)
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            msg = f"cannot use {self.url} as an artifact store: {error}"
            raise InvalidInput(msg) from error
        self.local = isinstance(self._fs, LocalFileSystem)
        if self.local:
            self._root = str(Path(self._root).resolve())
            self.url = self._root
        self._cache = Path(cache) if cache is not None else None
        self._verified: dict[tuple[str, str], tuple[Path, list[tuple[int, int]] | None]] = {}

    def find(self, key: str) -> Manifest | None:
        """Return the manifest of a finished step, None if there is none.

        Raises
        ------
        CorruptArtifact
            If the manifest is damaged, or a file is missing or has another size. The
            contents of files are checked by `open`.
        """
        path = f"{self._place(key)}/{_MANIFEST}"
        try:
            text = self._fs.cat_file(path).decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError as error:
            raise CorruptArtifact(key, "its manifest is not text") from error
        try:
            data = json.loads(text)
            seal = data.pop("seal")
            manifest = Manifest.from_dict(data)
        except (ValueError, KeyError, AttributeError, TypeError, InvalidInput) as error:
            raise CorruptArtifact(key, "its manifest cannot be read") from error
        if manifest.seal != seal or manifest.key != key:
            raise CorruptArtifact(key, "its manifest was changed")
        for name, (_, size) in manifest.files.items():
            file = f"{self._place(key)}/{manifest.attempt}/{name}"
            try:
                found = Path(file).stat().st_size if self.local else self._fs.size(file)
            except FileNotFoundError:
                found = None
            if found != size:
                raise CorruptArtifact(key, f"{name} has {found} bytes instead of {size}")
        return manifest

    def open(self, key: str) -> tuple[Path, Manifest]:
        """Return a local folder with the files of a step, checked against their digests.

        Files that look as they did when this object checked them are not read again.

        Raises
        ------
        CorruptArtifact
            If a file does not match, or there is no such artifact.
        """
        manifest = self.find(key)
        if manifest is None:
            raise CorruptArtifact(key, "it is gone")
        known = self._verified.get((key, manifest.attempt))
        if known is not None and known[1] == _looks(known[0], manifest):
            return known[0], manifest
        source = f"{self._place(key)}/{manifest.attempt}"
        folder = Path(source) if self.local else self._download(source, key, manifest)
        looks = _looks(folder, manifest)
        for name, (digest, _) in manifest.files.items():
            if file_digest(folder / name) != digest:
                raise CorruptArtifact(key, f"{name} does not match its digest")
        self._verified[key, manifest.attempt] = folder, looks
        return folder, manifest

    def commit(self, manifest: Manifest, folder: Path) -> Manifest:
        """Keep the files of ``folder`` as an artifact; whole or not at all.

        Parameters
        ----------
        manifest
            Everything but ``attempt``, ``files`` and ``finished``.
        folder
            Files, without folders between; it is moved where the store is a folder.
        """
        attempt = uuid.uuid4().hex
        files = {
            str(p.relative_to(folder)): [file_digest(p), p.stat().st_size]
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }
        made = Manifest(
            **{**vars(manifest), "attempt": attempt, "files": files, "finished": round(time.time(), 3)}
        )
        text = json.dumps({**made.to_dict(), "seal": made.seal}, sort_keys=True, allow_nan=False)
        place = self._place(manifest.key)
        if self.local:
            home = Path(place)
            home.mkdir(parents=True, exist_ok=True)
            _move(folder, home / attempt)
            partial = home / f"{attempt}.json"
            partial.write_text(text, encoding="utf-8")
            partial.replace(home / _MANIFEST)
            return made
        for name in files:
            self._fs.pipe_file(f"{place}/{attempt}/{name}", (folder / name).read_bytes())
        self._fs.pipe_file(f"{place}/{_MANIFEST}", text.encode())
        shutil.rmtree(folder)
        return made

    def discard(self, key: str) -> None:
        """Remove an artifact, the manifest first."""
        self._verified = {pair: seen for pair, seen in self._verified.items() if pair[0] != key}
        place = self._place(key)
        for path, recursive in ((f"{place}/{_MANIFEST}", False), (place, True)):
            if self._fs.exists(path):
                self._fs.rm(path, recursive=recursive)
        if self._cache is not None:
            shutil.rmtree(self._cache / key, ignore_errors=True)

    def keys(self) -> Iterator[str]:
        """Yield the key of every artifact, finished or not."""
        self._fs.invalidate_cache()  # others write here as well
        try:
            shelves = self._fs.ls(f"{self._root}/objects", detail=False)
        except FileNotFoundError:
            return
        for shelf in shelves:
            for place in self._fs.ls(shelf, detail=False):
                yield place.rstrip("/").rsplit("/", 1)[-1]

    def collect(self, keep: set[str], *, dry_run: bool = False) -> list[tuple[str, int]]:
        """Remove everything that ``keep`` does not name, and files that no manifest names.

        Returns
        -------
        list of tuple
            Key and bytes of what was, or would be, removed.
        """
        removed = []
        for key in list(self.keys()):
            place = self._place(key)
            if key not in keep:
                removed.append((key, int(self._fs.du(place))))
                if not dry_run:
                    self.discard(key)
                continue
            try:
                manifest = self.find(key)
            except CorruptArtifact:
                continue  # the next run computes it anew
            attempt = "" if manifest is None else manifest.attempt
            for path in self._fs.ls(place, detail=False):
                name = path.rstrip("/").rsplit("/", 1)[-1]
                if name in (_MANIFEST, attempt):
                    continue
                removed.append((key, int(self._fs.du(path))))
                if not dry_run:
                    self._fs.rm(path, recursive=True)
        return removed

    def _place(self, key: str) -> str:
        return f"{self._root}/objects/{key[:2]}/{key}"

    def _download(self, source: str, key: str, manifest: Manifest) -> Path:
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="assay-store-"))
            weakref.finalize(self, shutil.rmtree, self._cache, ignore_errors=True)
        folder = self._cache / key / manifest.attempt
        for name, (_, size) in manifest.files.items():
            target = folder / name
            if target.is_file() and target.stat().st_size == size:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
            self._fs.get_file(f"{source}/{name}", str(partial))
            partial.replace(target)
        return folder


def _looks(folder: Path, manifest: Manifest) -> list[tuple[int, int]] | None:
    """Return size and time of each file, None if one is missing."""
    try:
        found = [(folder / name).stat() for name in manifest.files]
    except OSError:
        return None
    return [(one.st_size, one.st_mtime_ns) for one in found]


def _move(folder: Path, target: Path) -> None:
    """Move a folder, also to another file system."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # File by file: `shutil.move` would hide that a disk is full in an error of its own.
        target.mkdir()
        for path in filter(Path.is_file, folder.rglob("*")):
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        shutil.rmtree(folder)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()
