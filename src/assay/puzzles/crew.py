"""Who searches: this thread, another process, or WebAssembly where wasmtime is installed."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

from assay.errors import InvalidInput
from assay.puzzles.worker import SubPuzzle, attempt

__all__ = ["Backend", "Local", "Member", "Process", "Wasm", "choose", "member"]

Backend = Literal["wasm", "process", "local"]
# Some tens of milliseconds: how long it takes at most to hear that the search is over.
_SLICE = {"wasm": 1 << 18, "process": 1 << 15, "local": 1 << 14}
_LOW = (1 << 32) - 1
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from assay.puzzles.worker import main; "
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); main()"
)


class Member(Protocol):
    """One searcher; used by one thread at a time."""

    def attempt(self, puzzle: SubPuzzle, first: int) -> tuple[int | None, int, int]:
        """Search one slice; see `assay.puzzles.worker.attempt`."""
        ...  # pragma: no cover

    def close(self) -> None:
        """Free what it holds."""
        ...  # pragma: no cover


class Local:
    """Searches in the calling thread.

    Examples
    --------
    >>> Local().attempt(SubPuzzle("sha256", bytes(32), 0, (1 << 64) - 1), 0)
    (0, 1, 1)
    """

    def attempt(self, puzzle: SubPuzzle, first: int) -> tuple[int | None, int, int]:
        """Search one slice."""
        return attempt(puzzle, first, _SLICE["local"])

    def close(self) -> None:
        """Do nothing: nothing is held."""


class Process:
    """Searches in a process of its own.

    Not a pool of `multiprocessing`: that would run the caller's main module once more, or
    fork a process whose threads hold locks. The child reads from a pipe and ends with it.
    """

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        # Isolated and without site-packages: the worker needs the standard library only, and starts faster.
        command = [sys.executable, "-I", "-S", "-c", _START, root]
        self._child = subprocess.Popen(  # noqa: S603 - this interpreter, constant arguments
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii"
        )

    def attempt(self, puzzle: SubPuzzle, first: int) -> tuple[int | None, int, int]:
        """Search one slice; OSError or ValueError if the process has died."""
        source, sink = self._child.stdout, self._child.stdin
        assert source is not None
        assert sink is not None
        sink.write(
            f"{puzzle.alg} {puzzle.seed.hex()} {puzzle.index} {puzzle.target:x} {puzzle.memory} "
            f"{first} {_SLICE['process']}\n"
        )
        sink.flush()
        nonce, stop, tries = source.readline().split()
        return None if nonce == "-" else int(nonce), int(stop), int(tries)

    def close(self) -> None:
        """End the process."""
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not yet written has no reader any more
                    pipe.close()
        self._child.wait()


class Wasm:
    """Searches in compiled WebAssembly, the same that the browser page runs; many times Python's rate.

    Calls leave Python's lock, so threads are enough to use all cores.
    """

    def __init__(self) -> None:
        import wasmtime

        engine, module = _compiled()
        self._store = wasmtime.Store(engine)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._memory: Any = exports["memory"]
        self._search: Any = exports["search"]
        self._seed = b""

    def attempt(self, puzzle: SubPuzzle, first: int) -> tuple[int | None, int, int]:
        """Search one slice."""
        if self._seed != puzzle.seed:
            self._memory.write(self._store, puzzle.seed, 256)
            self._seed = puzzle.seed
        # Easy puzzles end within few tries; one slice never crosses from one upper half to the next.
        expected = (1 << 64) // puzzle.target
        tries = min(_SLICE["wasm"], max(1024, 4 * expected & ~3), _LOW + 1 - (first & _LOW))
        found = self._search(self._store, puzzle.index, _signed(first), tries, _signed(puzzle.target))
        if found == -1:
            return None, first + tries, tries
        nonce = found & ((1 << 64) - 1)
        return nonce, first + tries, nonce - first + 1

    def close(self) -> None:
        """Do nothing: memory goes with the object."""


def choose(alg: str, backend: Backend | None = None) -> Backend:
    """Return who searches best here.

    Parameters
    ----------
    alg
        ``"sha256"`` or ``"scrypt"``; the latter is not written in WebAssembly.
    backend
        What the caller prefers.

    Raises
    ------
    InvalidInput
        If the preferred one is unknown or not installed.

    Examples
    --------
    >>> choose("sha256", "local"), choose("scrypt")
    ('local', 'process')
    """
    if backend not in {None, *_SLICE}:
        msg = f"unknown backend {backend!r}; use one of {', '.join(_SLICE)}"
        raise InvalidInput(msg)
    compiled = importlib.util.find_spec("wasmtime") is not None
    if backend == "wasm" and not compiled:
        msg = "the wasm backend needs the package wasmtime; install it or leave the choice open"
        raise InvalidInput(msg)
    if alg == "sha256" and compiled and backend in {None, "wasm"}:
        return "wasm"
    return "local" if backend == "local" or not sys.executable else "process"


def member(backend: Backend) -> Member:
    """Return a new searcher."""
    makers: dict[str, type[Member]] = {"wasm": Wasm, "process": Process, "local": Local}
    return makers[backend]()


@cache
def _compiled() -> tuple[Any, Any]:
    import wasmtime

    # Before the interpreter takes wasmtime apart: its objects cannot be freed after that.
    atexit.register(_compiled.cache_clear)
    engine = wasmtime.Engine()
    return engine, wasmtime.Module(engine, Path(__file__).with_name("sha256.wasm").read_bytes())


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
