"""The policy of a gateway: every number that decides what a query costs.

Frozen, strict, versioned and signed. A calibration writes it, the gateway reads it, and
between two versions no price may fall by more than half, so that neither a bad refit nor
poisoned traffic can open the gate in one step.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from assay.errors import EvidenceTampered, InvalidInput
from assay.gateway.policy_parts import (
    Binding,
    Budgets,
    Calibration,
    Count,
    Defence,
    Detector,
    EstimatorSource,
    Limits,
    PaperPricing,
    Part,
    Pricing,
    Puzzle,
    Signature,
    Tier,
    VolumePricing,
)
from assay.gateway.toml import dump_toml

__all__ = [
    "Binding",
    "Budgets",
    "Calibration",
    "Defence",
    "Detector",
    "EstimatorSource",
    "Limits",
    "PaperPricing",
    "Policy",
    "Pricing",
    "Puzzle",
    "Signature",
    "Tier",
    "VolumePricing",
    "check_step",
    "load_policy",
    "parse_policy",
    "save_policy",
    "sign",
]

_TAG = b"assay/policy/1\0"
_MAX_BYTES = 1024 * 1024
_MIN_KEY = 16
_MAX_FALL = 2.0
_VOLUMES = tuple(10.0**exponent for exponent in range(2, 10))


class Policy(Part):
    """The whole policy.

    Examples
    --------
    >>> policy = Policy(version=3)
    >>> policy.pricing.typical_units, policy.puzzle.k, policy.limits.max_items
    (1.0, 16, 64)
    """

    version: Count = 1
    model: str = ""
    pricing: Pricing = Pricing()
    puzzle: Puzzle = Puzzle()
    limits: Limits = Limits()
    budgets: Budgets = Budgets()
    binding: Binding = Binding()
    tiers: dict[str, Tier] = Field(default={"standard": Tier()})
    answers: tuple[Defence, ...] = ()
    detectors: tuple[Detector, ...] = ()
    estimator: EstimatorSource = EstimatorSource()
    calibration: Calibration = Calibration()
    signature: Signature | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "standard" not in self.tiers:
            msg = "tiers must hold the tier 'standard', which new and unknown accounts get"
            raise ValueError(msg)
        largest = self.limits.max_items * self.pricing.reserve_units
        if self.pricing.mode == "additive" and largest > self.pricing.debt_cap_units * (1.0 + 1e-9):
            msg = (
                f"pricing.debt_cap_units must hold one request of limits.max_items at pricing.reserve_units, "
                f"at least {largest:g}"
            )
            raise ValueError(msg)
        return self

    def tier(self, name: str) -> Tier:
        """Return the tier of that name; an unknown one gets the standard terms."""
        return self.tiers.get(name, self.tiers["standard"])

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form without the signature, 64 hex digits."""
        return hashlib.sha256(_TAG + self._canonical()).hexdigest()

    def _canonical(self) -> bytes:
        """Sorted keys, no spaces, shortest float text: one byte string per policy."""
        data = self.model_dump(mode="json", exclude={"signature"})
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sign(policy: Policy, key: bytes) -> Policy:
    """Return the policy with its signature under ``key`` (at least 16 bytes).

    Raises
    ------
    InvalidInput
        If the key is too short.

    Examples
    --------
    >>> signed = sign(Policy(), bytes(32))
    >>> signed.signature.digest == Policy().digest
    True
    """
    return policy.model_copy(update={"signature": Signature(digest=policy.digest, mac=_mac(policy, key))})


def _mac(policy: Policy, key: bytes) -> str:
    if len(key) < _MIN_KEY:
        msg = f"a policy key needs at least {_MIN_KEY} bytes, got {len(key)}"
        raise InvalidInput(msg)
    return hmac.new(key, _TAG + policy._canonical(), hashlib.sha256).hexdigest()  # noqa: SLF001 - same module


