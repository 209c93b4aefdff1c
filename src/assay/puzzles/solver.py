"""Solving challenges with all cores: progress, time limit, cancellation, measured rate."""

from __future__ import annotations

import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from assay.errors import InvalidInput, PaymentRefused
from assay.puzzles.claims import Claims
from assay.puzzles.crew import Backend, Local, Member, choose, member
from assay.puzzles.difficulty import expected_work
from assay.puzzles.proof import encode_proof
from assay.puzzles.sha256_puzzle import seed
from assay.puzzles.tokens import read_claims
from assay.puzzles.worker import SubPuzzle

__all__ = ["Progress", "Solution", "Solver"]

# Below this many hashes, one thread is done before others would have started.
_SMALL = {"wasm": 1 << 18, "process": 1 << 16, "local": float("inf")}
# Several searchers of one sub-puzzle begin so far apart that they never meet.
_STRIDE = 1 << 48
_TICK = 0.1
_SAMPLE = 0.03


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is.

    Attributes
    ----------
    solved, k
        Sub-puzzles solved, and all of them.
    hashes
        Tries so far.
    expected
        Tries that are needed on average.
    seconds
        Time so far.
    """

    solved: int
    k: int
    hashes: int
    expected: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Solution:
    """A solved challenge.

    Attributes
    ----------
    token
        The challenge.
    nonces
        One for each sub-puzzle.
    hashes
        Tries that it took.
    seconds
        Time that it took.
    """

    token: str
    nonces: tuple[int, ...]
    hashes: int
    seconds: float

    @property
    def proof(self) -> str:
        """Value of the ``PoW-Proof`` header."""
        return encode_proof(self.token, self.nonces)


class Solver:
    """Solves challenges; keeps its searchers for the next one.

    Parameters
    ----------
    workers
        Searchers; one for each core unless given.
    backend
        ``"wasm"`` (threads; needs wasmtime), ``"process"`` or ``"local"``; the fastest
        that is there unless given.

    Examples
    --------
    >>> from assay.puzzles.claims import Claims
    >>> from assay.puzzles.difficulty import target64
    >>> from assay.puzzles.tokens import mint
    >>> claims = Claims(kid="a", target64=target64(10, 4), k=4, purpose="credit", sub="account-1",
    ...                 price_units=2.0, iat=1000, exp=1060, jti="00" * 16)
    >>> with Solver(workers=1) as solver:
    ...     len(solver.solve(mint(claims, bytes(range(32)))).nonces)
    4
    """

    def __init__(self, *, workers: int | None = None, backend: Backend | None = None) -> None:
        if workers is not None and workers < 1:
            msg = f"a solver needs at least one worker, got {workers}"
            raise InvalidInput(msg)
        choose("sha256", backend)
        self.workers = workers or _cores()
        self._backend = backend
        self._idle: dict[Backend, list[Member]] = {}
        self._lock = threading.Lock()
        self._rates: dict[str, float] = {}
        self._finalizer = weakref.finalize(self, _close, self._idle)

    def solve(
        self,
        token: str,
        *,
        progress: Callable[[Progress], None] | None = None,
        timeout: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Solution:
        """Search all nonces of a challenge.

        Parameters
        ----------
        token
            The challenge.
        progress
            Called some times a second, from the calling thread.
        timeout
            Seconds after which to give up.
        cancel
            Give up when this is set.

        Raises
        ------
        PaymentRefused
            If the time is over or the search was cancelled.
        Rejection
            If the token is none.
        """
        claims = read_claims(token)
        backend = choose(claims.alg, self._backend)
        work = expected_work(claims.target64, claims.k)
        count = 1 if claims.alg == "sha256" and work < _SMALL[backend] else self.workers
        if count == 1 and backend == "process":
            backend = "local"
        search = _Search(token, claims, work)
        crew = [self._borrow(backend) for _ in range(count)]
        threads = [
            threading.Thread(target=search.run, args=(crew, number), daemon=True) for number in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            search.wait(progress, timeout, cancel)
        finally:
            search.over.set()
            for thread in threads:
                thread.join()
            with self._lock:
                self._idle.setdefault(backend, []).extend(crew)
        seconds = time.monotonic() - search.started
        if seconds > _TICK:
            self._rates[claims.alg] = search.hashes / seconds
        return Solution(token, search.nonces(), search.hashes, seconds)

    def rate(self, claims: Claims) -> float:
        """Return tries a second of all workers together, as last seen or else by a short trial."""
        alg = claims.alg
        if alg not in self._rates:
            backend = choose(alg, self._backend)
            one = self._borrow("local" if backend == "process" else backend)
            puzzle = SubPuzzle(alg, bytes(32), 0, 1, claims.memory)
            started, tries, at = time.perf_counter(), 0, 0
            while time.perf_counter() - started < _SAMPLE:
                _, at, more = one.attempt(puzzle, at)
                tries += more
            used = 1 if backend == "local" else self.workers
            self._rates[alg] = used * tries / (time.perf_counter() - started)
            one.close()
        return self._rates[alg]

    def close(self) -> None:
        """End the searchers."""
        with self._lock:
            _close(self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _borrow(self, backend: Backend) -> Member:
        with self._lock:
            idle = self._idle.get(backend)
            if idle:
                return idle.pop()
        try:
            return member(backend)
        except OSError:  # no more processes: slower, but it works
            return Local()


class _Search:
    """The state of one solve, shared by its threads."""

    def __init__(self, token: str, claims: Claims, work: float) -> None:
        start = seed(token)
        self._puzzles = [
            SubPuzzle(claims.alg, start, index, claims.target64, claims.memory) for index in range(claims.k)
        ]
        self._found: dict[int, int] = {}
        self._helpers = [0] * claims.k
        self._lock = threading.Lock()
        self._news: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._work = work
        self.over = threading.Event()
        self.hashes = 0
        self.started = time.monotonic()

    def run(self, crew: list[Member], number: int) -> None:
        """Search until all is found; what one thread does."""
        try:
            while not self.over.is_set():
                chosen = self._next()
                if chosen is None:
                    return
                puzzle, at = chosen
                while puzzle.index not in self._found and not self.over.is_set():
                    try:
                        nonce, at, tries = crew[number].attempt(puzzle, at)
                    except (OSError, ValueError):  # its process was killed; go on in this one
                        crew[number].close()
                        crew[number] = Local()
                        continue
                    self._note(puzzle.index, nonce, tries)
        except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
            self._news.put(error)

    def wait(
        self,
        progress: Callable[[Progress], None] | None,
        timeout: float | None,
        cancel: threading.Event | None,
    ) -> None:
        """Return when all is found."""
        k, done = len(self._puzzles), False
        while not done:
            try:
                news = self._news.get(timeout=_TICK)
            except queue.Empty:
                news = None
            if news is not None:
                raise news
            seconds, done = time.monotonic() - self.started, len(self._found) == k
            if progress is not None:
                progress(Progress(len(self._found), k, self.hashes, self._work, seconds))
            if not done and cancel is not None and cancel.is_set():
                msg = "the search for a proof of work was cancelled"
                raise PaymentRefused(msg)
            if not done and timeout is not None and seconds > timeout:
                msg = f"the proof of work was not found within {timeout:g} s; allow more time, or bank ahead"
                raise PaymentRefused(msg)

    def nonces(self) -> tuple[int, ...]:
        """Return the solutions in their order."""
        return tuple(self._found[index] for index in range(len(self._puzzles)))

    def _next(self) -> tuple[SubPuzzle, int] | None:
        """Return the open sub-puzzle with the fewest searchers, and where to begin."""
        with self._lock:
            still = [puzzle for puzzle in self._puzzles if puzzle.index not in self._found]
            if not still:
                return None
            puzzle = min(still, key=lambda p: self._helpers[p.index])
            at = self._helpers[puzzle.index] * _STRIDE
            self._helpers[puzzle.index] += 1
            return puzzle, at

    def _note(self, index: int, nonce: int | None, tries: int) -> None:
        with self._lock:
            self.hashes += tries
            if nonce is not None:
                self._found.setdefault(index, nonce)
                self._news.put(None)


def _cores() -> int:
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _close(idle: dict[Backend, list[Member]]) -> None:
    for crew in idle.values():
        while crew:
            crew.pop().close()
