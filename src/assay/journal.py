"""The journal: an append-only file of what a model was asked and what it answered.

One JSON line per call: 16-byte digests of the rows, the raw answers, and a hash that
chains the line to all lines before it. A run that was killed reads it back and asks
nothing twice; a third party reads it and recomputes a verdict.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from assay.errors import EvidenceTampered, InvalidInput

__all__ = ["Journal", "row_keys"]

_SCHEMA = 1
_DTYPES = {"int64": "<i8", "float32": "<f4", "float64": "<f8"}
_KEY = 16


def row_keys(kind: str, rows: np.ndarray) -> list[bytes]:
    """Return a 16-byte digest per row of ``rows`` for answers of ``kind``."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    head = hashlib.sha256(f"{kind}|{rows.dtype}|{rows.shape[1:]}".encode())
    keys = []
    for row in flat:
        h = head.copy()
        h.update(row.data)
        keys.append(h.digest()[:_KEY])
    return keys


class Journal:
    """Answers on disk, replayed first-in first-out for each row.

    Parameters
    ----------
    path
        File to continue or to create.
    header
        Who was asked (digest, shapes). A file with another header is refused.
    read_only
        Read an existing file without continuing it.

    Raises
    ------
    InvalidInput
        If the file belongs to another model or is in use by another run.
    EvidenceTampered
        If a line does not match its hash.
    """

    def __init__(self, path: str | Path, header: dict[str, Any] | None, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._answers: dict[bytes, deque[np.ndarray]] = {}
        self._chain = hashlib.sha256(b"assay-journal").hexdigest()
        self.rows = 0
        self._file = None
        if not read_only:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
            _lock(self._file.fileno(), self.path)
        elif not self.path.exists():
            msg = f"no journal at {self.path}"
            raise InvalidInput(msg)
        self.header = self._load(header)

    def _load(self, header: dict[str, Any] | None) -> dict[str, Any]:
        lines = self.path.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):  # a killed run left half a line: never acknowledged
            torn = lines.pop()
            if self._file is not None:
                self._file.truncate(self._file.seek(0, os.SEEK_END) - len(torn))
        if not lines:
            if header is None:
                msg = f"journal {self.path} is empty"
                raise InvalidInput(msg)
            self._append({"journal": _SCHEMA, **header})
            return header
        found = self._parse(lines[0], 1)
        if found.pop("journal", None) != _SCHEMA:
            msg = f"{self.path} is not a journal of this version"
            raise InvalidInput(msg)
        if header is not None and found != json.loads(json.dumps(header)):
            wrong = sorted(k for k in header if found.get(k) != json.loads(json.dumps(header[k])))
            msg = f"journal {self.path} belongs to another run ({', '.join(wrong)} differ); use another file"
            raise InvalidInput(msg)
        for number, line in enumerate(lines[1:], start=2):
            self._replay(self._parse(line, number), number)
        return found

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = json.loads(line)
            chained = entry.pop("chain")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            msg = f"line {number} of journal {self.path} is damaged"
            raise EvidenceTampered(msg) from error
        if chained != self._link(entry):
            msg = f"line {number} of journal {self.path} does not match its hash; the journal was changed"
            raise EvidenceTampered(msg)
        self._chain = chained
        return dict(entry)

    def _replay(self, entry: dict[str, Any], number: int) -> None:
        try:
            keys = base64.b64decode(entry["keys"], validate=True)
            count = len(keys) // _KEY
            dtype = np.dtype(_DTYPES[entry["dtype"]])
            raw = base64.b64decode(entry["answers"], validate=True)
            answers = np.frombuffer(raw, dtype=dtype)
            answers = answers.reshape(count, *entry["shape"])
        except (ValueError, KeyError, TypeError) as error:
            msg = f"line {number} of journal {self.path} is malformed: {error}"
            raise EvidenceTampered(msg) from error
        for index in range(count):
            key = keys[index * _KEY : (index + 1) * _KEY]
            self._answers.setdefault(key, deque()).append(answers[index])
        self.rows += count

    def take(self, key: bytes) -> np.ndarray | None:
        """Return the next recorded answer for a row and forget it, or None."""
        queue = self._answers.get(key)
        return queue.popleft() if queue else None

    def record(self, keys: Sequence[bytes], answers: np.ndarray) -> None:
        """Append answers ``[n, ...]`` and wait until they are on disk."""
        if answers.dtype.name not in _DTYPES:
            msg = f"answers of type {answers.dtype} cannot be journaled; expected {', '.join(_DTYPES)}"
            raise InvalidInput(msg)
        plain = np.ascontiguousarray(answers, dtype=_DTYPES[answers.dtype.name])
        entry = {
            "keys": base64.b64encode(b"".join(keys)).decode(),
            "dtype": answers.dtype.name,
            "shape": list(answers.shape[1:]),
            "answers": base64.b64encode(plain.tobytes()).decode(),
        }
        self._append(entry)
        self.rows += len(keys)

    def _append(self, entry: dict[str, Any]) -> None:
        if self._file is None:
            msg = f"journal {self.path} is open for reading only"
            raise InvalidInput(msg)
        self._chain = self._link(entry)
        self._file.write(json.dumps({**entry, "chain": self._chain}, sort_keys=True).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _link(self, entry: dict[str, Any]) -> str:
        text = json.dumps(entry, sort_keys=True)
        return hashlib.sha256(f"{self._chain}\n{text}".encode()).hexdigest()

    def close(self) -> None:
        """Close the file; what was recorded stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        msg = f"journal {path} is in use by another run; wait for it or use another file"
        raise InvalidInput(msg) from error
