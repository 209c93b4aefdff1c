"""A client that pays: asks models behind a gateway, solves what it asks for, banks work ahead."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from assay.adapters.http_client import HttpClient
from assay.adapters.http_wire import FLOATS, INTEGERS
from assay.adapters.tls import Certificate
from assay.errors import InvalidInput, SuspectUnreachable
from assay.puzzles.challenge import read_challenge
from assay.puzzles.payer import Paid, Payer
from assay.puzzles.rejection import Rejection
from assay.puzzles.solver import Progress, Solver

__all__ = ["Client", "Receipt"]

_DTYPES = {"BOOL": np.dtype(bool)} | {
    name: np.dtype(name.replace("FP", "float").replace("UINT", "uint").replace("INT", "int").lower())
    for name in (*FLOATS, *INTEGERS)
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# More than this many challenges for one call means that the gateway gives too little for each.
_MOST_ROUNDS = 1000


@dataclass(frozen=True, slots=True)
class Receipt:
    """What banking has brought.

    Attributes
    ----------
    account_key
        Key of the account; whoever holds it can spend the credit.
    units
        Units banked by this call, a deposit included.
    credit_units
        Credit of the account now.
    expires
        When the credit lapses, in seconds since 1970; None if it does not.
    full
        Whether the account holds as much credit as it may, so that less than was asked for
        may have been banked.
    """

    account_key: str
    units: float
    credit_units: float
    expires: float | None = None
    full: bool = False


class Client:
    """A gateway, and an account there.

    Every request pays by itself if work is due, with all cores. `bank` works ahead, so
    that later requests need not wait.

    Parameters
    ----------
    url
        Root of the gateway, such as ``https://host``.
    account
        Key of an account opened earlier; the environment variable ``ASSAY_API_TOKEN``, or
        else a new account at the first payment.
    max_seconds
        Longest time that one payment may take.
    workers
        Searchers for proofs; one for each core unless given.
    progress
        Called some times a second while something is solved.
    timeout
        Seconds to wait for one answer.
    certificate
        Where accounts are bound to client certificates: a PEM file with certificate and key,
        or a pair of files, the key second. The environment variables ``ASSAY_CLIENT_CERT``
        and ``ASSAY_CLIENT_KEY`` unless given.
    ca
        PEM file of the CAs to trust, where the gateway's certificate is of a private one; the
        environment variable ``ASSAY_CA_FILE``, or else the system's.

    Raises
    ------
    InvalidInput
        If the URL, the account, a certificate or a number cannot be used.

    Examples
    --------
    >>> with Client("https://models.example.org") as client:  # no request is made yet
    ...     client.paid.units
    0.0
    """

    def __init__(
        self,
        url: str,
        *,
        account: str | None = None,
        max_seconds: float = 600.0,
        workers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        timeout: float = 30.0,
        certificate: Certificate | None = None,
        ca: str | Path | None = None,
    ) -> None:
        self._payer = Payer(max_seconds=max_seconds, solver=Solver(workers=workers), progress=progress)
        self._given, self._timeout, self._url = account, timeout, url.rstrip("/")
        self._http = HttpClient(
            url, token=account, pay=self._payer, timeout=timeout, certificate=certificate, ca=ca
        )

    @property
    def account_key(self) -> str | None:
        """Key of the account; None as long as none was given or opened. Keep it secret."""
        return self._given or self._payer.account(self._url)

    @property
    def paid(self) -> Paid:
        """What this client has paid so far."""
        return self._payer.paid

    def policy(self) -> dict[str, Any]:
        """Return the public part of the gateway's policy.

        Raises
        ------
        SuspectUnreachable
            If the gateway does not answer.
        """
        return self._ask("GET", "/pow/v1/policy")

    def account(self) -> dict[str, Any]:
        """Return what the gateway's books say about the account.

        Raises
        ------
        SuspectUnreachable
            If the gateway does not answer, or there is no account yet.
        """
        return self._ask("GET", "/pow/v1/account")

    def metadata(self, model: str, version: str | None = None) -> dict[str, Any]:
        """Return inputs and outputs of a model."""
        return self._ask("GET", _model(model, version))

    def infer(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: str | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Ask a model, and pay if work is due.

        Parameters
        ----------
        model
            Its name.
        inputs
            Arrays by input name; the first axis counts items. Send the types of
            `metadata`.
        version
            Its version; the gateway's choice unless given.

        Returns
        -------
        dict of numpy.ndarray
            Outputs by name.

        Raises
        ------
        SuspectUnreachable
            If the gateway does not answer, or refuses.
        PaymentRefused
            If it asks for more work than ``max_seconds`` allow.
        """
        tensors = [_tensor(name, np.asarray(value)) for name, value in inputs.items()]
        answer = self._ask("POST", f"{_model(model, version)}/infer", {"inputs": tensors})
        try:
            return {str(one["name"]): _array(one) for one in answer["outputs"]}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            msg = f"{self._http.shown} answered with outputs that cannot be read"
            raise SuspectUnreachable(msg) from error

    def bank(self, units: float = 0.0) -> Receipt:
        """Open an account if there is none, and work ahead.

        Parameters
        ----------
        units
            Credit to earn, in units of the policy; ``policy()["hashes_per_unit"]`` hashes
            each. 0 only pays the entry deposit. No more is earned than the account may hold,
            ``policy()["max_credit_units"]``: see `Receipt.full`.

        Raises
        ------
        SuspectUnreachable
            If the gateway refuses.
        PaymentRefused
            If a challenge asks for more work than ``max_seconds`` allow.
        """
        if not 0 <= units < float("inf"):
            msg = f"units must be a number of at least 0, got {units}"
            raise InvalidInput(msg)
        rules = self.policy()
        held = self._books(rules)
        receipt = Receipt(self.account_key or "", 0.0, _number(held, "credit_units"))
        if _number(held, "deposit_due_units") > 0:
            receipt = self._redeem(receipt, {"purpose": "deposit"})
        limit, least = _credit_limit(rules)
        left, rounds = units, 0
        while left > 0:
            room = limit - receipt.credit_units
            if room < least:
                return replace(receipt, full=True)
            before = receipt.units
            # The work is quantised by chance, so the sum may end a little above or below what is asked.
            receipt = self._redeem(receipt, {"purpose": "credit", "units": min(left, room)})
            left, rounds = left - (receipt.units - before), rounds + 1
            if receipt.units <= before or rounds == _MOST_ROUNDS:
                msg = f"{self._http.shown} gives too little credit for each challenge"
                raise SuspectUnreachable(msg)
        return receipt

    def close(self) -> None:
        """Stop solving and close the connections."""
        self._payer.close()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _books(self, rules: Mapping[str, Any]) -> dict[str, Any]:
        """Return the account as the gateway knows it, or as it will be opened."""
        if self.account_key is not None:
            # An account that nobody has paid for yet is not in the books.
            with suppress(SuspectUnreachable):
                return self.account()
        return {"deposit_due_units": _number(rules, "deposit_units"), "credit_units": 0.0}

    def _redeem(self, so_far: Receipt, wanted: Mapping[str, Any]) -> Receipt:
        document = self._ask("POST", "/pow/v1/challenge", wanted)
        try:
            challenge = read_challenge(json.dumps(document).encode())
        except Rejection as error:
            raise SuspectUnreachable(str(error)) from error
        if challenge.account is not None and self._given is None:
            self._payer.adopt(self._url, challenge.account)
        solution = self._payer.solve(challenge)
        answer = self._ask("POST", "/pow/v1/redeem", {"proof": solution.proof})
        expires = answer.get("expires")
        return Receipt(
            self.account_key or str(answer.get("account_key", "")),
            so_far.units + _number(answer, "units"),
            _number(answer, "credit_units"),
            expires if isinstance(expires, int | float) else None,
        )

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            answer = json.loads(self._http.request(method, path, body))
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            msg = f"{self._http.shown}{path} did not answer a JSON object"
            raise SuspectUnreachable(msg)
        return answer


