"""Results on disk: whole or not at all, and never over something that is already there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.errors import InvalidInput

__all__ = ["new_file", "new_folder", "new_journal", "refuse_existing"]


def refuse_existing(path: Path, *, force: bool | None = False) -> None:
    """Raise `InvalidInput` if something is at ``path``; an empty folder is nothing.

    Parameters
    ----------
    path
        Where a result is to go.
    force
        Whether the user allows it to be replaced; None if it never is.
    """
    if force or not (path.exists() or path.is_symlink()) or (path.is_dir() and not any(path.iterdir())):
        return
    remedy = "choose another place" if force is None else "choose another place or pass --force"
    msg = f"{path} already exists; {remedy}"
    raise InvalidInput(msg)


@contextmanager
def new_file(path: Path, *, force: bool | None = False) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that becomes ``path`` if nothing fails."""
    refuse_existing(path, force=force)
    if path.is_dir():
        msg = f"{path} is a folder; give the name of a file"
        raise InvalidInput(msg)
    partial = path.with_name(path.stem + ".partial" + path.suffix)
    with _parents(path):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, *, force: bool | None = False, keep: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that becomes ``path`` if nothing fails.

    Parameters
    ----------
    path
        The folder. Where it exists and ``force`` is set, only files of the same names
        are replaced.
    force
        See `refuse_existing`.
    keep
        Pattern of files worth keeping of a run that failed: if there is one, the
        temporary folder stays, and the next run for the same ``path`` goes on in it.
    """
    refuse_existing(path, force=force)
    if path.exists() and not path.is_dir():
        msg = f"{path} is a file; give the name of a folder"
        raise InvalidInput(msg)
    partial = path.with_name(path.name + ".partial")
    with _parents(path):
        if keep is None:
            shutil.rmtree(partial, ignore_errors=True)  # what a killed run left must not get into this one
        partial.mkdir(exist_ok=True)
        try:
            yield partial
        except BaseException:
            if keep is None or not any(_answers(file) for file in partial.glob(keep)):
                shutil.rmtree(partial, ignore_errors=True)
            raise
        if not path.exists():
            partial.replace(path)
            return
        for entry in partial.iterdir():
            target = path / entry.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            entry.replace(target)
        partial.rmdir()


@contextmanager
def new_journal(path: Path | None) -> Iterator[None]:
    """Remove a journal that was begun for a run which failed before it asked anything."""
    fresh = path is not None and not path.exists()
    try:
        yield
    except BaseException:
        if path is not None and fresh and path.exists() and not _answers(path):
            path.unlink()
        raise


def _answers(journal: Path) -> bool:
    """Whether a journal holds more than its header."""
    with journal.open("rb") as file:
        return sum(1 for _ in zip(file, range(2), strict=False)) > 1


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Create the folders above ``path``, and remove them again if nothing comes of it."""
    missing = [p for p in path.absolute().parents if not p.exists()]
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in missing:
            if not any(folder.iterdir()):
                folder.rmdir()
            else:
                break
        raise
