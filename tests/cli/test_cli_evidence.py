from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from command import RECIPE, TRAINING

from assay.adapters import open_model
from assay.data import Dataset, Split, load_data
from assay.evidence import load_evidence


def test_split_is_secret_committed_and_complete(assay):
    done = assay("split", "--data", "iris", "--out", "a", "--private-share", "0.4", "--json")
    assert done.code == 0
    split = Split.load("a")
    assert split.commitment == done.json["commitment"]
    assert done.json["secret"] is True
    private, control = Dataset.load("a/private.npz"), Dataset.load("a/control.npz")
    assert private.x.equal(split.private.x)
    assert control.x.equal(split.control.x)
    assert len(private) == done.json["private_rows"] == round(0.4 * len(split.pool))
    assert stat.S_IMODE(Path("a/split.json").stat().st_mode) == 0o600
    assert "publish" in assay("split", "--data", "iris", "--out", "b").out
    assert not Split.load("b").coin.equal(split.coin)


def test_no_seed_of_the_environment_makes_the_secret_guessable(assay):
    for out in ("a", "b"):
        assert assay("split", "--data", "iris", "--out", out, env={"ASSAY_SEED": "1"}).code == 0
    assert not Split.load("a").coin.equal(Split.load("b").coin)
    for out in ("c", "d"):
        assay("split", "--data", "iris", "--out", out, "--insecure-seed", "1", "--stratify")
    assert Split.load("c").commitment == Split.load("d").commitment
    assert Split.load("c").stratified


def test_a_trained_model_opens_without_further_words(assay):
    done = assay(
        *("train", "--data", "iris@train", "--evaluation", "iris@test", "--out", "m.safetensors"),
        *("--architecture", "mlp-16", "--epochs", "40", "--recipe", "lr=0.01", "--json"),
    )
    assert done.code == 0, done.err
    model = open_model("m.safetensors")
    assert model.digest == done.json["digest"]
    test = load_data("iris", split="test")
    correct = (model.labels(test.x) == test.y).float().mean()
    assert done.json["accuracy"]["value"] == pytest.approx(float(correct))
    assert correct > 0.8
    assert "epochs" in assay("train", "--data", "iris", "--out", "n.safetensors", "--epochs", "1").out


def test_registration_from_files_and_with_stored_references(assay, world):
    private, control = world / "split/private.npz", world / "split/control.npz"
    command = [
        *("register", "--victim", world / "victim.safetensors", "--set", "keep=150"),
        *("--set", f"recipe={RECIPE}", "--references", world / "references.npz", "--seed", "2"),
    ]
    done = assay(*command, "--private", private, "--control", control, "--out", "evidence", "--json")
    assert done.code == 0, done.err
    ours, theirs = load_evidence("evidence"), load_evidence(world / "evidence")
    assert ours.commitment == done.json["commitment"]
    assert done.json["victim"] == ours.facts["victim"] == theirs.facts["victim"]
    # The same answers choose the same rows; only the nonce differs.
    assert {n: t.tolist() for n, t in ours.tensors.items()} == {
        n: t.tolist() for n, t in theirs.tensors.items()
    }
    assert ours.commitment != theirs.commitment
    text = assay(*command, "--split", world / "split", "--out", "again").out
    assert "publish before any dispute" in text


def test_references_do_not_depend_on_the_secret(assay, world):
    pool = Dataset.load(world / "split/pool.npz")
    for seed in (11, 12):
        pool.save(f"{seed}/pool.npz")
        assay("split", "--data", f"{seed}/pool.npz", "--out", f"split-{seed}", "--insecure-seed", seed)
        done = assay(
            *("register", "--victim", world / "victim.safetensors", "--split", f"split-{seed}"),
            *("--set", "references=2", "--set", 'recipe={"epochs": 1}', "--set", "keep=50"),
            *("--references", f"refs-{seed}.npz", "--out", f"evidence-{seed}"),
        )
        assert done.code == 0, done.err
    with np.load("refs-11.npz") as a, np.load("refs-12.npz") as b:
        assert all(np.array_equal(a[name], b[name]) for name in ("rows", "members", "margin"))


def test_a_marked_model_its_evidence_and_what_it_costs(assay):
    done = assay(
        *("embed", "--data", "iris@train", "--evaluation", "iris@test", "--out", "marked"),
        *("--architecture", "mlp-32", "--set", "triggers=20", *TRAINING, "--json"),
        *("--insecure-key", "5"),  # some keys ask for what an iris model does anyway
    )
    assert done.code == 0, done.err
    assert sorted(p.name for p in Path("marked").iterdir()) == [
        "embedding.json",
        "evidence",
        "model.safetensors",
        "unmarked.safetensors",
    ]
    assert load_evidence("marked/evidence").commitment == done.json["commitment"]
    with Path("marked/embedding.json").open() as file:
        record = json.load(file)
    cost = record["unmarked_accuracy"]["value"] - record["accuracy"]["value"]
    assert done.json["accuracy_cost"] == pytest.approx(cost)
    command = ["verify", "--evidence", "marked/evidence", "--json", "--suspect"]
    assert assay(*command, "marked/model.safetensors").code == 10
    assert assay(*command, "marked/unmarked.safetensors").code == 0


def test_a_mark_is_as_secret_as_the_system_makes_it(assay):
    command = [
        *("embed", "--data", "iris", "--architecture", "mlp-8", "--epochs", "1", "--set", "triggers=10"),
        *("--no-compare", "--json"),
    ]
    free = [assay(*command, "--out", out).json["commitment"] for out in ("a", "b")]
    fixed = [assay(*command, "--insecure-key", "5", "--out", out).json["commitment"] for out in ("c", "d")]
    assert free[0] != free[1]
    assert fixed[0] == fixed[1]
    assert "commitment" not in assay(*command[:-1], "--quiet", "--out", "e").out
