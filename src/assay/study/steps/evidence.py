"""Evidence that an owner keeps back, and evidence that is trained in."""

from __future__ import annotations

from typing import Any

from assay.evidence.dataset_inference import References
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


@step_kind("embed")
def embed_step(context: Context) -> dict[str, Any]:
    """Train a model with evidence inside."""
    config = context.config
    scheme = create(config["scheme"], "evidence", config["options"])
    rows, evaluation = drawn(context, config["rows"]), part(context, config["evaluation"])
    embedded = scheme.embed(
        rows,
        architecture=config["architecture"],
        recipe=configure(Recipe, config["recipe"]),
        rng=context.seed,
        evaluation=evaluation,
        key=config["key"],
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
    }
