"""The journal as a file that shows whether anybody changed it afterwards.

JSON lines, each of which names the digest of the one before. With a key the digests
are MACs, so that only its holders can write lines that fit; without one, what holds the
file to the truth is the digest of its last line, kept or published elsewhere.

References
----------
Schneier and Kelsey, "Secure Audit Logs to Support Computer Forensics", ACM TISSEC 1999, has
hash chains over log entries.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from assay.errors import EvidenceTampered, InvalidInput
from assay.gateway.store.base import JournalRow

__all__ = ["Chain", "Journal", "export_journal", "journal_lines", "verify_export"]

_TAG = b"assay/audit/1\0"
_FORMAT = "assay-audit-1"
_PAGE = 1000
_LONGEST_LINE = 1024 * 1024
_SHORTEST_KEY = 16


class Journal(Protocol):
    """What the export needs of a store."""

    def journal(
        self, *, after: int = 0, limit: int = 1000, account: str | None = None
    ) -> Sequence[JournalRow]:
        """Return entries with an id above ``after``, oldest first."""
        ...


@dataclass(frozen=True)
class Chain:
    """Where a file ends.

    Attributes
    ----------
    entries
        Entries of the journal in the file.
    last
        The journal's own number of the last one.
    head
        Digest of the last line, 64 hex digits. Keep it elsewhere: a file that was cut off is
        a good shorter file.
    """

    entries: int
    last: int
    head: str


def export_journal(store: Journal, path: str | Path, *, key: bytes | None = None) -> Chain:
    """Write the journal to a file, or go on with a file that was begun before.

    Parameters
    ----------
    store
        Whose journal.
    path
        The file. One that exists is verified first and appended to; a last line that a
        crash left unfinished is cut off.
    key
        At least 16 bytes; the same for every export to one file.

    Returns
    -------
    Chain
        Where the file ends now.

    Raises
    ------
    EvidenceTampered
        If the file does not verify.
    InvalidInput
        If the key is too short or the file cannot be written.
    """
    _check_key(key)
    path = Path(path)
    try:
        if path.exists():
            _cut_unfinished(path)
        if path.exists() and path.stat().st_size:
            chain = verify_export(path, key=key)
            with path.open("ab") as file:
                return _append(file, store, chain, key)
        with path.open("wb") as file:
            line, chain = _first(key)
            file.write(line)
            return _append(file, store, chain, key)
    except OSError as error:
        msg = f"the audit file {path} cannot be written: {error}"
        raise InvalidInput(msg) from error


def journal_lines(store: Journal, *, key: bytes | None = None) -> Iterator[bytes]:
    """Yield the lines of a whole export, for a download; joined, they are what `export_journal` writes.

    Parameters
    ----------
    store
        Whose journal.
    key
        At least 16 bytes.

    Raises
    ------
    InvalidInput
        If the key is too short.
    """
    _check_key(key)
    line, chain = _first(key)
    yield line
    for line, _ in _further(store, chain, key):
        yield line


def verify_export(path: str | Path, *, key: bytes | None = None, head: str | None = None) -> Chain:
    """Check that a file is what was exported.

    Parameters
    ----------
    path
        The file.
    key
        The key that it was exported with.
    head
        Digest that some line is known to have had, so that a file which was cut off before it
        or written anew is found out. The file may have grown since.

    Raises
    ------
    EvidenceTampered
        Naming the first line that does not fit.
    InvalidInput
        If the file cannot be read, or the key is too short.
    """
    _check_key(key)
    path = Path(path)
    chain, met = Chain(0, 0, ""), head is None
    try:
        for number, line in enumerate(_lines(path)):
            chain = _checked(line, number, chain, key, f"line {number + 1} of {path.name}")
            met = met or chain.head == head
    except OSError as error:
        msg = f"the audit file {path} cannot be read: {error}"
        raise InvalidInput(msg) from error
    if not chain.head:
        msg = f"the audit file {path} is empty"
        raise EvidenceTampered(msg)
    if not met:
        msg = f"no line of {path.name} has the digest {head}: it was cut off or written anew"
        raise EvidenceTampered(msg)
    return chain


def _append(file: IO[bytes], store: Journal, chain: Chain, key: bytes | None) -> Chain:
    end = chain
    for line, reached in _further(store, chain, key):
        file.write(line)
        end = reached
    file.flush()
    os.fsync(file.fileno())
    return end


def _first(key: bytes | None) -> tuple[bytes, Chain]:
    return _line(0, {"format": _FORMAT, "keyed": key is not None}, Chain(0, 0, ""), key)


def _further(store: Journal, chain: Chain, key: bytes | None) -> Iterator[tuple[bytes, Chain]]:
    """Yield the lines after ``chain``, each with where the file ends with it."""
    while rows := store.journal(after=chain.last, limit=_PAGE):
        for row in rows:
            line, chain = _line(chain.entries + 1, dataclasses.asdict(row), chain, key)
            yield line, chain


def _line(number: int, entry: Mapping[str, Any], chain: Chain, key: bytes | None) -> tuple[bytes, Chain]:
    text = _canonical(number, entry, chain.head)
    digest = _digest(text, key)
    line = text[:-1] + b',"digest":"' + digest.encode() + b'"}\n'
    return line, Chain(number, entry.get("id", chain.last), digest)


def _checked(line: bytes, number: int, chain: Chain, key: bytes | None, where: str) -> Chain:
    """Return the chain with one more line, or raise what is wrong with it."""
    try:
        content = json.loads(line, object_pairs_hook=_once)
        digest, entry = content.pop("digest"), content["entry"]
        text = _canonical(content["line"], entry, content["before"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{where} is not a line of an audit file"
        raise EvidenceTampered(msg) from error
    if content.keys() != {"line", "before", "entry"} or not isinstance(entry, dict):
        msg = f"{where} has other members than a line of an audit file"
        raise EvidenceTampered(msg)
    if number == 0 and (entry.get("format"), entry.get("keyed")) != (_FORMAT, key is not None):
        keyed = "with" if entry.get("keyed") else "without"
        msg = f"{where} says that the file was exported {keyed} a key, or in another format"
        raise EvidenceTampered(msg)
    fits = content["line"] == number and content["before"] == chain.head
    if not fits or not isinstance(digest, str) or not hmac.compare_digest(digest, _digest(text, key)):
        msg = f"{where} does not follow from the lines before it: it was changed, added or taken out"
        raise EvidenceTampered(msg)
    last = entry.get("id", 0)
    if number and (type(last) is not int or last <= chain.last):
        msg = f"{where} has an entry whose number does not rise"
        raise EvidenceTampered(msg)
    return Chain(number, last, digest)


def _canonical(number: int, entry: Mapping[str, Any], before: str) -> bytes:
    content = {"before": before, "entry": entry, "line": number}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _digest(text: bytes, key: bytes | None) -> str:
    if key is None:
        return hashlib.sha256(_TAG + text).hexdigest()
    return hmac.new(key, _TAG + text, hashlib.sha256).hexdigest()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # two readers might take different ones
        msg = "a member stands twice"
        raise ValueError(msg)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            if not line.endswith(b"\n"):
                msg = f"{path.name} ends within a line, or has one of more than {_LONGEST_LINE} bytes"
                raise EvidenceTampered(msg)
            yield line


def _cut_unfinished(path: Path) -> None:
    """Cut off a last line without its end, which a crash left behind."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        back = min(size, _LONGEST_LINE)
        file.seek(size - back)
        end = file.read(back).rfind(b"\n")
        if end + 1 < back and (end >= 0 or back == size):
            file.truncate(size - back + end + 1)


def _check_key(key: bytes | None) -> None:
    if key is not None and len(key) < _SHORTEST_KEY:
        msg = f"the key of an audit file must have at least {_SHORTEST_KEY} bytes, got {len(key)}"
        raise InvalidInput(msg)
