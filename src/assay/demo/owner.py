"""What the owner does before any dispute: train a marked victim and register evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.adapters import TorchModel, save_model
from assay.demo.cast import VICTIM
from assay.demo.material import Material, Plan
from assay.evidence import Evidence
from assay.evidence.dataset_inference import DatasetInference, MinGD, train_references
from assay.evidence.watermarks import TriggerSet
from assay.observers import Observer

__all__ = ["prepare"]


def prepare(
    material: Material, plan: Plan, folder: Path, observers: Sequence[Observer] = ()
) -> tuple[TorchModel, dict[str, Evidence]]:
    """Train the victim, register five kinds of evidence and save everything.

    Returns
    -------
    tuple
        The victim and the evidence by name.
    """
    split, seeds = material.split, material.seeds
    split.save(folder / "split")
    embedded = TriggerSet(triggers=24).embed(
        split.private,
        architecture=VICTIM,
        recipe=plan.recipe,
        rng=seeds["training"],
        evaluation=material.evaluation,
        observers=observers,
        key=seeds["key"],  # as with the split: left out where it matters
    )
    victim = embedded.model
    save_model(victim, folder / "victim.safetensors", classes=split.pool.classes)
    embedded.record.save(folder / "embedding.json")
    # One set of reference models serves all four ways of dataset inference.
    references = train_references(
        split.pool,
        plan.references,
        architecture=VICTIM,
        recipe=plan.recipe,
        rng=seeds["references"],
        observers=observers,
    )
    references.save(folder / "references.npz")
    ways = {
        # Rows that tell, one label each: a bet on every answer, and an end as soon as the wealth suffices.
        "labels": DatasetInference(access="labels"),
        # The same with probabilities, all rows at once: more queries, and the strongest test here.
        "scores": DatasetInference(access="scores", decide="permutation"),
        # Distances to the decision boundary, as published: by labels alone, and by the weights.
        "blind-walk": DatasetInference(embedding="blind-walk", keep=plan.walk_rows),
        "mingd": DatasetInference(
            embedding="mingd",
            keep=plan.descent_rows,
            # Three nearest classes, long steps: a hundredth of the work of the published search.
            descent=MinGD(search="linearised", targets=3),
        ),
    }
    evidence = {
        name: way.register(victim, split.private, split.control, references=references, rng=seeds["register"])
        for name, way in ways.items()
    }
    evidence["trigger-set"] = embedded.evidence
    for name, secret in evidence.items():
        secret.save(folder / "evidence" / name)
    return victim, evidence
