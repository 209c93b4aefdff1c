from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import RECIPE, TRAINING, run

from assay.data import Dataset, load_data

sys.path.append(str(Path(__file__).parents[1] / "adapters"))  # its server is served to suspects here


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    names = [n for n in os.environ if n.startswith("ASSAY_")]
    for name in [*names, "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def assay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A split, a victim, an independent model, evidence: made by the verbs themselves."""
    folder = tmp_path_factory.mktemp("world")
    # A third of the labels are wrong, so that a small network shows soon what it has learnt by heart.
    digits = load_data("digits", limit=400)
    y = digits.y.numpy().copy()
    wrong = np.random.default_rng(7)
    y[:130] = wrong.integers(10, size=130)
    Dataset(digits.x, torch.from_numpy(y), digits.classes, digits.value_range).save(folder / "rows.npz")
    commands = [
        ["split", "--data", folder / "rows.npz", "--out", folder / "split", "--insecure-seed", 1],
        ["train", "--data", folder / "split/private.npz", "--out", folder / "victim.safetensors"],
        ["train", "--data", folder / "split/control.npz", "--out", folder / "other.safetensors"],
    ]
    for command in commands:
        extra = ["--architecture", "mlp-64", *TRAINING] if command[0] == "train" else []
        done = run(*command, *extra, "--quiet")
        assert (done.code, done.out, done.err) == (0, "", "")
    done = run(
        "register",
        *("--victim", folder / "victim.safetensors", "--split", folder / "split", "--seed", 2),
        *("--set", "references=8", "--set", "keep=150", "--set", f"recipe={RECIPE}"),
        *("--out", folder / "evidence", "--references", folder / "references.npz", "--json"),
    )
    assert done.code == 0, done.err
    assert len(done.json["commitment"]) == 64
    return folder
