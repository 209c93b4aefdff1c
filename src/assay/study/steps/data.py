"""A data set, shuffled once and divided into disjoint parts; and rows drawn from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from assay.data import Dataset, load_data
from assay.errors import InvalidInput
from assay.study.context import Context
from assay.study.step import step_kind

__all__ = ["data_step", "drawn", "part"]

_FILE = "data.safetensors"
_BYTE = 255.0


@step_kind("data")
def data_step(context: Context) -> dict[str, Any]:
    """Load a data set and cut disjoint parts from it, in an order drawn by its seed."""
    config = context.config
    parts: dict[str, int] = config["parts"]
    splits = config["split"].split("+") if config.get("split") else [None]
    first, *others = (load_data(config["source"], split=name, rng=context.seed) for name in splits)
    data = first.concat(*others) if others else first
    if config.get("limit") is not None:
        data = data.subset(range(min(len(data), config["limit"])))
    wanted = sum(parts.values())
    if wanted > len(data):
        msg = f"{data.name} has {len(data):,} rows, the parts need {wanted:,}; make them smaller"
        raise InvalidInput(msg)
    if config.get("pooled") is not None:
        small = nn.functional.avg_pool2d(data.x, config["pooled"])
        data = Dataset(small, data.y, data.classes, data.value_range, data.name)
    order = torch.from_numpy(np.random.default_rng(context.seed).permutation(len(data)))
    tensors: dict[str, torch.Tensor] = {}
    start = 0
    for name, rows in parts.items():
        found = data.subset(order[start : start + rows])
        tensors[f"{name}.x"] = _compact(found.x)
        tensors[f"{name}.y"] = found.y
        start += rows
    about = {
        "name": data.name,
        "classes": json.dumps(data.classes),
        "value_range": json.dumps([str(v) for v in data.value_range]),
    }
    save_file(tensors, context.out / _FILE, about)
    return {
        "name": data.name,
        "rows": len(data),
        "digest": data.digest,
        "input_shape": list(data.input_shape),
        "classes": list(data.classes),
        "parts": parts,
    }


def part(context: Context, name: str) -> Dataset:
    """Return one part of the step's input ``data``, kept in memory for the steps to come."""
    return context.remember("data", name, partial(_read, name=name))


def drawn(context: Context, draws: Sequence[Mapping[str, Any]], limit: int | None = None) -> Dataset:
    """Return rows of parts: for each draw a random share, or what is outside of it.

    Parameters
    ----------
    context
        With an input ``data``.
    draws
        Each names a ``part``, a ``share`` of it, the ``seed`` of that share, and the ``side``:
        ``"in"`` for the share itself, ``"out"`` for the rest. Their rows are concatenated.
    limit
        Only the first so many rows.
    """
    found = []
    for draw in draws:
        rows = part(context, draw["part"])
        if draw.get("share", 1.0) < 1.0:
            inside = share_of(len(rows), draw["share"], draw["seed"])
            rows = rows.subset(inside if draw.get("side", "in") == "in" else ~inside)
        found.append(rows)
    data = found[0].concat(*found[1:]) if len(found) > 1 else found[0]
    return data if limit is None or limit >= len(data) else data.subset(range(limit))


def share_of(rows: int, share: float, seed: int) -> torch.Tensor:
    """Return a uniformly random ``share`` of rows as a mask, bool ``[rows]``."""
    inside = torch.zeros(rows, dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    inside[torch.randperm(rows, generator=generator)[: round(share * rows)]] = True
    return inside


def _read(folder: Path, name: str) -> Dataset:
    with safe_open(folder / _FILE, framework="pt") as file:
        about = file.metadata()
        x, y = file.get_tensor(f"{name}.x"), file.get_tensor(f"{name}.y")
    low, high = (float(v) for v in json.loads(about["value_range"]))
    if x.dtype == torch.uint8:
        x = x.float() / _BYTE
    return Dataset(x, y, tuple(json.loads(about["classes"])), (low, high), f"{about['name']} {name}")


def _compact(x: torch.Tensor) -> torch.Tensor:
    """Return bytes where ``x`` is bytes divided by 255, at a quarter of the size; else ``x``."""
    if x.numel() and float(x.min()) >= 0 and float(x.max()) <= 1:
        scaled = (x * _BYTE).round()
        if torch.equal(scaled / _BYTE, x):
            return scaled.to(torch.uint8)
    return x.contiguous()
