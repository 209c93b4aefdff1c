"""The gateway's signing keys, in a file that only it can read, and a clock that does not run back.

Keys are the one thing that never goes into the database: whoever can read the books must
not be able to sign. The file holds a root secret, from which long-lived secrets are
derived (account keys, price rounding), and several signing keys with their times.
A new key is written to the file some time before it signs, so that every replica that
shares the file knows it when the first challenge comes back to it; an old one is kept
until everything it signed has expired.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import json
import math
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from assay.errors import AssayError, InvalidInput

__all__ = ["Clock", "ClockJumped", "KeyRing", "SigningKey"]

_FORMAT = "assay/keys/1"
_BYTES = 32
_MAX_FILE = 64 * 1024
_MAX_KEYS = 256
_DERIVE = b"assay/derive/1\0"
_MINUTE = 60.0
_LOOK = 1.0


class ClockJumped(AssayError):
    """The clock runs behind a time that was already seen: nothing may be issued (503)."""


class Clock:
    """Seconds since 1970 that never decrease, and a refusal to issue while the real clock is behind.

    What was accepted at some time must not become acceptable again because the clock was
    set back: `now` keeps the latest time that was seen. What is issued would carry a wrong
    time: `issuing` refuses until the clock has caught up.

    Parameters
    ----------
    source
        The real clock.
    tolerance
        Seconds by which it may be corrected without a refusal.

    Examples
    --------
    >>> times = iter([1000.0, 900.0, 900.0])
    >>> clock = Clock(lambda: next(times))
    >>> clock(), clock()
    (1000.0, 1000.0)
    >>> clock.issuing()
    Traceback (most recent call last):
    assay.gateway.keys.ClockJumped: the clock runs 100 s behind a time it has shown before; nothing is issued
    """

    def __init__(self, source: Callable[[], float] = time.time, *, tolerance: float = 2.0) -> None:
        self._source, self._tolerance = source, tolerance
        self._latest = -math.inf
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the latest time seen."""
        now = self._source()
        with self._lock:
            self._latest = max(self._latest, now)
            return self._latest

    now = __call__

    def issuing(self) -> float:
        """Return the time for something that is about to be signed.

        Raises
        ------
        ClockJumped
            While the real clock is behind by more than the tolerance.
        """
        now = self._source()
        with self._lock:
            behind = self._latest - now
            self._latest = max(self._latest, now)
            if behind > self._tolerance:
                msg = f"the clock runs {behind:.0f} s behind a time it has shown before; nothing is issued"
                raise ClockJumped(msg)
            return self._latest

    def seen(self, moment: float) -> None:
        """Take note of a time that another replica, or an earlier process, has shown."""
        with self._lock:
            self._latest = max(self._latest, moment)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key and its times, in seconds since 1970.

    Parameters
    ----------
    kid
        Its public name.
    secret
        32 random bytes; not in ``repr``.
    not_before
        From when it signs.
    retires
        Until when it signs.
    not_after
        Until when what it signed is accepted.
    """

    kid: str
    secret: bytes
    not_before: float
    retires: float
    not_after: float

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r}, not_before={self.not_before}, not_after={self.not_after})"


@dataclass(frozen=True, slots=True)
class _Content:
    root: bytes
    keys: tuple[SigningKey, ...]


class KeyRing:
    """The keys in a file that all replicas of a gateway share.

    Parameters
    ----------
    path
        The key file, mode 0600. Created if absent.
    rotation
        Seconds for which a key signs.
    overlap
        Seconds for which it is accepted afterwards; at least the longest expiry of what it
        signs.
    clock
        Seconds since 1970.
    read_only
        Never write the file: another process rotates it, or a deployment mounts it.

    Raises
    ------
    InvalidInput
        If the file is readable by others, is no key file, or does not exist and may not be made.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> ring = KeyRing(Path(folder.name, "gateway.keys"), clock=lambda: 1000.0)
    >>> kid, key = ring.signing(1000.0)
    >>> ring.live(1000.0)[kid] == key
    True
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | Path,
        *,
        rotation: float = 24 * 3600.0,
        overlap: float = 2 * 3600.0,
        clock: Callable[[], float] = time.time,
        read_only: bool = False,
    ) -> None:
        _check_times(rotation, overlap)
        self.path = Path(path)
        self._rotation, self._overlap, self._clock = rotation, overlap, clock
        self._read_only = read_only
        self._lead = min(3600.0, rotation / 4)
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] = (0, 0, 0)
        self._checked = -math.inf
        self._content = _Content(b"", ())
        self.refresh()

    # --- what the gateway asks --------------------------------------------------------------
    def signing(self, now: float) -> tuple[str, bytes]:
        """Return name and secret of the key that signs now.

        Raises
        ------
        InvalidInput
            If no key is valid now, as when nobody rotates a read-only file.
        """
        for attempt in (False, True):
            self._look(force=attempt)
            signing = [k for k in self._content.keys if k.not_before <= now < k.retires]
            if signing:
                key = max(signing, key=lambda k: (k.not_before, k.kid))
                return key.kid, key.secret
        msg = f"no key in {self.path} is valid now; rotate the keys or correct the clock"
        raise InvalidInput(msg)

    def live(self, now: float) -> Mapping[str, bytes]:
        """Return the keys whose signatures are accepted now, those that sign next included."""
        self._look()
        return {k.kid: k.secret for k in self._content.keys if now < k.not_after}

    def secret(self, purpose: str) -> bytes:
        """Return a long-lived secret for one purpose, 32 bytes; the same in every replica.

        It is derived from the root secret, so that none tells anything of another.
        """
        return hmac.digest(self._content.root, _DERIVE + purpose.encode(), "sha256")

    def public(self) -> Sequence[tuple[str, float, float]]:
        """Return name, not_before and not_after of every key: what a database may hold."""
        return [(k.kid, k.not_before, k.not_after) for k in self._content.keys]

    # --- rotation ---------------------------------------------------------------------------
    def retime(self, *, rotation: float, overlap: float) -> None:
        """Make keys from now on sign, and be accepted afterwards, for other times.

        Raises
        ------
        InvalidInput
            As the constructor.
        """
        _check_times(rotation, overlap)
        self._rotation, self._overlap = rotation, overlap
        self._lead = min(3600.0, rotation / 4)

    def refresh(self, *, rotate: bool = False) -> bool:
        """Read the file again, and add the next key when it is time; tell whether one was added.

        Parameters
        ----------
        rotate
            Retire the signing key now, as after a leak of signed material. What it signed is
            still accepted for the overlap; to revoke that too, delete the file.
        """
        if self._read_only:
            self._load()
            return False
        with self._exclusive():
            now = self._clock()
            found = self._read() if self.path.exists() else None
            content = found or _Content(secrets.token_bytes(_BYTES), ())
            planned = self._plan(content, now, rotate=rotate)
            if planned != found:
                self._write(planned)
            self._load()
            return len({k.kid for k in planned.keys} - {k.kid for k in content.keys}) > 0

    def _plan(self, content: _Content, now: float, *, rotate: bool) -> _Content:
        keys = [k for k in content.keys if now < k.not_after]
        if rotate:
            keys = [k if now >= k.retires else self._retired(k, now) for k in keys if k.not_before <= now]
        last = max((k.retires for k in keys), default=now)
        if last <= now + self._lead:
            start = max(now, last)
            # A key that is the first, or late, signs from a minute ago: clocks differ a little.
            begin = start - _MINUTE if start == now else start
            keys.append(self._new(begin, start + self._rotation))
        return _Content(content.root, tuple(sorted(keys, key=lambda k: (k.not_before, k.kid)))[-_MAX_KEYS:])

    def _retired(self, key: SigningKey, now: float) -> SigningKey:
        return replace(key, retires=now, not_after=now + self._overlap)

    def _new(self, begin: float, retires: float) -> SigningKey:
        kid = f"{int(begin):x}-{secrets.token_hex(4)}"
        return SigningKey(kid, secrets.token_bytes(_BYTES), begin, retires, retires + self._overlap)

    # --- the file ---------------------------------------------------------------------------
    def _look(self, *, force: bool = False) -> None:
        """Notice a file that another process has changed, and rotate when it is time; now and then."""
        now = self._clock()
        with self._lock:
            if not force and abs(now - self._checked) < _LOOK:
                return
            self._checked = now
        due = max((k.retires for k in self._content.keys), default=now) <= now + self._lead
        if due and not self._read_only:
            self.refresh()
            return
        with contextlib.suppress(OSError):
            status = self.path.stat()
            if (status.st_ino, status.st_mtime_ns, status.st_size) != self._stamp:
                self._load()

    def _load(self) -> None:
        self._content = self._read()
        status = self.path.stat()
        self._stamp = (status.st_ino, status.st_mtime_ns, status.st_size)

    def _read(self) -> _Content:
        try:
            with self.path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                raw = file.read(_MAX_FILE + 1)
        except OSError as error:
            msg = f"cannot read the key file {self.path}: {error.strerror}"
            raise InvalidInput(msg) from error
        if mode & 0o077:
            msg = f"the key file {self.path} has mode {mode:04o}, others can read it; set it to 0600"
            raise InvalidInput(msg)
        try:
            return _parse(raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"{self.path} is not a key file of this gateway"
            raise InvalidInput(msg) from error

    def _write(self, content: _Content) -> None:
        """Replace the file as a whole; nobody ever reads half of it or with another mode."""
        data = {
            "format": _FORMAT,
            "root": content.root.hex(),
            "keys": [
                {
                    "kid": k.kid,
                    "secret": k.secret.hex(),
                    "not_before": k.not_before,
                    "retires": k.retires,
                    "not_after": k.not_after,
                }
                for k in content.keys
            ],
        }
        partial = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.partial")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(data, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one process rotate at a time."""
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            msg = f"cannot write beside the key file {self.path}: {error.strerror}; open it read-only"
            raise InvalidInput(msg) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _check_times(rotation: float, overlap: float) -> None:
    if not overlap > 0.0 or not rotation >= _MINUTE:
        msg = f"keys rotate after at least a minute and overlap, got {rotation} s and {overlap} s"
        raise InvalidInput(msg)


def _parse(raw: bytes) -> _Content:
    data = json.loads(raw)
    if len(raw) > _MAX_FILE or data["format"] != _FORMAT or len(data["keys"]) > _MAX_KEYS:
        raise ValueError
    keys = tuple(
        SigningKey(
            str(k["kid"]),
            bytes.fromhex(k["secret"]),
            float(k["not_before"]),
            float(k["retires"]),
            float(k["not_after"]),
        )
        for k in data["keys"]
    )
    root = bytes.fromhex(data["root"])
    times_rise = all(k.not_before < k.retires < k.not_after < math.inf for k in keys)
    if not times_rise or any(len(secret) != _BYTES for secret in (root, *(k.secret for k in keys))):
        raise ValueError
    return _Content(root, keys)
