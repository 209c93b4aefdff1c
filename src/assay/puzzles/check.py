"""All that must hold before a proof is redeemed, in the order that makes bad proofs cheap to refuse."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from assay.puzzles import scrypt_puzzle, sha256_puzzle
from assay.puzzles.claims import Claims, Purpose
from assay.puzzles.difficulty import target64
from assay.puzzles.proof import decode_proof
from assay.puzzles.rejection import Reason, Rejection
from assay.puzzles.tokens import open_token

__all__ = ["Proof", "Terms", "check_claims", "check_solutions", "verify"]


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that was found right and may now be redeemed, once.

    Attributes
    ----------
    claims
        What was asked.
    token
        The challenge.
    nonces
        The solutions.
    """

    claims: Claims
    token: str
    nonces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a proof must say to be good for the request at hand.

    Parameters
    ----------
    now
        Seconds since 1970.
    purposes
        What the request can be paid with.
    min_bits
        Today's floor of the difficulty.
    policies
        Versions of the policy that are still honoured.
    sub
        Account of the request; None if the request does not say, and the proof decides.
    client
        What else the request is bound to.
    model, model_version, query_digest
        What the request asks; None where it asks nothing (credit).
    algorithms
        Puzzles that this gateway gives.
    skew
        Seconds by which the clocks of several replicas may differ.
    """

    now: float
    purposes: Collection[Purpose]
    min_bits: float
    policies: Collection[int]
    sub: str | None = None
    client: str = ""
    model: str | None = None
    model_version: str | None = None
    query_digest: str | None = None
    algorithms: Collection[str] = ("sha256",)
    skew: float = 30.0


def verify(proof: str, keys: Mapping[str, bytes], terms: Terms) -> Proof:
    """Return what a proof proves, or refuse it.

    Order: form and size, MAC, algorithm, times and policy, account, model and query,
    floor of the difficulty, solutions. What remains for the caller is to claim
    ``claims.jti``, at once and only once, before anything is served.

    Parameters
    ----------
    proof
        ``token;n1,n2,...``.
    keys
        Live signing keys by name.
    terms
        What the request needs.

    Raises
    ------
    Rejection
        With the reason.

    Examples
    --------
    >>> from assay.puzzles.proof import encode_proof
    >>> from assay.puzzles.tokens import mint
    >>> key, target = bytes(range(32)), target64(8, 2)
    >>> claims = Claims(kid="a", target64=target, k=2, purpose="credit", sub="account-1",
    ...                 price_units=2.0, iat=1000, exp=1060, jti="00" * 16)
    >>> token = mint(claims, key)
    >>> nonces = [sha256_puzzle.solve_one(sha256_puzzle.seed(token), i, target) for i in range(2)]
    >>> terms = Terms(now=1001, purposes=("credit",), min_bits=8, policies=(0,))
    >>> verify(encode_proof(token, nonces), {"a": key}, terms).claims.price_units
    2.0
    """
    token, nonces = decode_proof(proof)
    claims = open_token(token, keys)
    check_claims(claims, terms)
    check_solutions(token, claims, nonces)
    return Proof(claims, token, nonces)


def check_claims(claims: Claims, terms: Terms) -> None:
    """Return if signed claims fit the request; everything of `verify` that costs no hash.

    Raises
    ------
    Rejection
        With the reason.
    """
    for reason, fits, message in (
        ("algorithm", claims.alg in terms.algorithms, "this gateway does not give puzzles of this kind"),
        ("future", claims.iat <= terms.now + terms.skew, "the challenge is from the future"),
        ("expired", terms.now <= claims.exp, "the challenge has expired; ask for a new one"),
        ("policy", claims.policy_version in terms.policies, "the challenge's prices are no longer valid"),
        ("purpose", claims.purpose in terms.purposes, "the proof was made for another purpose"),
        ("account", terms.sub is None or claims.sub == terms.sub, "the proof belongs to another account"),
        ("client", claims.client == terms.client, "the proof belongs to another client"),
        ("model", claims.model == (terms.model or ""), "the proof was made for another model"),
        (
            "model",
            claims.model_version == (terms.model_version or ""),
            "the proof was made for another version of the model",
        ),
        ("query", claims.query_digest == (terms.query_digest or ""), "the proof was made for other inputs"),
        (
            "difficulty",
            claims.target64 <= target64(terms.min_bits, claims.k),
            "the challenge is easier than what is asked today",
        ),
    ):
        if not fits:
            raise Rejection(message, _reason(reason))


def check_solutions(token: str, claims: Claims, nonces: tuple[int, ...]) -> None:
    """Return if the work has been done, by whichever puzzle the claims name.

    Raises
    ------
    Rejection
        With reason ``"solution"``.
    """
    if claims.alg == "sha256":
        sha256_puzzle.check(token, claims, nonces)
    elif claims.alg == "scrypt":
        scrypt_puzzle.check(token, claims, nonces)
    else:  # pragma: no cover - claims cannot hold another name; what is unknown is refused
        msg = "this gateway does not give puzzles of this kind"
        raise Rejection(msg, "algorithm")


def _reason(word: str) -> Reason:
    return word  # type: ignore[return-value]  # one of the literals above