def _model(name: str, version: str | None) -> str:
    return f"/v2/models/{quote(name, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")


def _tensor(name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    kind = _NAMES.get(array.dtype.newbyteorder("="))
    if kind is None or array.ndim == 0:
        msg = f"the input {name!r} must be an array of numbers with a first axis of items, got {array.dtype}"
        raise InvalidInput(msg)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        msg = f"the input {name!r} holds values that are not finite, which JSON cannot carry"
        raise InvalidInput(msg)
    return {"name": name, "datatype": kind, "shape": list(array.shape), "data": array.ravel().tolist()}


def _array(output: Mapping[str, Any]) -> npt.NDArray[Any]:
    dtype = _DTYPES.get(output["datatype"], np.dtype(object))
    return np.asarray(output["data"], dtype=dtype).reshape(output["shape"])


def _credit_limit(rules: Mapping[str, Any]) -> tuple[float, float]:
    """Return the most credit an account may hold, and what the smallest challenge adds to it."""
    if rules.get("max_credit_units") is None:
        return float("inf"), 0.0
    least = 2.0 ** _number(rules, "min_bits") / max(_number(rules, "hashes_per_unit"), 1e-9)
    # What the books round away must not be asked for.
    return _number(rules, "max_credit_units"), least + 1e-5


def _number(document: Mapping[str, Any], name: str) -> float:
    value = document.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        msg = f"the gateway's answer has no proper {name}"
        raise SuspectUnreachable(msg)
    return float(value)
