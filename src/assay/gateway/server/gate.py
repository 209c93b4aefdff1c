"""Who may pass: account keys, challenges, proofs, and the store's admission, one after the other.

Everything here is cheap on purpose. A request without a proof costs at most one read of
the store; a bad proof is refused before anything is written; where something is due, no
model and no estimator runs before the store has claimed the payment.
"""

from __future__ import annotations

import hmac
import math
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.keys import ClockJumped
from assay.gateway.pricing.budgets import Decision, Usage
from assay.gateway.pricing.offers import draw, make_offer
from assay.gateway.server.binding import CLIENT
from assay.gateway.server.problems import (
    Forbidden,
    Gone,
    OverBudget,
    PaymentRequired,
    Problem,
    Unauthorised,
    Unavailable,
)
from assay.gateway.store.base import Claim
from assay.puzzles import check
from assay.puzzles.claims import Claims, Purpose
from assay.puzzles.difficulty import target64
from assay.puzzles.query import QueryTensor, query_digest
from assay.puzzles.rejection import Reason, Rejection
from assay.puzzles.tokens import mint

if TYPE_CHECKING:
    from assay.gateway.admission import RuleTerms
    from assay.gateway.keys import Clock, KeyRing
    from assay.gateway.policy import Policy
    from assay.gateway.server.wire import Query

__all__ = ["Asked", "Caller", "Gate", "digest_of"]

_ACCOUNT_TAG, _BOUND_TAG, _CLIENT_TAG = b"assay/account/1\0", b"assay/account/2\0", b"assay/client/1\0"
_ACCOUNT_KEY = re.compile(r"a1\.([0-9a-f]{32})\.([0-9a-f]{32})")
_MEMORY = 14  # log2 of scrypt's N: 16 MiB a try
_MARGIN = 1e-6  # the books' smallest amount
_DOWN = 1.0 - 2.0**-53  # the draw that rounds down
_NEWEST = 2**53
_GONE: frozenset[Reason] = frozenset({"expired"})


