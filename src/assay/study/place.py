"""A folder to write to: checked beforehand, whole files only, a full disk told as such."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.errors import InvalidInput
from assay.study.engine import StoreFull

__all__ = ["made", "space_in", "write_whole"]

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def space_in(folder: Path) -> Iterator[None]:
    """Raise `StoreFull` if a disk is full in here."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        msg = f"no space is left in {folder}; make some and run again: nothing that was finished is lost"
        raise StoreFull(msg) from error


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder, or raise `InvalidInput` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        msg = f"cannot write to {folder}: {error.strerror}; choose another --out"
        raise InvalidInput(msg) from error
    yield


def write_whole(path: Path, text: str) -> None:
    """Write a file at once: whoever reads it sees the old text or the new."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
