"""A theft."""

from __future__ import annotations

from typing import Any

from assay.adapters import TorchModel, restrict
from assay.model import Access
from assay.registry import create
from assay.study.context import Context
from assay.study.step import step_kind
from assay.study.steps.data import drawn, part
from assay.study.steps.models import keep_model, keep_opening, opened

__all__ = ["extract_step"]


@step_kind("extract")
def extract_step(context: Context) -> dict[str, Any]:
    """Steal a model; nothing but the victim, as the thief may see it, and his own rows are handed over."""
    config = context.config
    attack = create(config["attack"], "extraction", config["options"])
    victim = opened(context, "victim")
    if config.get("access"):
        victim = restrict(victim, Access.parse(config["access"]))
    if config.get("wears"):
        victim = create(config["wears"]["scheme"], "evidence", config["wears"]["options"]).defence.wear(
            victim
        )
    pool = drawn(context, config["rows"], config.get("limit"))
    theft = attack.run(
        victim,
        pool,
        budget=config.get("budget"),
        evaluation=part(context, config["evaluation"]),
        curve=config.get("curve", ()),
        rng=context.seed,
        checkpoint=context.work / "checkpoint.safetensors",
    )
    if isinstance(theft.surrogate, TorchModel):
        keep_model(context, theft.surrogate, pool)
        theft.record.save(context.out / "extraction.json")
    else:  # what was recovered exactly may be no network
        theft.save(context.out)
        keep_opening(context, {"file": "surrogate.skops"})
    record = theft.record
    facts: dict[str, Any] = {
        "attack": record.attack,
        "queries": record.cost.queries,
        "round_trips": record.cost.round_trips,
        "curve": [[p.queries, p.fidelity, p.accuracy] for p in record.curve],
        "digest": record.surrogate,
    }
    for name in ("fidelity", "accuracy", "victim_accuracy"):
        found = getattr(record, name)
        facts |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return facts
