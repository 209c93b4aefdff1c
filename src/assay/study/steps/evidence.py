"""Evidence that an owner keeps back, and evidence that is trained in."""

from __future__ import annotations

import inspect
from typing import Any

from assay.evidence.dataset_inference import References
from assay.evidence.watermarks import EmbeddingRecord
from assay.nets import Recipe
from assay.registry import configure, create
from assay.study.context import Context
from assay.study.step import step_kind
from assay.study.steps.data import drawn, part
from assay.study.steps.models import accuracy, keep_model, opened

__all__ = ["BUNDLE", "embed_step", "register_step"]

BUNDLE = "evidence"


@step_kind("register")
def register_step(context: Context) -> dict[str, Any]:
    """Register evidence that is kept back: a secret split of the pool."""
    config = context.config
    scheme = create(config["scheme"], "evidence", config["options"])
    extra = {}
    if context.keys("references"):
        folder, _ = context.open("references")
        extra["references"] = References.load(folder / "references.npz")
    private, control = drawn(context, [config["private"]]), drawn(context, [config["control"]])
    evidence = scheme.register(opened(context, "victim"), private, control, rng=context.seed, **extra)
    evidence.save(context.out / BUNDLE)
    return {"commitment": evidence.commitment, "scheme": evidence.name, "needs": evidence.needs.title}


@step_kind("embed", version=2)
def embed_step(context: Context) -> dict[str, Any]:
    """Train a model with evidence inside, and one without it if asked for."""
    config = context.config
    scheme = create(config["scheme"], "evidence", config["options"])
    rows, evaluation = drawn(context, config["rows"]), part(context, config["evaluation"])
    compare = {}
    if config.get("unmarked"):
        # The unmarked model only; ablations of a scheme are evidence of their own in a study.
        known = inspect.signature(scheme.embed).parameters
        compare = {k: k == "compare_unmarked" for k in known if k.startswith("compare_")}
    embedded = scheme.embed(
        rows,
        architecture=config["architecture"],
        recipe=configure(Recipe, config["recipe"]),
        rng=context.seed,
        evaluation=evaluation,
        key=config["key"],
        **compare,
    )
    keep_model(context, embedded.model, rows)
    embedded.record.save(context.out / "embedding.json")
    embedded.evidence.save(context.out / BUNDLE)
    return {
        "commitment": embedded.evidence.commitment,
        "scheme": embedded.evidence.name,
        "needs": embedded.evidence.needs.title,
        "digest": embedded.model.digest,
        "architecture": config["architecture"],
        "rows": len(rows),
        **accuracy(embedded.model, evaluation),
        "train_accuracy": float((embedded.model.labels(rows.x) == rows.y).float().mean()),
        **_marks(embedded.record),
    }


def _marks(record: EmbeddingRecord) -> dict[str, float | None]:
    """Return what the marks cost, and how often they are matched with and without the secret."""
    rates = ("match_rate", "unmarked_match_rate", "unmarked_accuracy")
    found: dict[str, float | None] = {}
    for name in rates:
        rate = getattr(record, name)
        found[name] = None if rate is None else rate.value
    return {**found, "unmarked_p_value": record.unmarked_p_value}
