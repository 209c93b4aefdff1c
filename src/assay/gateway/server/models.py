"""Bodies of the gateway's own endpoints, which the OpenAPI document shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AccountView",
    "Challenge",
    "ChallengeRequest",
    "ModelView",
    "NewAccount",
    "PolicyView",
    "ProblemView",
    "RedeemRequest",
    "Redeemed",
    "ServerView",
    "TensorView",
    "VolumeView",
]

Name = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9._~+@-]*$")]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class ProblemView(BaseModel):
    """A refusal (RFC 9457); ``error`` repeats ``detail`` for clients of the inference protocol."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
    error: str


class ChallengeRequest(_Wire):
    """What the work shall be good for."""

    purpose: Literal["query", "credit", "deposit"] = "query"
    model: Name = ""
    model_version: Name = ""
    query_digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    n_items: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    units: Annotated[
        float, Field(ge=0, le=1e9, allow_inf_nan=False, strict=False, description="work to bank, for credit")
    ] = 0.0


class Challenge(BaseModel):
    """A signed challenge."""

    challenge: Annotated[str, Field(description="token to solve; opaque")]
    alg: Literal["sha256", "scrypt"]
    k: Annotated[int, Field(description="sub-puzzles")]
    bits: Annotated[float, Field(description="2**bits hashes are expected in all")]
    purpose: Literal["query", "credit", "deposit"]
    price_units: float
    expected_hashes: float
    expected_seconds: float
    expires: Annotated[int, Field(description="seconds since 1970")]
    account: str
    account_key: Annotated[str | None, Field(description="key of an account that was opened")] = None


class RedeemRequest(_Wire):
    """Work to bank."""

    proof: Annotated[str, Field(max_length=8192, description="CHALLENGE;NONCE,NONCE,...")]


class Redeemed(BaseModel):
    """Receipt for banked work."""

    account: str
    account_key: str
    jti: str
    units: float
    credit_units: float
    expires: Annotated[float | None, Field(description="when the credit lapses, seconds since 1970")] = None


class NewAccount(BaseModel):
    """An account that its entry deposit opens."""

    account: str
    account_key: str
    deposit_units: float


class VolumeView(BaseModel):
    """What an account's customer was answered, where the policy prices by volume."""

    items: Annotated[
        int, Field(description="answered items that count now; old ones count in part, repeats do not")
    ]
    factor: Annotated[float, Field(description="times the usual price for the next item, at least 1")]
    free_items: Annotated[
        float | None, Field(description="count up to which the factor is 1; null if it always is")
    ]
    limit_items: Annotated[
        float | None, Field(description="count above which nothing is answered (429); null if there is none")
    ]
    half_life_days: Annotated[float, Field(description="time after which past items count half")]


class AccountView(BaseModel):
    """What an account may see of itself; debts are rounded up to whole price steps."""

    account: str
    tier: str
    queries: int
    work_paid_units: float
    credit_units: float
    due_units: float
    deposit_due_units: float
    volume: Annotated[
        VolumeView | None, Field(description="null where prices do not depend on the volume")
    ] = None


class PolicyView(BaseModel):
    """The public part of the policy."""

    version: int
    mode: str
    timing: str
    alg: str
    k: int
    min_bits: float
    max_bits: float
    step_bits: float
    hashes_per_unit: float
    deposit_units: float
    free_units: float
    max_credit_units: Annotated[
        float | None, Field(description="most credit that an account may hold; null if there is no limit")
    ]
    expiry_seconds: float
    max_items: int
    max_bytes: int


class ServerView(BaseModel):
    """Metadata of the server."""

    name: str
    version: str
    extensions: list[str]


class TensorView(BaseModel):
    """One input or output of a model."""

    name: str
    datatype: str
    shape: list[int]


class ModelView(BaseModel):
    """Metadata of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorView]
    outputs: list[TensorView]


class Ready(BaseModel):
    """An empty object: the status says it all."""

    model_config = ConfigDict(extra="allow")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entry ``responses`` of an endpoint for these refusals."""
    schema = {"$ref": "#/components/schemas/ProblemView"}
    return {
        status: {"description": _WORDS[status], "content": {"application/problem+json": {"schema": schema}}}
        for status in statuses
    }


_WORDS = {
    400: "not a request of the protocol",
    401: "the account key is none of this gateway",
    403: "the proof is not valid for this request",
    404: "no such model",
    405: "asked in another way than the page takes",
    408: "the body did not arrive in time",
    409: "the proof was used before",
    410: "the challenge has expired",
    413: "too many bytes, items or tensors",
    415: "a type of body that is not read",
    422: "does not fit the model",
    428: "work is due; the body holds the challenge",
    429: "the account is over its budget",
    503: "the store, the server behind, or a pool is not available",
}
