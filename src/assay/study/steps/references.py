"""What reference models say about the rows of a pool, model by model, and all of them together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from assay.evidence.dataset_inference import References
from assay.evidence.dataset_inference.references import margins, row_digests
from assay.study.context import Context
from assay.study.step import step_kind
from assay.study.steps.data import part, share_of
from assay.study.steps.models import network_of, opened

__all__ = ["margins_step", "references_step"]

_FILE = "margins.safetensors"


@step_kind("margins")
def margins_step(context: Context) -> dict[str, Any]:
    """Ask one reference, or a copy of one, about every row of the pool."""
    draw = context.config["draw"]
    pool = part(context, draw["part"])
    margin = margins(opened(context, "model").scores(pool.x), pool.y)
    member = share_of(len(pool), draw["share"], draw["seed"])
    save_file({"margin": margin.contiguous(), "member": member}, context.out / _FILE)
    inside, outside = float(margin[member].mean()), float(margin[~member].mean())
    return {"member_margin": inside, "other_margin": outside}


@step_kind("references")
def references_step(context: Context) -> dict[str, Any]:
    """Put the references of a pool together."""
    pool = part(context, context.config["part"])
    found = [load_file(folder / _FILE) for folder, _ in context.open_all("margins")]
    members = torch.stack([f["member"] for f in found]).numpy()
    margin = torch.stack([f["margin"] for f in found]).numpy().astype(np.float32)
    networks = tuple(network_of(folder, context.device) for folder, _ in context.open_all("models"))
    kinds = tuple(context.config["kinds"])
    References(row_digests(pool), members, margin, networks, kinds).save(context.out / "references.npz")
    return {"references": len(found)}
