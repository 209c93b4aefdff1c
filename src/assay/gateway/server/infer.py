"""``POST /v2/models/NAME[/versions/VERSION]/infer``: the path that every request takes.

Order: sizes and shapes, account, proof, claim and reservation in one transaction, the
server behind, defences, answer; then, off the path, the price. The server behind is asked
while the transaction runs where the account has earned that (`ahead`). It is written against
ASGI itself, because what stands in front of every request should cost next to nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import math
import time
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.admission import request_terms
from assay.gateway.pricing import Usage
from assay.gateway.server import ahead
from assay.gateway.server.body import Disconnected, Receive, Scope, Send
from assay.gateway.server.forward import without_proof
from assay.gateway.server.gate import Asked, Caller, digest_of
from assay.gateway.server.problems import (
    MEDIA_TYPE,
    BadQuery,
    Forbidden,
    NotFound,
    OverBudget,
    Problem,
    Replayed,
    Unacceptable,
    Unavailable,
    UnsupportedMedia,
)
from assay.gateway.server.replies import encode_reply, read_reply, with_receipt
from assay.gateway.server.settle import Served, Undone
from assay.gateway.server.wire import HEADER_LENGTH, Query, parse_query
from assay.gateway.upstream.base import Answer, ModelInfo, UpstreamDown, UpstreamRefused, check_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from assay.gateway.admission import RuleTerms
    from assay.gateway.server.gateway import Gateway
    from assay.gateway.store.base import Admission
    from assay.puzzles.claims import Claims

__all__ = ["InferEndpoint", "send_problem", "split_path"]

_LOG = logging.getLogger("assay.gateway")
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()
_JSON, _BINARY = b"application/json", b"application/octet-stream"
_TYPES = frozenset({b"", _JSON, _BINARY})
_PARTS = (5, 7)
_MAX_DIGITS = 12


class InferEndpoint:
    """An ASGI application for one kind of request.

    Parameters
    ----------
    gateway
        Its parts.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        status = 200
        try:
            headers, body = await self._answer(scope, receive)
            await _send(send, status, headers, body)
        except Disconnected:
            return
        except Problem as problem:
            status = problem.status
            self._gateway.meter.rejected(problem.reason)
            await send_problem(send, problem)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            _LOG.exception("a request failed")
            status = 500
            self._gateway.meter.failed("internal")
            await send_problem(send, Problem("the gateway failed on this request; it is logged"))
        self._gateway.meter.request("infer", status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[list[tuple[bytes, bytes]], bytes]:
        gateway = self._gateway
        headers = dict(scope["headers"])
        model, version = split_path(scope["path"])
        length = _framing(headers)
        body = await gateway.reader.read(receive, headers.get(b"content-length"))
        with gateway.slot():
            query = parse_query(body, length, max_items=gateway.policy.limits.max_items)
            info = await self._check(model, version, query)
            caller = gateway.gate.caller(_text(headers, b"authorization"))
            proof = _proof(headers, query)
            asked = Asked(model, version or "", digest_of(query), query.n_items)
            claims = None
            if proof is not None:
                claims = await gateway.open_proof(proof, caller, ("query", "deposit"), asked)
                caller = caller or Caller(claims.sub)
            elif caller is None:
                caller = gateway.gate.stranger()
            with gateway.account_slot(caller.account_id):
                terms, log_q = await self._terms(caller, claims, query, asked)
                sent = await self._send_ahead(caller, claims, asked, query)
                try:
                    admission = await self._admit(caller, claims, query, asked, terms)
                except BaseException:
                    gateway.ahead.refused(caller.account_id)
                    if sent is not None:
                        ahead.drop(sent)
                    raise
                question = self._ask(asked, query) if sent is None else sent
                answer = await self._run(caller, admission, question, model, query, log_q, info)
        return self._reply(caller, admission, claims, query, answer)

    async def _check(self, model: str, version: str | None, query: Query) -> ModelInfo:
        gateway = self._gateway
        try:
            info = await gateway.upstream.metadata(model, version)
            if gateway.answers is not None:
                # Said before anything is paid: what the model answers could not be shown.
                gateway.answers.check(model, labels_only=info.labels_only, classes=info.classes)
        except (UpstreamDown, InvalidInput) as error:
            gateway.meter.failed("upstream")
            raise Unavailable(str(error), reason="upstream") from error
        info.check(query)
        return info

    async def _terms(
        self, caller: Caller, claims: Claims | None, query: Query, asked: Asked
    ) -> tuple[RuleTerms, NDArray[np.float64] | None]:
        """Return what is asked of this request, and in exact timing what it leaks."""
        gateway, gate = self._gateway, self._gateway.gate
        if caller.fresh:
            # Nobody knows this account: asking the store what it owes would only cost time.
            first = gate.expects(caller.account_id, query.n_items)
            if first.action == "price":
                raise gateway.payment(caller, None, first.units, asked, deposit=first.deposit)
        if gateway.quotes is None:
            return gate.terms, None
        if claims is None:
            state = await gateway.books(caller.account_id)
            state = state or AccountState(caller.account_id)
            if gateway.rule.deposit_due(state) > 0.0:
                return gate.terms, None
            missing = gateway.rule.reserve(state, query.n_items) + state.reserved - state.balance
            if missing > 0.0:
                raise gateway.payment(caller, state, missing, asked, deposit=False)
        log_q = await gateway.quotes.log_q(asked.digest, query.inputs, query.n_items)
        rule = gateway.rule
        quoted = request_terms(gateway.policy, rule, quote=lambda state: rule.quote(state, log_q).total)
        return quoted, log_q

    async def _send_ahead(
        self, caller: Caller, claims: Claims | None, asked: Asked, query: Query
    ) -> asyncio.Task[Answer] | None:
        """Ask the server behind already, if nothing is paid or priced first and the account earned it."""
        gateway, terms = self._gateway, self._gateway.gate.terms
        if claims is not None or caller.fresh or gateway.quotes is not None:
            return None
        if not gateway.ahead.take(
            caller.account_id, lambda state: terms.decide(state, Usage(), query.n_items).action == "serve"
        ):
            return None
        task = self._ask(asked, query)
        await ahead.hand_over(task)
        return task

    def _ask(self, asked: Asked, query: Query) -> asyncio.Task[Answer]:
        """Ask the server behind."""
        started = time.perf_counter()

        def measure(task: asyncio.Task[Answer]) -> None:
            if not task.cancelled() and task.exception() is None:
                self._gateway.meter.upstream(time.perf_counter() - started)

        task = self._gateway.upstream.begin(asked.model, asked.version or None, without_proof(query))
        task.add_done_callback(measure)
        return task

    async def _admit(
        self, caller: Caller, claims: Claims | None, query: Query, asked: Asked, terms: RuleTerms
    ) -> Admission:
        """Claim, pay and reserve, or raise what is missing."""
        gateway, gate = self._gateway, self._gateway.gate
        admit = partial(
            gateway.store.admit,
            caller.account_id,
            n_items=query.n_items,
            terms=terms,
            now=gateway.clock(),
            claim=None if claims is None else gate.claim(claims),
            digest=asked.digest,
            model=asked.model,
            policy_version=gateway.policy.version,
        )
        admission = await gateway.stored_soon(admit)
        if admission.decision in ("price", "throttle") and await gateway.settled(admission.state):
            again = await gateway.stored_soon(partial(admit, claim=None))
            admission = dataclasses.replace(again, paid_units=admission.paid_units)
        if claims is not None and admission.paid_units > 0.0:
            gateway.meter.verified(claims.purpose, admission.paid_units)
        decision = admission.decision
        if decision == "serve" and admission.query_id is not None:
            if admission.state is not None:
                gateway.ahead.served(admission.state)
            return admission
        if decision == "replay":
            msg = "the proof was used before; ask for a new challenge"
            raise Replayed(msg)
        if decision == "price":
            raise gateway.payment(
                caller, admission.state, admission.due_units, asked, deposit=admission.deposit
            )
        if admission.spent > 0.0:
            await gateway.over_budget(caller.account_id, admission)
        wait = {} if admission.retry_after is None else {"Retry-After": str(math.ceil(admission.retry_after))}
        raise OverBudget(admission.detail or "the account is over its budget", reason=decision, headers=wait)

    async def _run(
        self,
        caller: Caller,
        admission: Admission,
        question: Awaitable[Answer],
        model: str,
        query: Query,
        log_q: NDArray[np.float64] | None,
        info: ModelInfo,
    ) -> Answer:
        """Await the answer, show it as the policy says, and leave the bill; give back if there is none."""
        gateway, query_id = self._gateway, admission.query_id or ""
        try:
            answer = await question
            shown = await self._show(caller, query, answer, query_id, info)
        except UpstreamRefused as error:
            await gateway.refund(query_id, "refused")
            problem = BadQuery if error.status == BadQuery.status else Unacceptable
            raise problem(error.detail, reason="upstream-refused") from error
        except (UpstreamDown, InvalidInput) as error:
            gateway.meter.failed("upstream")
            await gateway.refund(query_id, "upstream")
            msg = f"{error}; nothing was charged"
            raise Unavailable(msg, reason="upstream") from error
        except BaseException:
            # Also when the task is cancelled, where nothing can be waited for any more.
            gateway.settler.submit(Undone(query_id, "cancelled"))
            raise
        served = Served(query_id, caller.account_id, model, query.inputs, query.n_items, answer, log_q)
        if not gateway.settler.submit(served):
            pricing = gateway.policy.pricing
            units = query.n_items * pricing.p95_units
            charge = partial(
                gateway.store.charge, query_id, units, now=gateway.clock(), volume=pricing.volume
            )
            await asyncio.shield(gateway.stored(charge))
        return shown

    async def _show(
        self, caller: Caller, query: Query, answer: Answer, query_id: str, info: ModelInfo
    ) -> Answer:
        """Apply the policy's defences, beside the event loop; without any, the answer stays as it came."""
        gateway, answers, watch = self._gateway, self._gateway.answers, self._gateway.watch
        if answers is None:
            return answer
        from assay.gateway.answers import read_asked

        def show() -> Answer:
            reply = read_reply(answer.body, answer.header_length)
            covered = 0.0 if watch is None else watch.coverage(caller.account_id)
            asked = read_asked(query.inputs, account=caller.account_id, coverage=covered)
            # Whoever asks for labels alone gets what the defences leave of them.
            shown = answers.show(reply.outputs, asked, classes=info.classes)
            if shown.marks.items:
                # The owner's evidence must not depend on a log line.
                gateway.store.note(
                    "marked",
                    now=gateway.clock(),
                    account_id=caller.account_id,
                    query=query_id,
                    **dataclasses.asdict(shown.marks),
                )
            return Answer(*encode_reply(reply.members, shown.outputs, query.binary_outputs))

        return await gateway.stored(show)

    def _reply(
        self, caller: Caller, admission: Admission, claims: Claims | None, query: Query, answer: Answer
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        body, length = answer.body, answer.header_length
        headers: list[tuple[bytes, bytes]] = []
        if claims is not None:
            receipt = {"jti": claims.jti, "units": admission.paid_units, "account": caller.account_id}
            headers.append((b"pow-receipt", json.dumps(receipt, separators=(",", ":")).encode()))
            if query.proof is not None:
                body, length = with_receipt(body, length, receipt)
        if caller.fresh:
            headers.append((b"pow-account", self._gateway.gate.account_key(caller.account_id).encode()))
        headers.append((b"content-type", _JSON if length is None else _BINARY))
        if length is not None:
            headers.append((_HEADER_LENGTH, str(length).encode()))
        return headers, body


def split_path(path: str) -> tuple[str, str | None]:
    """Return model and version of ``/v2/models/NAME[/versions/VERSION]/infer``.

    Examples
    --------
    >>> split_path("/v2/models/digits/versions/3/infer")
    ('digits', '3')
    """
    parts = path.split("/")
    if len(parts) not in _PARTS or (len(parts) == _PARTS[1] and parts[4] != "versions"):
        msg = "there is no such page; ask /v2/models/NAME/infer"
        raise NotFound(msg)
    version = check_name(parts[5], "version") if len(parts) == _PARTS[1] else None
    return check_name(parts[3]), version


async def send_problem(send: Send, problem: Problem) -> None:
    """Send a refusal."""
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"cache-control", b"no-store")]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    await _send(send, problem.status, headers, problem.body())


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _framing(headers: Mapping[bytes, bytes]) -> int | None:
    """Check how the body is packed and return the length of its JSON part, if stated."""
    if headers.get(b"content-encoding", b"identity") != b"identity":
        msg = "compressed bodies are not read; send the body as it is"
        raise UnsupportedMedia(msg)
    media = headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
    stated = headers.get(_HEADER_LENGTH)
    if media not in _TYPES:
        msg = "the body must be application/json, or application/octet-stream with binary tensors"
        raise UnsupportedMedia(msg)
    if stated is None:
        return None
    if not stated.isdigit() or len(stated) > _MAX_DIGITS:
        msg = f"{HEADER_LENGTH} must be a number of bytes"
        raise BadQuery(msg)
    return int(stated)


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _proof(headers: Mapping[bytes, bytes], query: Query) -> str | None:
    """Return the proof of a request; two of them are one too many."""
    given: Any = _text(headers, b"pow-proof")
    if given is not None and query.proof is not None:
        msg = "the request has a proof in its header and another one in its body; send one"
        raise Forbidden(msg, reason="malformed")
    return query.proof if given is None else given
