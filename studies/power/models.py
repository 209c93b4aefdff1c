"""Train every model of a setting; finished ones are never trained again.

Several processes may work on one folder: a model under way is marked by a lock file,
and a killed training goes on from its checkpoint once its lock is removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from settings import SETTINGS, Parts, Setting, half, parts

from assay.adapters import TorchModel, open_model, save_model
from assay.data import Dataset
from assay.nets import Network, Recipe, build, predict, train

__all__ = ["Job", "jobs", "opened", "train_all"]


@dataclass(frozen=True)
class Job:
    """One model to train: its file name, how, on what, with which targets."""

    tag: str
    architecture: str
    recipe: Recipe
    seed: int
    role: str
    index: int


def jobs(setting: Setting) -> Iterator[Job]:
    """Yield all models of a setting, those that others depend on first."""
    s = setting
    for k in range(s.models):
        yield Job(f"pool-{k}", s.architecture, s.victim, k, "pool", k)
    for k in range(s.models, s.models + s.extra):
        yield Job(f"extra-{k}", s.other, s.theft, 3000 + k, "pool", k)
    for k in range(s.victims):
        yield Job(f"logit-{k}", s.architecture, s.thief, 5000 + k, "logit", k)
        yield Job(f"label-{k}", s.architecture, s.thief, 6000 + k, "label", k)
        yield Job(f"fine-{k}", s.architecture, s.fine, 7000 + k, "fine", k)
        yield Job(f"theft-{k}", s.other, s.theft, 8000 + k, "theft", k)
        yield Job(f"distil-{k}", s.architecture, s.distil, 9000 + k, "distil", k)
    index = 0
    for architecture, recipe, count in s.independent:
        for _ in range(count):
            yield Job(f"indep-{index}", architecture, recipe, 4000 + index, "indep", index)
            index += 1


def train_all(name: str, folder: Path) -> None:
    """Train what is missing, one model after the other."""
    setting = SETTINGS[name]
    data = parts(setting)
    folder.mkdir(parents=True, exist_ok=True)
    for job in jobs(setting):
        file, lock = folder / f"{job.tag}.safetensors", folder / f"{job.tag}.lock"
        needs = folder / f"pool-{job.index}.safetensors"
        if file.exists() or (job.role in ("logit", "label", "fine", "distil") and not needs.exists()):
            continue
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        try:
            network = _train(job, data, folder)
            right = predict(network, data.evaluation.x).argmax(1) == data.evaluation.y
            accuracy = f"{float(right.float().mean()):.4f}"
            save_model(TorchModel(network), file, {"accuracy": accuracy})
            print(f"{name} {job.tag} {job.architecture} accuracy {accuracy}", flush=True)
        finally:
            lock.unlink()


def _train(job: Job, data: Parts, folder: Path) -> Network:
    pool, k = data.pool, job.index
    network = build(job.architecture, pool.input_shape, pool.num_classes, job.seed)
    rows, targets = pool.subset(half(len(pool), k)), None
    if job.role in ("logit", "label", "fine", "distil"):
        victim = opened(folder, f"pool-{k}").module
        if job.role != "distil":
            rows = data.queries.subset(range(10_000)) if job.role == "fine" else data.queries
        logits = predict(victim, rows.x)
        targets = logits.softmax(1) if job.role in ("logit", "distil") else logits.argmax(1)
        if job.role == "fine":
            network.load_state_dict(victim.state_dict())
    elif job.role == "indep":
        rows = _outside(data, k)
    train(network, rows, job.recipe, targets=targets, rng=job.seed, fit_normalization=job.role != "fine")
    return network


def _outside(data: Parts, index: int) -> Dataset:
    """Return three quarters of the outside rows; every third model saw a random quarter of the pool too."""
    generator = torch.Generator().manual_seed(300 + index)
    rows = torch.randperm(len(data.outside), generator=generator)[: 3 * len(data.outside) // 4]
    own = data.outside.subset(rows)
    if index % 3 != 2:
        return own
    public = torch.randperm(len(data.pool), generator=generator)[: len(data.pool) // 4]
    return own.concat(data.pool.subset(public))


def opened(folder: Path, tag: str) -> TorchModel:
    """Return a trained model."""
    return open_model(folder / f"{tag}.safetensors", name=tag)
