"""Reading files that may lie about their size: every allocation is bounded beforehand."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy

from assay.errors import InvalidInput

__all__ = ["MAX_BYTES", "check_size", "open_plain", "read_end", "read_exactly", "read_npz", "read_text"]

MAX_BYTES = 8 * 2**30
"""Largest uncompressed content that is read without being asked to, in bytes (8 GiB)."""

_BROKEN = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class _Readable(Protocol):
    """Files, ``.gz`` files and members of archives."""

    def read(self, size: int, /) -> bytes: ...


def read_npz(path: str | Path, limit: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Read an ``.npz`` archive of plain arrays; objects are refused, never unpickled.

    The sizes in the archive's directory are added up before anything is decompressed,
    and each array's header must agree with the size of its member, so that neither a
    zip bomb nor a lying header can make us allocate more than ``limit`` bytes.

    Parameters
    ----------
    path
        The archive.
    limit
        Largest total uncompressed size, in bytes.

    Raises
    ------
    InvalidInput
        If the file is no such archive, is too large, or holds Python objects.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", x=np.arange(3))
    ...     {name: array.tolist() for name, array in read_npz(f"{folder}/a.npz").items()}
    {'x': [0, 1, 2]}
    """
    source = Path(path)
    try:
        with zipfile.ZipFile(source) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
            check_size(sum(m.file_size for m in members), limit, str(source))
            return {m.filename[:-4]: _read_member(archive, m, source) for m in members}
    except InvalidInput:
        raise
    except _BROKEN as error:
        msg = f"cannot read {source} as an .npz archive of plain arrays: {error}"
        raise InvalidInput(msg) from error


def check_size(size: int, limit: int, what: str) -> None:
    """Refuse content that unpacks to more than ``limit`` bytes.

    Raises
    ------
    InvalidInput
        If ``size`` exceeds ``limit``.
    """
    if size > limit:
        msg = f"{what} unpacks to at least {size:,} bytes, over the limit of {limit:,}; raise the limit"
        raise InvalidInput(msg)


def open_plain(path: str | Path) -> BinaryIO | gzip.GzipFile:
    """Open a file, or the inside of a ``.gz`` file, for reading bytes.

    Raises
    ------
    InvalidInput
        If there is no such file.
    """
    source = Path(path)
    try:
        # Returned open: the caller's `with` closes it.
        return gzip.GzipFile(source) if source.suffix == ".gz" else source.open("rb")
    except OSError as error:
        msg = f"cannot open {source}: {error.strerror or error}"
        raise InvalidInput(msg) from error


def read_exactly(file: _Readable, size: int, what: str) -> bytes:
    """Return the next ``size`` bytes of ``file``.

    Raises
    ------
    InvalidInput
        If the file ends before, or is corrupt.
    """
    try:
        content = file.read(size)
    except _BROKEN as error:
        msg = f"{what} is corrupt: {error}"
        raise InvalidInput(msg) from error
    if len(content) != size:
        msg = f"{what} ends after {len(content):,} of {size:,} bytes; it is truncated or its header is wrong"
        raise InvalidInput(msg)
    return content


def read_end(file: _Readable, what: str) -> None:
    """Check that nothing follows, and with it a ``.gz`` file's checksum.

    Raises
    ------
    InvalidInput
        If something follows, or the checksum is wrong.
    """
    try:
        more = file.read(1)
    except _BROKEN as error:
        msg = f"{what} is corrupt: {error}"
        raise InvalidInput(msg) from error
    if more:
        msg = f"{what} continues after the data that its header declares"
        raise InvalidInput(msg)


def read_text(path: str | Path, limit: int = MAX_BYTES) -> str:
    """Return a UTF-8 text file, plain or ``.gz``, of at most ``limit`` bytes.

    Raises
    ------
    InvalidInput
        If it is missing, corrupt, larger than the limit or not UTF-8.
    """
    with open_plain(path) as file:
        try:
            content = file.read(limit + 1)
            check_size(len(content), limit, str(path))
            return content.decode("utf-8-sig")
        except InvalidInput:
            raise
        except _BROKEN as error:
            msg = f"cannot read {path} as UTF-8 text: {error}"
            raise InvalidInput(msg) from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: Path) -> np.ndarray:
    """Read one array, having compared its header with the member's size."""
    what = f"array {member.filename[:-4]!r} of {source}"
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            msg = f"{what} has .npy format version {version}; save plain arrays with numpy.savez"
            raise InvalidInput(msg)
        shape, fortran, dtype = _HEADERS[version](file)
        if dtype.hasobject or dtype.kind not in "biufUS":
            msg = f"{what} has type {dtype}, which is not a plain number or text array; convert it"
            raise InvalidInput(msg)
        size = math.prod(shape) * dtype.itemsize
        if size != member.file_size - file.tell():
            msg = f"{what} declares {size:,} bytes of data but holds {member.file_size - file.tell():,}"
            raise InvalidInput(msg)
        array: np.ndarray[Any, Any] = np.frombuffer(read_exactly(file, size, what), dtype)
        return array.reshape(shape, order="F" if fortran else "C")
