from __future__ import annotations

import json

import pytest

from assay.removal import RemovalRecord


def test_a_washed_model_is_written_and_opens_again(assay, world):
    before = (world / "victim.safetensors").read_bytes()
    done = assay(
        *("remove", "--model", world / "victim.safetensors", "--attack", "fine-pruning"),
        *("--data", "digits@train:100", "--evaluation", "digits@test:100"),
        *("--set", "share=0.25", "--set", "epochs=1", "--out", "washed", "--json"),
    )
    assert (done.code, done.err) == (0, "")
    record = RemovalRecord.from_dict(done.json)
    assert record == RemovalRecord.load("washed/removal.json")
    assert (record.removal, record.rows, record.parameters["share"]) == ("fine-pruning", 100, 0.25)
    assert record.fidelity.low < record.fidelity.value < record.fidelity.high
    assert (world / "victim.safetensors").read_bytes() == before
    again = assay("remove", "--model", "washed/model.safetensors", "--attack", "weight-noise", "--json")
    assert (again.code, again.json["model"]) == (0, record.washed)


def test_the_table_shows_worth_and_the_way_to_more(assay, world):
    command = ["remove", "--model", world / "victim.safetensors", "--attack", "weight-quantisation"]
    done = assay(*command, "--evaluation", "digits@test:30")
    assert done.code == 0
    for word in ("accuracy before", "agrees with before", "95% interval"):
        assert word in done.out
    assert "--evaluation" in assay(*command).out


def test_what_an_attack_says_of_itself_is_shown(assay, world):
    command = ["remove", "--model", world / "victim.safetensors", "--attack", "query-filter"]
    done = assay(*command, "--data", "digits@train:60", "--evaluation", "digits@test:30")
    assert done.code == 0, done.err
    assert "evaded" in done.out


def test_a_model_behind_a_layer_is_written_and_opens_again(assay, world):
    command = ["remove", "--model", world / "victim.safetensors", "--attack", "input-preprocessing"]
    done = assay(*command, "--set", "kind=median", "--out", "washed", "--json")
    assert (done.code, done.err) == (0, "")
    again = assay("remove", "--model", "washed/model.safetensors", "--attack", "feature-shuffling", "--json")
    assert (again.code, again.json["model"]) == (0, done.json["washed"])


def test_results_are_replaced_only_by_force(assay, world, tmp_path):
    command = [
        *("remove", "--model", world / "victim.safetensors", "--attack", "magnitude-pruning"),
        *("--out", "washed", "--quiet"),
    ]
    assert assay(*command).code == 0
    refused = assay(*command, "--set", "share=0.1")
    assert refused.code == 2
    assert "--force" in refused.err
    assert assay(*command, "--set", "share=0.1", "--force").code == 0
    found = json.loads((tmp_path / "washed/removal.json").read_text())
    assert found["parameters"]["share"] == 0.1


@pytest.mark.parametrize(
    ("more", "code", "hint"),
    [
        (["--attack", "fine-tunning", "--data", "digits"], 2, "did you mean 'fine-tuning'?"),
        (["--data", "iris"], 2, "shape"),
        ([], 2, "needs data"),
        (["--attack", "weight-noise", "--set", "noise=-1", "--out", "washed"], 2, "noise"),
        (["--attack", "weight-noise", "--set", "epochs=1", "--out", "washed"], 2, "needs data"),
        (["--access", "scores", "--data", "digits@train:20", "--out", "washed"], 3, "needs weights"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(assay, world, tmp_path, more, code, hint):
    done = assay("remove", "--model", world / "victim.safetensors", *more)
    assert (done.code, done.out) == (code, "")
    assert hint in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_removals_are_listed_and_explained(assay):
    names = {e["name"] for e in assay("list", "removals", "--json").json["removals"]}
    assert {"fine-tuning", "fine-pruning", "distillation", "weight-noise"} <= names
    found = assay("list", "removals", "fine-tuning", "--json").json
    assert found["kind"] == "removal"
    assert found["needs"] == "weights"
    assert all(p["documentation"] for p in found["parameters"])
