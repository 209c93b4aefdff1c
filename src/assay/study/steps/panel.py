"""Error rates: models that are independent of every secret, tested on true and on fresh secrets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from assay.adapters import open_model, restrict
from assay.evidence import Evidence, load_evidence
from assay.model import Access, Model
from assay.study.context import Context
from assay.study.step import step_kind
from assay.study.steps.evidence import BUNDLE
from assay.study.steps.models import MODEL

__all__ = ["ROWS", "Remembering", "panel_step"]

ROWS = "rows.json"
TRUE_SECRET = -1


@dataclass(eq=False)
class Remembering:
    """A model whose answers are kept: many verifications about the same rows cost little more than one.

    The meter above it counts every query as if it had been asked.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = Remembering(TorchModel(build("mlp-4", (3,), 2)))
    >>> x = torch.rand(5, 3)
    >>> torch.equal(model.scores(x), model.scores(x)), model.asked
    (True, 5)
    """

    model: Model
    asked: int = 0
    answers: dict[bytes, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.name, self.digest, self.access = self.model.name, self.model.digest, self.model.access
        self.input_shape, self.num_classes = tuple(self.model.input_shape), self.model.num_classes

    def scores(self, x: Tensor) -> Tensor:
        """Return class probabilities, asking only about rows that are new."""
        keys = [row.numpy().tobytes() for row in x.contiguous()]
        new = [i for i, key in enumerate(keys) if key not in self.answers]
        if new:
            self.asked += len(new)
            self.answers.update(zip((keys[i] for i in new), self.model.scores(x[new]), strict=True))
        return torch.stack([self.answers[key] for key in keys])

    def labels(self, x: Tensor) -> Tensor:
        """Return predicted classes."""
        return self.scores(x).argmax(1)

    def embeddings(self, x: Tensor) -> Tensor:
        """Return features; these are not kept."""
        return self.model.embeddings(x)

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.model.module


@step_kind("panel")
def panel_step(context: Context) -> dict[str, Any]:
    """Verify every model of a panel against the true secret and against secrets drawn afresh.

    With ``redraws``, each of so many further secrets meets one model, in turn: trials that
    share neither the secret nor, mostly, the model.
    """
    config = context.config
    evidence = load_evidence(context.open("evidence")[0] / BUNDLE)
    access = Access.parse(config["access"])
    models = []
    for folder, manifest in context.open_all("models"):
        model = open_model(folder / MODEL, device=context.device)
        models.append((manifest, restrict(Remembering(model) if _asked_only(evidence) else model, access)))
    rows: list[dict[str, Any]] = []

    def test(kind: str, index: int, secret: int, one: Evidence) -> None:
        manifest, model = models[index]
        verdict = one.verify(model, alpha=config["alpha"], budget=config.get("budget"), rng=context.seed)
        rows.append(
            {
                "kind": kind,
                "model": index,
                "architecture": manifest.facts["architecture"],
                "secret": secret,
                "stolen": verdict.stolen,
                "p_value": verdict.p_value,
                "queries": verdict.queries,
            }
        )

    secrets = [evidence, *evidence.decoys(config["secrets"], rng=context.seed + 1)]
    for secret, one in enumerate(secrets, TRUE_SECRET):
        for index in range(len(models)):
            test("independent", index, secret, one)
    for trial, one in enumerate(evidence.decoys(config["redraws"], rng=context.seed + 2)):
        test("redraw", trial % len(models), config["secrets"] + trial, one)
    (context.out / ROWS).write_text(json.dumps(rows), encoding="utf-8")
    return {
        "models": len(models),
        "verdicts": len(rows),
        "stolen": sum(bool(row["stolen"]) for row in rows),
        "alpha": config["alpha"],
    }


def _asked_only(evidence: Evidence) -> bool:
    """Whether the test asks for labels or scores, not for the network itself."""
    return evidence.needs in Access.SCORES