def parse_policy(text: str) -> Policy:
    r"""Read a policy from TOML text; unknown keys and wrong types are refused.

    Raises
    ------
    InvalidInput
        If the text is no TOML or no policy; the message names the first bad entry.

    Examples
    --------
    >>> parse_policy("version = 2\n[pricing]\nbeta = 3.0").pricing.beta
    3.0
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"the policy is not TOML: {error}"
        raise InvalidInput(msg) from error
    try:
        # Through JSON, because strict mode takes arrays for tuples there and nowhere else.
        return Policy.model_validate_json(json.dumps(data, allow_nan=False))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "policy"
        msg = f"the policy is wrong at {where}: {first['msg']}"
        raise InvalidInput(msg) from error
    except (TypeError, ValueError) as error:
        msg = f"the policy holds something that is no finite number, text, list or table: {error}"
        raise InvalidInput(msg) from error


def save_policy(policy: Policy, path: str | Path) -> Path:
    """Write the policy as TOML, whole or not at all."""
    path = Path(path)
    data = policy.model_dump(mode="json", exclude_none=True)
    head = f"# Gateway policy, version {policy.version}. Sign it again after any change.\n\n"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(head + dump_toml(data), encoding="utf-8")
    partial.replace(path)
    return path


def load_policy(path: str | Path, key: bytes | None = None, *, previous: Policy | None = None) -> Policy:
    """Read a policy file and refuse it when it was changed or leads backwards.

    Parameters
    ----------
    path
        TOML file.
    key
        Signing key. With a key an unsigned file is refused; without one only the digest of a
        signed file can be checked, which catches accidents, not forgers.
    previous
        Policy in force: the new one must pass `check_step` (or be the same).

    Raises
    ------
    InvalidInput
        If the file cannot be read, is no policy, or leads backwards.
    EvidenceTampered
        If the content is not what was signed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the policy {path}: {error}"
        raise InvalidInput(msg) from error
    if len(raw) > _MAX_BYTES:
        msg = f"the policy {path} is larger than {_MAX_BYTES} bytes"
        raise InvalidInput(msg)
    policy = parse_policy(text)
    if key is not None and policy.signature is None:
        msg = f"the policy {path} is not signed; sign it with the key that the gateway checks it with"
        raise EvidenceTampered(msg)
    if policy.signature is not None:
        if not hmac.compare_digest(policy.signature.digest, policy.digest):
            msg = f"the policy {path} was changed after it was signed; sign it again"
            raise EvidenceTampered(msg)
        if key is not None and not hmac.compare_digest(policy.signature.mac, _mac(policy, key)):
            msg = f"the policy {path} was signed with another key"
            raise EvidenceTampered(msg)
    if previous is not None and policy.digest != previous.digest:
        check_step(previous, policy)
    return policy


def check_step(old: Policy, new: Policy) -> None:
    """Refuse a step to ``new`` that goes back in version or lets any price fall more than twofold.

    Compared in hashes, so that a smaller unit cannot hide a fall: the base price, the average
    honest price, the dearest item, the deposit, the smallest puzzle, and what volume
    multiplies prices by; besides, the ceiling
    of the multiplier and the evidence needed to reach it. Policies of different modes have no common price
    and are only compared by version; hashes of one puzzle and of another are not compared either.

    Raises
    ------
    InvalidInput
        Naming the first entry that falls too far.

    Examples
    --------
    >>> old = Policy(version=1)
    >>> check_step(old, Policy(version=2))
    >>> check_step(old, Policy(version=1))
    Traceback (most recent call last):
    assay.errors.InvalidInput: the new policy has version 1, which is not above version 1 in force
    """
    if new.version <= old.version:
        msg = f"the new policy has version {new.version}, which is not above version {old.version} in force"
        raise InvalidInput(msg)
    if new.pricing.mode != old.pricing.mode:
        return
    before, after = _floors(old), _floors(new)
    same = new.puzzle.alg == old.puzzle.alg
    for name, value in before.items():
        if not same and "hashes" in name:
            continue
        if after[name] < value / _MAX_FALL * (1.0 - 1e-12):
            msg = (
                f"the new policy lets {name} fall from {value:.6g} to {after[name]:.6g}, more than twofold; "
                "lower it in several versions"
            )
            raise InvalidInput(msg)


def _floors(policy: Policy) -> dict[str, float]:
    """Numbers whose fall makes queries cheaper, all in hashes or pure ratios."""
    pricing, hashes = policy.pricing, policy.pricing.hashes_per_unit
    floors: dict[str, Any] = {"puzzle.min_bits (as hashes)": 2.0**policy.puzzle.min_bits}
    if pricing.mode == "paper":
        return floors | {"pricing.paper.min_bits (as hashes)": 2.0**pricing.paper.min_bits}
    floors |= {
        "the base price (hashes)": pricing.base_units * hashes,
        "the average honest price (hashes)": pricing.typical_units * hashes,
        "the dearest item (hashes)": pricing.item_ceiling * hashes,
        "the deposit (hashes)": pricing.deposit_units * hashes,
        "pricing.max_multiplier": pricing.max_multiplier,
        "the sensitivity of the alarm (1 / threshold)": 1.0 / pricing.threshold,
        "pricing.eta": pricing.eta,
    }
    volume = pricing.volume
    for items in _VOLUMES:
        risen = max(1.0, items / volume.free_items) ** volume.power if volume.free_items else 1.0
        floors[f"the factor of item {items:.0e} by volume"] = min(risen, volume.max_factor)
    return floors
