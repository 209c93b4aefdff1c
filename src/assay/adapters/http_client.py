"""Careful HTTP: bounded in time, size and retries, silent about credentials, and able to pay with work."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from assay.adapters.tls import CERTIFICATE_VARIABLE, Certificate, client_context, tls_fault
from assay.errors import InvalidInput, SuspectUnreachable
from assay.puzzles.payer import Paid, Payer

__all__ = ["HttpClient"]

TOKEN_VARIABLE = "ASSAY_API_TOKEN"  # noqa: S105 - the variable's name, not its value
_OK, _MULTIPLE, _BAD = 200, 300, 400
_LONGEST_REASON = 16384
_RETRY = frozenset({429, 502, 503, 504})
_LOST = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)
_HINTS = {
    401: "pass a token, or set ASSAY_API_TOKEN",
    403: "the credentials do not allow this model",
    404: "check the model's name in the URL",
    413: "use a smaller batch size",
    428: "it asks for a proof of work; leave paying switched on",
    429: "it limits the rate; try again later",
}


class HttpClient:
    """Requests below one base URL.

    Redirects are not followed, compressed answers are not accepted (their size cannot
    be bounded before they are unpacked), and messages name the URL without user,
    password and query.

    Parameters
    ----------
    url
        Base URL, http or https, without query. ``user:password@`` becomes basic
        authentication.
    timeout
        Seconds for one request, connecting and reading included.
    retries
        Further attempts after lost connections and the statuses 429, 502, 503, 504.
    backoff
        Seconds before the first retry; doubled each time. A ``Retry-After`` in seconds
        replaces it. Neither waits longer than ``max_wait``.
    max_wait
        Longest wait before a retry, in seconds.
    max_bytes
        Largest answer that is read.
    token
        Bearer token; the environment variable ``ASSAY_API_TOKEN`` unless given.
    headers
        Further headers.
    pay
        What to do where a gateway asks for a proof of work: solve it (with all cores, at
        most ten minutes for one request), have this payer solve it, or give up.
    certificate, ca
        What to show servers that ask for a certificate, and whose servers to trust; https
        only. See `assay.adapters.tls.client_context`, environment variables included.

    Raises
    ------
    InvalidInput
        If the URL, the token or a certificate cannot be used.

    Examples
    --------
    >>> HttpClient("http://user:secret@localhost:8000/v2/models/net").shown
    'http://localhost:8000/v2/models/net'
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        backoff: float = 0.5,
        max_wait: float = 30.0,
        max_bytes: int = 64 * 2**20,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        pay: bool | Payer = True,
        certificate: Certificate | None = None,
        ca: str | Path | None = None,
    ) -> None:
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, TypeError):
            parsed = httpx.URL("")
        # httpx escapes what cannot be a host name instead of refusing it.
        named = re.fullmatch(rb"[\w.\-:]+", parsed.raw_host) is not None
        if parsed.scheme not in ("http", "https") or not named or parsed.query or parsed.fragment:
            # The text itself stays out of the message: it may hold credentials.
            msg = (
                "a model's URL must look like http://host:port/v2/models/NAME, without query or fragment; "
                "give credentials as a token or in headers"
            )
            raise InvalidInput(msg)
        if not timeout > 0 or retries < 0 or backoff < 0 or max_wait < 0 or max_bytes < 1:
            msg = "timeout and max_bytes must be positive, retries, backoff and max_wait not negative"
            raise InvalidInput(msg)
        self._base = str(parsed.copy_with(userinfo=b"")).rstrip("/")
        self.shown = self._base
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._max_wait, self._max_bytes = max_wait, max_bytes
        secret = token if token is not None else os.environ.get(TOKEN_VARIABLE)
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
        if secret:
            sent["Authorization"] = f"Bearer {secret}"
        if parsed.userinfo:
            named_user = f"{parsed.username}:{parsed.password}".encode()
            sent["Authorization"] = f"Basic {base64.b64encode(named_user).decode()}"
        if any(re.search(r"[^\x20-\x7e]", part) for pair in sent.items() for part in pair):
            msg = "tokens and headers must be printable ASCII on one line"
            raise InvalidInput(msg)
        if parsed.scheme == "http" and (certificate or ca):
            msg = f"certificates are for https:// addresses; {self.shown} is asked without encryption"
            raise InvalidInput(msg)
        context = None if parsed.scheme == "http" else client_context(certificate, ca)
        self._certified = context is not None and bool(certificate or os.environ.get(CERTIFICATE_VARIABLE))
        self._payer = pay if isinstance(pay, Payer) else Payer() if pay else None
        self._own_payer = pay is True
        self._client = httpx.Client(
            auth=self._payer,
            headers=sent,
            timeout=timeout,
            follow_redirects=False,
            verify=True if context is None else context,
        )

    @property
    def paid(self) -> Paid:
        """The work that gateways were paid so far."""
        return Paid() if self._payer is None else self._payer.paid

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """Return the body of a successful answer.

        Parameters
        ----------
        method
            ``"GET"`` or ``"POST"``.
        path
            What to append to the base URL.
        body
            Value to send as JSON.

        Raises
        ------
        SuspectUnreachable
            If no answer came, it was refused, or it was too long or too late.
        PaymentRefused
            If a gateway asks for more work than is allowed; also a `SuspectUnreachable`.
        """
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        attempt = 0
        while True:
            wait = min(self._backoff * 2**attempt, self._max_wait)
            try:
                with self._client.stream(
                    method, self._base + path, content=content, headers=headers
                ) as answer:
                    if answer.status_code == _OK:
                        return self._read(answer)
                    fault, again = self._refusal(answer), answer.status_code in _RETRY
                    wait = self._patience(answer.headers.get("retry-after"), wait)
            except _LOST as error:
                told = tls_fault(error, shown=self._certified)
                if told is not None:
                    msg = f"{self.shown} {told}"
                    raise SuspectUnreachable(msg) from None
                fault, again = f"the connection to {self.shown} failed ({type(error).__name__})", True
            except httpx.TimeoutException:
                raise SuspectUnreachable(self._late()) from None
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                # Without the cause: what httpx says may quote headers.
                msg = f"the request to {self.shown} failed ({type(error).__name__})"
                raise SuspectUnreachable(msg) from None
            if not again or attempt >= self._retries:
                tries = f", after {attempt + 1} attempts" if attempt else ""
                msg = f"{fault}{tries}"
                raise SuspectUnreachable(msg)
            attempt += 1
            time.sleep(wait)

    def _read(self, answer: httpx.Response) -> bytes:
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            msg = f"{self.shown} compressed its answer although it was asked not to"
            raise SuspectUnreachable(msg)
        started, parts, size = time.monotonic(), [], 0
        for part in answer.iter_raw():
            size += len(part)
            if size > self._max_bytes:
                msg = f"{self.shown} answered more than {self._max_bytes} bytes; use a smaller batch size"
                raise SuspectUnreachable(msg)
            # httpx limits each read only; a server that drips would never be late.
            if time.monotonic() - started > self._timeout:
                raise SuspectUnreachable(self._late())
            parts.append(part)
        return b"".join(parts)

    def _late(self) -> str:
        return (
            f"{self.shown} did not answer within {self._timeout:g} s; use a longer timeout or a smaller batch"
        )

    def _refusal(self, answer: httpx.Response) -> str:
        status = answer.status_code
        if _MULTIPLE <= status < _BAD:
            return f"{self.shown} redirects elsewhere (status {status}); give the final URL"
        hint = _reason(answer) or _HINTS.get(status)
        return f"{self.shown} answered with status {status}" + (f"; {hint}" if hint else "")

    def _patience(self, asked: str | None, otherwise: float) -> float:
        if asked is None or not re.fullmatch(r"\d{1,9}", asked.strip(), re.ASCII):
            return otherwise  # dates are not honoured: clocks differ
        return min(float(asked), self._max_wait)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        if self._own_payer and self._payer is not None:
            self._payer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reason(answer: httpx.Response) -> str | None:
    """Return the sentence of a problem document (RFC 9457), if the answer is one."""
    if answer.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        return None
    text = b""
    for part in answer.iter_bytes():
        text += part
        if len(text) > _LONGEST_REASON:
            return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    detail = found.get("detail") if isinstance(found, dict) else None
    if not isinstance(detail, str):
        return None
    # A stranger's words: one line, no control characters, not too many.
    return "".join(c for c in detail[:300] if c.isprintable()) or None
