"""The tables of a policy, one frozen and strict class each."""

from __future__ import annotations

import ipaddress
import math
import re
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "Binding",
    "Budgets",
    "Calibration",
    "Defence",
    "Detector",
    "EstimatorSource",
    "Limits",
    "PaperPricing",
    "Part",
    "Pricing",
    "Puzzle",
    "Signature",
    "Tier",
    "VolumePricing",
]

Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_TAKEN = frozenset({"authorization", "content-length", "host", "pow-proof", "transfer-encoding"})
Scalar = str | bool | int | float

_ORDERS = (
    1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0,
    16.0, 20.0, 25.0, 32.0, 40.0, 50.0, 64.0, 96.0, 128.0, 256.0,
)  # fmt: skip


class Part(BaseModel):
    """A frozen table of the policy: no unknown keys, no silent conversions, no infinities."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class PaperPricing(Part):
    """The published rule (Dziedzic et al. 2022, section 3.2): line, exponential, line.

    ``expected(n) = slope * n + intercept``, ``t = base ** |P - expected(n)|`` seconds within
    ``[min_seconds, max_seconds]``, ``bits = bits_slope * log10(t) + bits_intercept``. The
    defaults are those of its MNIST experiment.
    """

    slope: float = 0.2586695
    intercept: float = -16.497579
    base: Annotated[float, Field(gt=1.0)] = 1.0075
    bits_slope: Positive = 3.514290
    bits_intercept: float = 18.531751
    min_seconds: Positive = 0.1
    max_seconds: Positive = 2948.467908
    min_bits: Annotated[int, Field(ge=0, le=62)] = 16
    max_bits: Annotated[int, Field(ge=1, le=62)] = 32

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_seconds < self.min_seconds or self.max_bits < self.min_bits:
            msg = "pricing.paper: max_seconds and max_bits must not be below their minima"
            raise ValueError(msg)
        return self


class VolumePricing(Part):
    """What one customer's volume does to its prices (see `assay.gateway.pricing.volume`).

    Item number ``v`` of a group of accounts costs ``max(1, v / free_items) ** power`` times its
    price, at most ``max_factor``; past items count half after ``half_life_days``. 0 free items
    switch it off. Above ``limit_items`` nothing is answered until the count has come down.
    """

    free_items: NotNegative = 0.0
    power: Annotated[float, Field(gt=0.0, le=8.0)] = 1.0
    max_factor: Annotated[float, Field(ge=1.0, le=1e6)] = 100.0
    half_life_days: Positive = 30.0
    limit_items: Positive | None = None

    @property
    def active(self) -> bool:
        """Whether anything depends on the volume, so that it must be counted."""
        return self.free_items > 0.0 or self.limit_items is not None


class Pricing(Part):
    """How log flip probabilities become units of work, and when they are asked for.

    The price of an item is ``base_units * (1 + beta * c / mean_cost) * M`` with
    ``c = renyi(alpha0)`` of its vote and ``1 <= M <= max_multiplier`` the multiplier of the
    account's cumulative sum. With the defaults an average honest item costs one unit.

    ``reserve_units`` are held per item until it is billed, and bills are written every
    ``billing_items`` items only: a price shown per item would tell its vote. Work is asked
    for when everything owed and held exceeds ``free_units``. ``debt_cap_units`` bounds what
    is held for unsettled items. ``deposit_units`` come back as credit over
    ``deposit_release_queries`` quiet items (0: never). ``up`` and ``down`` clip the steps of
    the cumulative sum, ``threshold`` is where prices start to rise.
    """

    mode: Literal["additive", "paper"] = "additive"
    timing: Literal["lagged", "exact"] = "lagged"
    hashes_per_unit: Positive = 4096.0
    expected_rate_hz: Positive = 1e6
    inference_seconds: Positive = 0.005
    estimator_seconds: NotNegative = 0.0
    sigma: Positive = 2.0
    delta: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-5
    alpha0: Annotated[float, Field(gt=1.0)] = 2.0
    orders: tuple[Annotated[float, Field(gt=1.0)], ...] = _ORDERS
    mean_cost: Positive = 0.1
    base_units: Positive = 0.5
    beta: NotNegative = 1.0
    llr_edges: tuple[float, ...] = ()
    llr_values: tuple[float, ...] = ()
    up: Positive = 4.0
    down: Positive = 2.0
    threshold: Positive = 9.0
    eta: Positive = 1.0
    max_multiplier: Annotated[float, Field(ge=1.0)] = 50.0
    p95_units: Positive = 2.0
    reserve_units: NotNegative = 2.0
    deposit_units: NotNegative = 128.0
    deposit_release_queries: Annotated[int, Field(ge=0)] = 2000
    debt_cap_units: NotNegative = 128.0
    free_units: NotNegative = 16.0
    billing_items: Count = 32
    volume: VolumePricing = VolumePricing()
    paper: PaperPricing = PaperPricing()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.orders or any(b <= a for a, b in pairwise(self.orders)):
            msg = "pricing.orders must be a rising, non-empty list of orders above 1"
            raise ValueError(msg)
        edges, values = self.llr_edges, self.llr_values
        if (edges or values) and len(values) != len(edges) + 1:
            msg = (
                "pricing.llr_values needs one value more than pricing.llr_edges, or both empty; "
                f"got {len(values)} and {len(edges)}"
            )
            raise ValueError(msg)
        if any(b <= a for a, b in pairwise(edges)) or any(e > 0.0 for e in edges):
            msg = "pricing.llr_edges are rising log probabilities, none above 0"
            raise ValueError(msg)
        if self.free_units > self.debt_cap_units:
            msg = "pricing.free_units must not exceed pricing.debt_cap_units"
            raise ValueError(msg)
        # An identity that may leave with more debt than it cost to make is a printing press.
        if self.deposit_units and self.free_units > self.deposit_units:
            msg = "pricing.free_units must not exceed pricing.deposit_units: leaving in debt would pay"
            raise ValueError(msg)
        return self

    @property
    def cost_ceiling(self) -> float:
        """Largest cost an item can have: the data-independent ``alpha0 / sigma**2``."""
        return self.alpha0 / self.sigma**2

    @property
    def item_ceiling(self) -> float:
        """Units of the dearest item before any multiplier."""
        return self.base_units * (1.0 + self.beta * self.cost_ceiling / self.mean_cost)

    @property
    def typical_units(self) -> float:
        """Units of an average honest item, ``base_units * (1 + beta)``."""
        return self.base_units * (1.0 + self.beta)

    @property
    def cusum_ceiling(self) -> float:
        """Where the cumulative sum stops growing: a hijacked account can come back."""
        return 2.0 * self.threshold + math.log(self.max_multiplier) / self.eta


class Puzzle(Part):
    """How work is asked for: algorithm, sub-puzzles, difficulty grid, life time."""

    alg: Literal["sha256", "scrypt"] = "sha256"
    k: Annotated[int, Field(ge=1, le=64)] = 16
    min_bits: Annotated[float, Field(ge=0.0, le=60.0)] = 12.0
    max_bits: Annotated[float, Field(ge=1.0, le=60.0)] = 26.0
    step_bits: Annotated[float, Field(gt=0.0, le=4.0)] = 0.25
    expiry_seconds: Annotated[float, Field(ge=60.0)] = 120.0
    skew_seconds: NotNegative = 30.0
    rotation_hours: Positive = 24.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_bits < self.min_bits:
            msg = "puzzle.max_bits must not be below puzzle.min_bits"
            raise ValueError(msg)
        if 2.0**self.min_bits < self.k:
            msg = f"puzzle.min_bits must give each of the k = {self.k} sub-puzzles at least one hash"
            raise ValueError(msg)
        if self.alg == "scrypt" and self.k > 4:  # noqa: PLR2004 - verification costs one try per sub-puzzle
            msg = "puzzle.k must be at most 4 with scrypt: every sub-puzzle costs the server a full try"
            raise ValueError(msg)
        return self


class Limits(Part):
    """What one request, one account and one process may ask for."""

    max_items: Count = 64
    max_bytes: Count = 8 * 1024 * 1024
    max_tensors: Count = 16
    max_header_bytes: Count = 16 * 1024
    concurrency: Count = 64
    account_concurrency: Count = 8
    verify_queue: Count = 256
    settle_queue: Count = 4096
    challenges_hz: Positive = 2000.0
    request_seconds: Positive = 30.0
    upstream_seconds: Positive = 30.0
    retention_days: Positive = 30.0


class Budgets(Part):
    """Hard totals per account; an absent one is no limit.

    From ``throttle_at`` of any of them on, the account is slowed to ``throttle_hz`` items per second.
    """

    epsilon: Positive | None = None
    delta: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-5
    work_per_day: Positive | None = None
    queries_per_day: Count | None = None
    throttle_at: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    throttle_hz: Positive = 1.0


class Binding(Part):
    """Who vouches for client certificates: a header of the proxy that ends TLS in front of the gateway.

    ``header`` names it; without one nothing is bound. It is believed on connections from
    ``proxies`` alone, addresses or networks. An account opened with a certificate is that
    certificate's: its proofs and its key are good together with it and not otherwise.
    ``required`` refuses callers who show none.
    """

    header: str = ""
    proxies: tuple[str, ...] = ()
    required: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.header and (not _HEADER.fullmatch(self.header) or self.header.lower() in _TAKEN):
            msg = f"binding.header must be the name of a header of its own, got {self.header!r}"
            raise ValueError(msg)
        if bool(self.header) != bool(self.proxies) or (self.required and not self.header):
            msg = "binding needs both a header and the addresses of the proxies that may send it"
            raise ValueError(msg)
        for one in self.proxies:
            try:
                ipaddress.ip_network(one)
            except ValueError as error:
                msg = f"binding.proxies holds {one!r}, which is no address or network: {error}"
                raise ValueError(msg) from error
        return self


class Tier(Part):
    """A class of accounts: what it pays of the price, the deposit and the budgets."""

    price_factor: NotNegative = 1.0
    deposit_factor: NotNegative = 1.0
    budget_factor: Positive = 1.0


class Defence(Part):
    """One output defence by name, with its settings, in the order of application."""

    name: Annotated[str, Field(min_length=1)]
    settings: dict[str, Scalar] = {}


class Detector(Part):
    """One detector by name, its settings, and what an alarm does to the account."""

    name: Annotated[str, Field(min_length=1)]
    settings: dict[str, Scalar] = {}
    action: Literal["flag", "throttle", "deny"] = "flag"


class EstimatorSource(Part):
    """Where the leakage estimator lies (relative to the policy file) and what it must hash to."""

    kind: str = ""
    folder: str = ""
    digest: str = ""


class Calibration(Part):
    """Where the numbers come from and what they gave in simulation."""

    provenance: dict[str, Scalar] = {}
    overheads: dict[str, float] = {}
    ratios: dict[str, dict[str, float]] = {}


class Signature(Part):
    """HMAC-SHA-256 over the canonical form, and the plain digest for readers without the key."""

    alg: Literal["hmac-sha256"] = "hmac-sha256"
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    mac: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
