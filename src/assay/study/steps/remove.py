"""A thief who tries to wash evidence out of his copy."""

from __future__ import annotations

from typing import Any

from assay.registry import create
from assay.study.context import Context
from assay.study.step import step_kind
from assay.study.steps.data import drawn, part
from assay.study.steps.models import keep_model, opened

__all__ = ["remove_step"]


@step_kind("remove")
def remove_step(context: Context) -> dict[str, Any]:
    """Apply one removal attack to a model."""
    config = context.config
    removal = create(config["removal"], "removal", config["options"])
    rows = drawn(context, config["rows"], config.get("limit"))
    washed = removal.run(
        opened(context, "model"),
        rows,
        evaluation=part(context, config["evaluation"]),
        rng=context.seed,
        checkpoint=context.work / "checkpoint.safetensors",
    )
    keep_model(context, washed.model, rows)
    washed.record.save(context.out / "removal.json")
    record = washed.record
    facts: dict[str, Any] = {"removal": record.removal, "digest": record.washed}
    for name in ("accuracy_before", "accuracy", "fidelity"):
        found = getattr(record, name)
        facts |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return facts
