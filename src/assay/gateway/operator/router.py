"""The operator's pages over HTTP: one token, no scripts, nothing that changes anything."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from assay.errors import InvalidInput
from assay.gateway.audit import journal_lines
from assay.gateway.operator import views, words
from assay.gateway.policy import Policy
from assay.gateway.pricing.standing import standing

__all__ = ["operator_router"]

_SHORTEST_TOKEN = 16
_PAGE = 50
_MOST = 1000

Hours = Annotated[int, Query(ge=1, le=720)]
From = Annotated[int, Query(ge=0)]
Page = Annotated[int, Query(ge=1, le=100_000)]
Limit = Annotated[int, Query(ge=1, le=_MOST)]
Prefix = Annotated[str, Query(max_length=128)]


def operator_router(
    store: views.Books,
    policy: Callable[[], Policy],
    token: str,
    *,
    clock: Callable[[], float] = time.time,
    facts: Callable[[], Mapping[str, str]] | None = None,
) -> APIRouter:
    """Return the pages below ``/operator``.

    Parameters
    ----------
    store
        What to read; nothing is written.
    policy
        Returns the policy in force.
    token
        At least 16 characters. Browsers ask for it as a password (any user name); programs
        send it as ``Authorization: Bearer TOKEN``.
    clock
        Seconds since the epoch.
    facts
        Further lines for the policy page, such as the commitment of a watermark or the
        address of the server behind.

    Raises
    ------
    InvalidInput
        If the token is too short.
    """
    if len(token) < _SHORTEST_TOKEN:
        msg = (
            f"the operator's token (ASSAY_OPERATOR_TOKEN) must have at least {_SHORTEST_TOKEN} characters, "
            f"got {len(token)}"
        )
        raise InvalidInput(msg)
    pages = _Pages(policy, clock)
    router = APIRouter(prefix="/operator", dependencies=[Depends(_guard(token))], include_in_schema=False)
    _add_pages(router, store, policy, pages, facts or dict)
    _add_data(router, store, policy, clock)
    return router


class _Pages:
    """Templates and the headers of every page."""

    def __init__(self, policy: Callable[[], Policy], clock: Callable[[], float]) -> None:
        self._policy, self.clock = policy, clock
        environment = Environment(
            loader=PackageLoader("assay.gateway.operator"),
            autoescape=True,
            finalize=words.plain,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            name: getattr(words, name) for name in ("ago", "clock", "compact", "count", "fact", "units")
        }
        environment.globals |= {"ranges": views.RANGES, "secrets": views.SECRETS}
        self._environment = environment
        loader = environment.loader
        assert loader is not None
        style = loader.get_source(environment, "operator.css")[0]
        self._style = Markup(style)  # noqa: S704 - our own file
        # The one style sheet stands in the page; its digest lets browsers refuse any other.
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._policy_header = (
            f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )

    def show(self, request: Request, template: str, tab: str, **values: Any) -> HTMLResponse:
        live = request.query_params.get("live") == "1"
        text = self._environment.get_template(template).render(
            style=self._style,
            policy=self._policy(),
            now=self.clock(),
            tab=tab,
            live=live,
            path=request.url.path,
            **values,
        )
        headers = {
            "Content-Security-Policy": self._policy_header,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
        return HTMLResponse(text, headers=headers | ({"Refresh": "30"} if live else {}))

    def span(self, hours: int) -> views.Span:
        try:
            return views.Span.last(self.clock(), hours)
        except InvalidInput as error:
            raise HTTPException(422, str(error)) from error


def _add_pages(
    router: APIRouter,
    store: views.Books,
    policy: Callable[[], Policy],
    pages: _Pages,
    facts: Callable[[], Mapping[str, str]],
) -> None:
    # Not coroutines: the store blocks, so each runs in a thread of its own.
    @router.get("")
    def front(request: Request, hours: Hours = 24) -> Response:
        shown = views.overview(store, pages.span(hours))
        drawn = views.charts(
            shown["history"],
            shown["span"],
            expected=policy().pricing.typical_units,
            alarms=shown.pop("all_alarms"),
        )
        drawn |= views.spreads(shown.pop("prices"), shown.pop("costs"))
        return pages.show(request, "overview.html.j2", "overview", charts=drawn, **shown)

    @router.get("/accounts")
    def accounts(request: Request, order: str = "recent", page: Page = 1, prefix: Prefix = "") -> Response:
        known = _order(order)
        active = policy()
        volume = active.pricing.volume
        rows, total = store.accounts(
            order=known,
            offset=(page - 1) * _PAGE,
            limit=_PAGE,
            prefix=prefix,
            volume=volume,
            now=pages.clock(),
        )
        last = max(1, -(-total // _PAGE))
        values = {"rows": rows, "total": total, "order": known, "page": page, "last": last, "prefix": prefix}
        values["volumes"] = [standing(active, row.state) for row in rows] if volume.active else None
        return pages.show(request, "accounts.html.j2", "accounts", **values)

    @router.get("/accounts/{account_id:path}")
    def account(request: Request, account_id: str, hours: Hours = 168) -> Response:
        active = policy()
        state = store.account(account_id, volume=active.pricing.volume, now=pages.clock())
        if state is None:
            raise HTTPException(404, "there is no such account")
        span = pages.span(hours)
        alarms = store.alarms(account=account_id, limit=_PAGE)
        history = store.history(since=span.since, until=span.until, width=span.width, account=account_id)
        drawn = views.charts(history, span, expected=policy().pricing.typical_units, alarms=alarms)
        queries = store.queries(account=account_id, limit=_PAGE)
        values = {"state": state, "span": span, "charts": drawn, "queries": queries, "alarms": alarms}
        values["volume"] = standing(active, state)
        values["customer"] = store.customer(account_id, limit=_PAGE)
        return pages.show(request, "account.html.j2", "accounts", **values)

    @router.get("/alarms")
    def alarms(request: Request) -> Response:
        return pages.show(request, "alarms.html.j2", "alarms", alarms=store.alarms(limit=_MOST))

    @router.get("/policy")
    def plan(request: Request) -> Response:
        values = {"tables": views.plan(policy()), "versions": store.policies(), "keys": store.keys()}
        return pages.show(request, "policy.html.j2", "policy", facts=dict(facts()), **values)


def _add_data(
    router: APIRouter, store: views.Books, policy: Callable[[], Policy], clock: Callable[[], float]
) -> None:
    @router.get("/api/overview")
    def overview(hours: Hours = 24) -> Response:
        try:
            shown = views.overview(store, views.Span.last(clock(), hours))
        except InvalidInput as error:
            raise HTTPException(422, str(error)) from error
        return _json({name: shown[name] for name in ("tiles", "history", "alarms")})

    @router.get("/api/accounts")
    def accounts(order: str = "recent", offset: From = 0, limit: Limit = 50, prefix: Prefix = "") -> Response:
        rows, total = store.accounts(
            order=_order(order),
            offset=offset,
            limit=limit,
            prefix=prefix,
            volume=policy().pricing.volume,
            now=clock(),
        )
        return _json({"total": total, "accounts": rows})

    @router.get("/api/accounts/{account_id:path}")
    def account(account_id: str) -> Response:
        active = policy()
        state = store.account(account_id, volume=active.pricing.volume, now=clock())
        if state is None:
            raise HTTPException(404, "there is no such account")
        counted = standing(active, state)
        more = {"volume_factor": None if counted is None else counted.factor}
        return _json(views.as_json(state) | more | {"customer": store.customer(account_id).name})

    @router.get("/api/queries")
    def queries(account: str | None = None, since: float = 0.0, limit: Limit = 100) -> Response:
        return _json(store.queries(account=account, since=since, limit=limit))

    @router.get("/api/alarms")
    def alarms(account: str | None = None, since: float = 0.0, limit: Limit = 100) -> Response:
        return _json(store.alarms(account=account, since=since, limit=limit))

    @router.get("/api/journal")
    def journal(after: From = 0, limit: Limit = 1000, account: str | None = None) -> Response:
        return _json(store.journal(after=after, limit=limit, account=account))

    @router.get("/api/audit")
    def audit() -> Response:
        # One page is read before the answer begins, so that a store that is down is no short file.
        store.journal(limit=1)
        name = f"audit-{datetime.fromtimestamp(clock(), UTC):%Y%m%dT%H%M%SZ}.jsonl"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return StreamingResponse(journal_lines(store), headers=headers, media_type="application/jsonl")

    @router.get("/api/policy")
    def plan() -> Response:
        shown = {"policy": views.public(policy()), "digest": policy().digest}
        return _json(shown | {"versions": store.policies(), "keys": store.keys()})


def _json(value: Any) -> JSONResponse:
    return JSONResponse(views.as_json(value), headers={"Cache-Control": "no-store"})


def _order(name: str) -> views.Order:
    if name not in get_args(views.Order):
        raise HTTPException(422, f"accounts are ordered by {', '.join(views.ORDERS)}")
    return name  # type: ignore[return-value]  # checked above


def _guard(token: str) -> Callable[[Request], None]:
    expected = token.encode()

    def guard(request: Request) -> None:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            if kind.lower() == "basic":
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            elif kind.lower() != "bearer":
                given = ""
            known = hmac.compare_digest(given.strip().encode(), expected)
        except ValueError:  # neither base64 nor text
            known = False
        if not known:
            headers = {"WWW-Authenticate": 'Basic realm="operator", charset="UTF-8"'}
            raise HTTPException(401, "the operator's token is missing or wrong", headers)

    return guard
