"""Paying as a form of authentication: a request that meets a challenge is repeated with its proof."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass, replace

import httpx

from assay.errors import InvalidInput, PaymentRefused
from assay.puzzles.challenge import ACCOUNT_HEADER, MAX_DOCUMENT, PROOF_HEADER, Challenge, read_challenge
from assay.puzzles.difficulty import expected_work
from assay.puzzles.rejection import Rejection
from assay.puzzles.solver import Progress, Solution, Solver

__all__ = ["Paid", "Payer"]

_PAYMENT, _GONE, _CONFLICT = 428, 410, 409
# A deposit, the request itself, a price that has risen meanwhile, and one to spare.
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Paid:
    """What was paid so far.

    Attributes
    ----------
    challenges
        Number of challenges solved.
    hashes
        Tries that they took.
    seconds
        Time that they took.
    units
        Worth in the units of the gateway's policy.
    """

    challenges: int = 0
    hashes: int = 0
    seconds: float = 0.0
    units: float = 0.0


class Payer(httpx.Auth):
    """Solves what a gateway asks for and repeats the request with the proof.

    Give it to any httpx client as ``auth``. The account key that a gateway hands out is
    kept and sent to that gateway only; an ``Authorization`` that a request already has is
    left as it is.

    Parameters
    ----------
    max_seconds
        Longest time that one request may cost; what is expected to take longer is refused
        before it begins.
    account
        Key of an account opened earlier, for whichever gateway is asked first.
    solver
        Who solves; one that uses all cores unless given.
    progress
        Called some times a second while something is solved.

    Raises
    ------
    InvalidInput
        If ``max_seconds`` is not positive.

    Examples
    --------
    >>> payer = Payer(max_seconds=60)
    >>> with httpx.Client(auth=payer) as client:
    ...     payer.paid.challenges
    0
    """

    def __init__(
        self,
        *,
        max_seconds: float = 600.0,
        account: str | None = None,
        solver: Solver | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        if not max_seconds > 0:
            msg = f"max_seconds must be positive, got {max_seconds}"
            raise InvalidInput(msg)
        self.max_seconds = max_seconds
        self._solver = solver or Solver()
        self._progress = progress
        self._first = account
        self._accounts: dict[str, str] = {}
        self._paid = Paid()
        self._cancel = threading.Event()
        # One search at a time: each uses all cores.
        self._lock = threading.Lock()

    @property
    def paid(self) -> Paid:
        """What was paid so far."""
        return self._paid

    def account(self, url: str | httpx.URL) -> str | None:
        """Return the account key for the gateway at a URL, None as long as there is none."""
        return self._accounts.get(_origin(httpx.URL(url)))

    def adopt(self, url: str | httpx.URL, key: str) -> None:
        """Use an account key for the gateway at a URL from now on."""
        self._accounts[_origin(httpx.URL(url))] = key

    def refuse(self, challenge: Challenge, spent: float = 0.0) -> str | None:
        """Return why a challenge should not be solved, None if it may be.

        Parameters
        ----------
        challenge
            What a gateway asks.
        spent
            Seconds that the request has cost already.
        """
        claims = challenge.claims
        seconds = expected_work(claims.target64, claims.k) / self._solver.rate(claims)
        if seconds > self.max_seconds - spent:
            before = f", after {spent:,.0f} s for the same request" if spent >= 1 else ""
            return (
                f"the gateway asks for {challenge.bits:.1f} bits of work, about {seconds:,.0f} s here{before}"
                f"; {self.max_seconds:g} s are allowed"
            )
        if seconds > claims.exp - claims.iat:
            return (
                f"the gateway asks for {challenge.bits:.1f} bits of work, about {seconds:,.0f} s here, "
                f"but gives {claims.exp - claims.iat} s"
            )
        return None

    def solve(self, challenge: Challenge, spent: float = 0.0) -> Solution:
        """Solve a challenge and count it as paid.

        Parameters
        ----------
        challenge
            What a gateway asks.
        spent
            Seconds that the request has cost already.

        Raises
        ------
        PaymentRefused
            If it asks for too much, or takes too long.
        """
        with self._lock:
            fault = self.refuse(challenge, spent)
            if fault is not None:
                raise PaymentRefused(fault)
            # A search may take several times as long as expected, but never longer than allowed.
            left = min(self.max_seconds - spent, challenge.claims.exp - challenge.claims.iat)
            found = self._solver.solve(
                challenge.token, progress=self._progress, timeout=left, cancel=self._cancel
            )
            paid = self._paid
            self._paid = replace(
                paid,
                challenges=paid.challenges + 1,
                hashes=paid.hashes + found.hashes,
                seconds=paid.seconds + found.seconds,
                units=paid.units + challenge.claims.price_units,
            )
            return found

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send, pay, and send again; called by httpx."""
        request.read()
        self._identify(request)
        response, spent = (yield request), 0.0
        for _ in range(_ROUNDS):
            self._remember(request, response.headers.get(ACCOUNT_HEADER))
            if response.status_code == _PAYMENT:
                response.stream = _Bounded(response.stream)
                response.read()
                spent += self._attach(request, self.solve(self._read(request, response), spent))
            elif not _again(request, response):
                return
            response = yield request
        self._remember(request, response.headers.get(ACCOUNT_HEADER))

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send, pay, and send again; called by httpx."""
        await request.aread()
        self._identify(request)
        response, spent = (yield request), 0.0
        for _ in range(_ROUNDS):
            self._remember(request, response.headers.get(ACCOUNT_HEADER))
            if response.status_code == _PAYMENT:
                response.stream = _Bounded(response.stream)
                await response.aread()
                challenge = self._read(request, response)
                spent += self._attach(request, await asyncio.to_thread(self.solve, challenge, spent))
            elif not _again(request, response):
                return
            response = yield request
        self._remember(request, response.headers.get(ACCOUNT_HEADER))

    def close(self) -> None:
        """Stop what is being solved and end the solver."""
        self._cancel.set()
        with self._lock:
            self._solver.close()
            self._cancel.clear()

    def _read(self, request: httpx.Request, response: httpx.Response) -> Challenge:
        try:
            challenge = read_challenge(response.content, response.headers)
        except Rejection as error:
            msg = f"{request.url.host} asks for payment in a form that is not understood: {error}"
            raise PaymentRefused(msg) from error
        self._remember(request, challenge.account)
        return challenge

    def _identify(self, request: httpx.Request) -> None:
        origin = _origin(request.url)
        if self._first is not None:
            self._accounts.setdefault(origin, self._first)
            self._first = None
        key = self._accounts.get(origin)
        if key is not None:
            request.headers.setdefault("Authorization", f"Bearer {key}")

    def _attach(self, request: httpx.Request, solution: Solution) -> float:
        """Put the proof on the request and return the seconds that it cost."""
        self._identify(request)
        request.headers[PROOF_HEADER] = solution.proof
        return solution.seconds

    def _remember(self, request: httpx.Request, key: str | None) -> None:
        if key is not None:
            self._accounts[_origin(request.url)] = key


class _Bounded(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that ends with an error instead of filling the memory."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._stream, httpx.SyncByteStream)
        size = 0
        for part in self._stream:
            size = _counted(size, part)
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._stream, httpx.AsyncByteStream)
        size = 0
        async for part in self._stream:
            size = _counted(size, part)
            yield part

    def close(self) -> None:
        assert isinstance(self._stream, httpx.SyncByteStream)
        self._stream.close()

    async def aclose(self) -> None:
        assert isinstance(self._stream, httpx.AsyncByteStream)
        await self._stream.aclose()


def _counted(size: int, part: bytes) -> int:
    size += len(part)
    if size > MAX_DOCUMENT:
        msg = f"the gateway's challenge has more than {MAX_DOCUMENT} bytes"
        raise PaymentRefused(msg)
    return size


def _again(request: httpx.Request, response: httpx.Response) -> bool:
    """Tell whether a proof came too late, and take it off so that a new challenge is asked."""
    if response.status_code not in {_GONE, _CONFLICT} or PROOF_HEADER not in request.headers:
        return False
    del request.headers[PROOF_HEADER]
    return True


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.host}:{url.port or ''}"
