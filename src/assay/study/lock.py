"""One run at a time works on a folder; the lock of a killed one is free at once."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.errors import InvalidInput

__all__ = ["is_locked", "run_lock"]

_NAME = "run.lock"
_TRIES, _PAUSE = 5, 0.1  # whoever only looks holds the lock for an instant


@contextmanager
def run_lock(folder: str | Path) -> Iterator[None]:
    """Hold a folder's lock.

    The operating system keeps it for the process and gives it back when the process ends,
    however it ends, so that nobody has to judge whether a lock file is stale.

    Raises
    ------
    InvalidInput
        If another run holds it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, run_lock(folder):
    ...     (Path(folder) / "run.lock").exists()
    True
    """
    path = Path(folder) / _NAME
    with path.open("a+", encoding="utf-8") as file:
        try:
            for attempt in range(_TRIES):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if attempt == _TRIES - 1:
                        raise
                    time.sleep(_PAUSE)
        except OSError as error:
            file.seek(0)
            owner = file.read(40).strip() or "unknown"
            msg = (
                f"another run (process {owner}) is at work on {folder}; wait for it, end it, "
                "or choose another --out"
            )
            raise InvalidInput(msg) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_locked(folder: str | Path) -> bool:
    """Whether a run is at work on a folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     before = is_locked(folder)
    ...     with run_lock(folder):
    ...         before, is_locked(folder)
    (False, True)
    """
    try:
        with (Path(folder) / _NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
