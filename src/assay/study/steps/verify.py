"""One verdict about one suspect."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from assay.adapters import restrict
from assay.evidence import Evidence, load_evidence
from assay.model import Access, Model
from assay.result import Verdict
from assay.study.context import Context
from assay.study.step import step_kind
from assay.study.steps.evidence import BUNDLE
from assay.study.steps.models import opened

__all__ = ["match_rate", "verdict_facts", "verify_step"]


@step_kind("verify")
def verify_step(context: Context) -> dict[str, Any]:
    """Test a suspect with as much access as the study grants."""
    config = context.config
    evidence = load_evidence(context.open("evidence")[0] / BUNDLE)
    suspect = restrict(opened(context, "suspect"), Access.parse(config["access"]))
    verdict = evidence.verify(suspect, alpha=config["alpha"], budget=config.get("budget"), rng=context.seed)
    verdict.save(context.out / "verdict.json")
    facts = verdict_facts(verdict)
    if config.get("whole"):
        facts |= _whole(evidence, suspect, verdict, context)
    return facts


def _whole(evidence: Evidence, suspect: Model, verdict: Verdict, context: Context) -> dict[str, Any]:
    """Return p-value and match rate over everything that the evidence can ask, without early stopping."""
    if getattr(evidence.scheme, "stop_early", False):
        scheme = dataclasses.replace(cast("Any", evidence.scheme), stop_early=False)
        every = Evidence(scheme, evidence.tensors, evidence.facts, evidence.nonce)
        verdict = every.verify(suspect, alpha=context.config["alpha"], rng=context.seed)
    return {"p_whole": verdict.p_value, "match_rate": match_rate(verdict)}


def match_rate(verdict: Verdict) -> float | None:
    """Return how often the suspect gave the secret answer; for directions, the share that point its way.

    None where the test knows no such rate.
    """
    if "cosines" in verdict.details:
        cosines: list[float] = verdict.details["cosines"]
        return sum(c > 0 for c in cosines) / len(cosines)
    key = verdict.samples.get("key", ())
    return float(key[0]) if len(key) == 1 else None


def verdict_facts(verdict: Verdict) -> dict[str, Any]:
    """Return what the tables show of a verdict."""
    effect = verdict.effect
    return {
        "decision": verdict.decision,
        "stolen": verdict.stolen,
        "alpha": verdict.alpha,
        "p_value": verdict.p_value,
        "test": verdict.test,
        "queries": verdict.queries,
        "effect_name": effect.name if effect else None,
        "effect": _finite(effect.value) if effect else None,
        "effect_low": _finite(effect.low) if effect else None,
        "effect_high": _finite(effect.high) if effect else None,
        "companions": {c.test: c.p_value for c in verdict.companions},
        "reason": verdict.reason,
    }


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