@dataclass(frozen=True, slots=True)
class Caller:
    """An account, whether its caller showed the key of it or its certificate, and that certificate."""

    account_id: str
    known: bool = False
    fresh: bool = False
    client: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a challenge is bound to; empty for work that is banked."""

    model: str = ""
    version: str = ""
    digest: str = ""
    n_items: int = 0


@dataclass(slots=True)
class Gate:
    """Signs challenges and checks what comes back.

    Parameters
    ----------
    policy
        In force.
    terms
        What it asks of a request.
    keys
        Signing keys.
    clock
        Never runs back.
    honoured
        Policy versions whose challenges are still good, besides the one in force and
        newer ones.
    """

    policy: Policy
    terms: RuleTerms
    keys: KeyRing
    clock: Clock
    honoured: frozenset[int] = frozenset()

    # --- accounts -----------------------------------------------------------------------
    def account_key(self, account_id: str) -> str:
        """Return the key that proves to be an account: stateless, so that opening one stores nothing.

        Of a request with a client certificate it is good together with that certificate only.
        """
        client = CLIENT.get()
        tag = _BOUND_TAG + client.encode() if client else _ACCOUNT_TAG
        mac = hmac.digest(self.keys.secret("accounts"), tag + account_id.encode(), "sha256")
        return f"a1.{account_id}.{mac[:16].hex()}"

    def caller(self, authorization: str | None) -> Caller | None:
        """Return who sends a header ``Authorization: Bearer KEY``; None if there is none.

        A certificate is an account of its own, and needs no key besides.

        Raises
        ------
        Unauthorised
            If the key is not one of ours.
        """
        client = CLIENT.get()
        if authorization is None:
            return self.stranger() if client else None
        scheme, _, key = authorization.partition(" ")
        found = _ACCOUNT_KEY.fullmatch(key.strip())
        if scheme.lower() == "bearer" and found is not None:
            account_id = found[1]
            if hmac.compare_digest(self.account_key(account_id), key.strip()):
                return Caller(account_id, known=True, client=client)
        msg = "the account key is not one of this gateway; leave the header out to be offered an account"
        if client:
            msg = "the account key does not belong to this client certificate; leave the header out"
        raise Unauthorised(msg)

    def stranger(self) -> Caller:
        """Return a new account, which exists once it pays; of a certificate always the same."""
        client = CLIENT.get()
        if client:
            code = hmac.digest(self.keys.secret("accounts"), _CLIENT_TAG + client.encode(), "sha256")
            return Caller(code[:16].hex(), known=True, client=client)
        return Caller(secrets.token_hex(16), fresh=True)

    # --- terms ----------------------------------------------------------------------------
    def expects(self, account_id: str, n_items: int) -> Decision:
        """Return what is decided about the first request of an account that nobody knows yet."""
        return self.terms.decide(AccountState(account_id), Usage(), n_items)

    # --- challenges -------------------------------------------------------------------------
    def room(self, state: AccountState | None) -> float:
        """Return how much work an account may bank: more would be refused when it is redeemed."""
        balance = 0.0 if state is None else state.balance
        return max(0.0, self.terms.max_credit_units - balance - _MARGIN)

    def challenge(
        self,
        account_id: str,
        state: AccountState | None,
        units: float,
        purpose: Purpose,
        asked: Asked,
        *,
        most: float = math.inf,
    ) -> dict[str, Any]:
        """Return a signed challenge and what a client wants to know about it.

        Parameters
        ----------
        account_id, state
            Who asks.
        units
            Work to ask for.
        purpose, asked
            What it is good for.
        most
            Units that it may be worth at most, however it is rounded.

        Raises
        ------
        OverBudget
            If even the smallest puzzle is worth more than ``most``.
        Unavailable
            If the clock has jumped back: what is signed would carry a wrong time.
        """
        policy, puzzle = self.policy, self.policy.puzzle
        try:
            now = self.clock.issuing()
        except ClockJumped as error:
            raise Unavailable(str(error), reason="clock", retry_after=30) from error
        # The draw depends on the books only, so asking again does not change the price.
        uniform = draw(self.keys.secret("offers"), state or AccountState(account_id))
        offer = make_offer(policy, min(units, most), uniform)
        if offer.units > most:
            offer = make_offer(policy, most, _DOWN)
        if offer.units > most:
            msg = "the account holds as much credit as it may; use some of it first"
            raise OverBudget(msg, reason="credit-full")
        kid, key = self.keys.signing(now)
        expires = int(now + max(puzzle.expiry_seconds, 20.0 * offer.seconds)) + 1
        claims = Claims(
            kid=kid,
            alg=puzzle.alg,
            memory=_MEMORY if puzzle.alg == "scrypt" else 0,
            target64=target64(offer.bits, offer.k),
            k=offer.k,
            purpose=purpose,
            sub=account_id,
            price_units=offer.units,
            iat=int(now),
            exp=expires,
            jti=secrets.token_hex(16),
            model=asked.model,
            model_version=asked.version,
            query_digest=asked.digest,
            n_items=asked.n_items,
            policy_version=policy.version,
            client=CLIENT.get(),
        )
        return {
            "challenge": mint(claims, key),
            "alg": claims.alg,
            "k": claims.k,
            "bits": offer.bits,
            "purpose": purpose,
            "price_units": offer.units,
            "expected_hashes": 2.0**offer.bits,
            "expected_seconds": offer.seconds,
            "expires": expires,
            "account": account_id,
        }

    def payment_required(
        self, caller: Caller, state: AccountState | None, units: float, *, deposit: bool, asked: Asked
    ) -> PaymentRequired:
        """Return the refusal that asks for work."""
        members = self.challenge(caller.account_id, state, units, "deposit" if deposit else "query", asked)
        members["retry"] = "repeat the request with the header PoW-Proof: CHALLENGE;NONCE,NONCE,..."
        headers = {}
        if caller.fresh:
            members["account_key"] = headers["PoW-Account"] = self.account_key(caller.account_id)
        what = (
            "a new account pays an entry deposit first" if deposit else "work is due before the next answer"
        )
        tries = "tries" if members["alg"] == "scrypt" else "hashes"
        msg = f"{what}: about {members['expected_hashes']:.0f} {tries}; solve the challenge and ask again"
        return PaymentRequired(msg, reason="deposit" if deposit else "debt", members=members, headers=headers)

    # --- proofs ------------------------------------------------------------------------------
    def open(self, proof: str, caller: Caller | None, purposes: tuple[Purpose, ...], asked: Asked) -> Claims:
        """Check all of a proof but its being used once.

        Raises
        ------
        Forbidden, Gone
            By the reason.
        """
        puzzle = self.policy.puzzle
        terms = check.Terms(
            now=self.clock(),
            purposes=purposes,
            min_bits=puzzle.min_bits,
            # A newer one was signed by a replica that has taken over its policy already.
            policies=range(min(self.honoured | {self.policy.version}), _NEWEST),
            sub=None if caller is None else caller.account_id,
            # Not of the request under way: memory-hard proofs are checked in another thread.
            client="" if caller is None else caller.client,
            model=asked.model or None,
            model_version=asked.version or None,
            query_digest=asked.digest or None,
            algorithms=(puzzle.alg,),
            skew=puzzle.skew_seconds,
        )
        try:
            return check.verify(proof, self.keys.live(terms.now), terms).claims
        except Rejection as error:
            raise _refusal(error) from error
        except (InvalidInput, ValueError, OverflowError) as error:
            msg = "the proof could not be read"
            raise Forbidden(msg, reason="malformed") from error

    @staticmethod
    def claim(claims: Claims) -> Claim:
        """Return what the store has to claim."""
        return Claim(claims.jti, claims.exp, claims.price_units, claims.purpose == "deposit")


def digest_of(query: Query) -> str:
    """Return the digest that binds a challenge to a query, 64 hexadecimal digits."""
    return query_digest([QueryTensor(one.name, one.datatype, one.shape, one.raw) for one in query.inputs])


def _refusal(error: Rejection) -> Problem:
    if error.reason in _GONE:
        return Gone(str(error), reason=error.reason)
    return Forbidden(str(error), reason=error.reason)
