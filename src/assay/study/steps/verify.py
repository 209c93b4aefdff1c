"""One verdict about one suspect."""

from __future__ import annotations

from typing import Any

from assay.adapters import restrict
from assay.evidence import load_evidence
from assay.model import Access
from assay.result import Verdict
from assay.study.context import Context
from assay.study.step import step_kind
from assay.study.steps.evidence import BUNDLE
from assay.study.steps.models import opened

__all__ = ["verdict_facts", "verify_step"]


@step_kind("verify")
def verify_step(context: Context) -> dict[str, Any]:
    """Test a suspect with as much access as the study grants."""
    config = context.config
    evidence = load_evidence(context.open("evidence")[0] / BUNDLE)
    suspect = restrict(opened(context, "suspect"), Access.parse(config["access"]))
    verdict = evidence.verify(suspect, alpha=config["alpha"], budget=config.get("budget"), rng=context.seed)
    verdict.save(context.out / "verdict.json")
    return verdict_facts(verdict)


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
