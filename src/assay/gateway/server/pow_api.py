"""``/pow/v1``: challenges on demand, banking of work, accounts, and the public part of the policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Response

from assay.gateway.account import AccountState
from assay.gateway.pricing.standing import standing
from assay.gateway.server.gate import Asked, Caller
from assay.gateway.server.models import (
    AccountView,
    Challenge,
    ChallengeRequest,
    NewAccount,
    PolicyView,
    Redeemed,
    RedeemRequest,
    VolumeView,
    problem_responses,
)
from assay.gateway.server.problems import BadQuery, NotFound, OverBudget, Replayed, Unauthorised

if TYPE_CHECKING:
    from assay.gateway.server.gateway import Gateway
    from assay.puzzles.claims import Claims

__all__ = ["pow_router"]

Authorization = Annotated[str | None, Header(description="Bearer ACCOUNT_KEY")]


def pow_router(gateway: Gateway) -> APIRouter:
    """Return the endpoints that deal in work."""
    router = APIRouter(prefix="/pow/v1", tags=["proof of work"])

    @router.get("/policy", responses=problem_responses(405))
    async def policy() -> PolicyView:
        """Show what is asked of everybody: no thresholds, no calibration."""
        return _public(gateway)

    @router.post("/challenge", responses=problem_responses(400, 401, 413, 429, 503))
    async def challenge(
        asked: ChallengeRequest, response: Response, authorization: Authorization = None
    ) -> Challenge:
        """Ask for a challenge without asking for an answer.

        Costs at most one look at the account: no model and no estimator runs. Without an
        account key a new account is offered. Work for credit is worth no more than the
        account has room for; where it has none, the answer is 429 before any work is done.
        """
        gate = gateway.gate
        caller = gate.caller(authorization) or gate.stranger()
        state = await gateway.books(caller.account_id) if caller.known else None
        gateway.issue()
        purpose, units, bound = _wanted(gateway, caller, state, asked)
        most = gate.room(state) if purpose == "credit" else math.inf
        found = gate.challenge(caller.account_id, state, units, purpose, bound, most=most)
        gateway.meter.issued(purpose, found["bits"])
        if caller.fresh:
            found["account_key"] = response.headers["PoW-Account"] = gate.account_key(caller.account_id)
        response.headers["Cache-Control"] = "no-store"
        return Challenge(**found)

    @router.post("/redeem", responses=problem_responses(400, 401, 403, 409, 410, 413, 429, 503))
    async def redeem(given: RedeemRequest, authorization: Authorization = None) -> Redeemed:
        """Bank work: as entry deposit, against debt, or as credit."""
        claims = await gateway.open_proof(
            given.proof, gateway.gate.caller(authorization), ("credit", "deposit"), Asked()
        )
        return await _bank(gateway, claims)

    @router.post("/account", responses=problem_responses(503))
    async def open_account(response: Response) -> NewAccount:
        """Offer a new account, which exists once its deposit is redeemed."""
        gateway.issue()
        gate = gateway.gate
        caller = gate.stranger()
        key = response.headers["PoW-Account"] = gate.account_key(caller.account_id)
        response.headers["Cache-Control"] = "no-store"
        units = gateway.rule.deposit_due(AccountState(caller.account_id))
        return NewAccount(account=caller.account_id, account_key=key, deposit_units=units)

    @router.get("/account", responses=problem_responses(401, 404, 503))
    async def account(response: Response, authorization: Authorization = None) -> AccountView:
        """Show the books of the account whose key is sent."""
        caller = gateway.gate.caller(authorization)
        if caller is None:
            msg = "send the account key: Authorization: Bearer KEY"
            raise Unauthorised(msg)
        state = await gateway.books(caller.account_id)
        if state is None:
            msg = "the account does not exist yet; its first payment opens it"
            raise NotFound(msg)
        response.headers["Cache-Control"] = "no-store"
        return _view(gateway, state)

    return router


def _public(gateway: Gateway) -> PolicyView:
    policy = gateway.policy
    pricing, puzzle, limits = policy.pricing, policy.puzzle, policy.limits
    most = gateway.gate.terms.max_credit_units
    return PolicyView(
        version=policy.version,
        mode=pricing.mode,
        timing=pricing.timing,
        alg=puzzle.alg,
        k=puzzle.k,
        min_bits=puzzle.min_bits,
        max_bits=puzzle.max_bits,
        step_bits=puzzle.step_bits,
        hashes_per_unit=pricing.hashes_per_unit,
        deposit_units=pricing.deposit_units,
        free_units=pricing.free_units,
        max_credit_units=None if math.isinf(most) else most,
        expiry_seconds=puzzle.expiry_seconds,
        max_items=limits.max_items,
        max_bytes=limits.max_bytes,
    )


def _wanted(
    gateway: Gateway, caller: Caller, state: AccountState | None, asked: ChallengeRequest
) -> tuple[Any, float, Asked]:
    """Return purpose, units and binding of a challenge that is asked for."""
    state = state or AccountState(caller.account_id)
    deposit = gateway.rule.deposit_due(state)
    if asked.purpose == "query":
        if not (asked.model and asked.query_digest and asked.n_items):
            msg = "a challenge for a query needs model, query_digest and n_items"
            raise BadQuery(msg)
        if asked.n_items > gateway.policy.limits.max_items:
            msg = f"at most {gateway.policy.limits.max_items} items are answered at a time"
            raise BadQuery(msg)
        bound = Asked(asked.model, asked.model_version, asked.query_digest, asked.n_items)
        if deposit > 0.0:
            return "deposit", deposit + gateway.rule.due(state, asked.n_items), bound
        return "query", gateway.rule.due(state, asked.n_items), bound
    if asked.model or asked.model_version or asked.query_digest or asked.n_items:
        msg = f"work for {asked.purpose} is bound to no query; leave model, query_digest and n_items out"
        raise BadQuery(msg)
    return asked.purpose, deposit if asked.purpose == "deposit" else asked.units, Asked()


async def _bank(gateway: Gateway, claims: Claims) -> Redeemed:
    gate = gateway.gate
    banked = await gateway.stored(
        gateway.store.bank, claims.sub, gate.claim(claims), terms=gate.terms, now=gateway.clock()
    )
    if banked.outcome == "replay":
        msg = "the proof was used before; ask for a new challenge"
        raise Replayed(msg)
    if banked.outcome == "full":
        msg = "the account holds as much credit as it may; use some of it first"
        raise OverBudget(msg, reason="credit-full")
    gateway.meter.verified(claims.purpose, claims.price_units)
    return Redeemed(
        account=claims.sub,
        account_key=gate.account_key(claims.sub),
        jti=claims.jti,
        units=claims.price_units,
        credit_units=0.0 if banked.state is None else banked.state.credit,
        expires=banked.expires,
    )


def _view(gateway: Gateway, state: AccountState) -> AccountView:
    # The exact debt is a function of the inputs' leakage; shown is what a puzzle would show.
    step = 2.0**gateway.policy.puzzle.step_bits
    owed = gateway.rule.due(state, 1)
    shown = 0.0 if owed <= 0.0 else step ** math.ceil(math.log(owed, step))
    return AccountView(
        account=state.id,
        tier=state.tier,
        queries=state.queries,
        work_paid_units=state.work_paid,
        credit_units=state.credit,
        due_units=shown,
        deposit_due_units=gateway.rule.deposit_due(state),
        volume=_volume(gateway, state),
    )


def _volume(gateway: Gateway, state: AccountState) -> VolumeView | None:
    """Return what counts for the account's customer: over all its accounts, none of them named."""
    found = standing(gateway.policy, state)
    if found is None:
        return None
    return VolumeView(
        items=round(found.items),
        factor=found.factor,
        free_items=found.free_items,
        limit_items=found.limit_items,
        half_life_days=found.half_life_days,
    )
