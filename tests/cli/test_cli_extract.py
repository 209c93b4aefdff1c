from __future__ import annotations

import json

from assay.extraction import ExtractionRecord

QUICK = ["--set", "epochs=3", "--set", "architecture=mlp-16"]


def test_extraction_writes_a_copy_that_opens_and_measures_it(assay, world):
    done = assay(
        *("extract", "--victim", world / "victim.safetensors", "--pool", "digits@train:200"),
        *("--evaluation", "digits@test:100", "--budget", "150", "--price", "0.01", "--curve", "50,100"),
        *("--set", "epochs=8", "--out", "theft", "--json"),
    )
    assert (done.code, done.err) == (0, "")
    record = ExtractionRecord.from_dict(done.json)
    assert record == ExtractionRecord.load("theft/extraction.json")
    assert record.cost.queries == 150
    assert record.cost.dollars == 1.5
    assert [p.queries for p in record.curve] == [50, 100, 150]
    assert record.fidelity.low < record.fidelity.value < record.fidelity.high
    again = assay(
        *("extract", "--victim", "theft/surrogate.safetensors", "--pool", "digits@test:20"),
        *("--attack", "source-copy", "--json"),
    )
    assert again.json["victim"] == record.surrogate


def test_the_table_shows_worth_cost_and_the_way_to_more(assay, world):
    command = ["extract", "--victim", world / "victim.safetensors", "--pool", "digits@train:40", *QUICK]
    done = assay(*command, "--evaluation", "digits@test:30", "--curve", "20", "--price", "0.5")
    assert done.code == 0
    for word in ("fidelity", "95% interval", "queries", "20.00", "Curve"):
        assert word in done.out
    assert "--evaluation" in assay(*command).out


def test_a_journal_lets_a_second_run_ask_nothing(assay, world):
    command = [
        *("extract", "--victim", world / "victim.safetensors", "--pool", "digits@train:40", *QUICK),
        *("--journal", "answers.jsonl", "--json"),
    ]
    first, second = assay(*command).json, assay(*command).json
    assert (first["cost"]["replayed"], second["cost"]["replayed"]) == (0, 40)
    assert first["surrogate"] == second["surrogate"]


def test_force_replaces_results_and_nothing_else(assay, world, tmp_path):
    command = [
        *("extract", "--victim", world / "victim.safetensors", "--pool", "digits@train:40", *QUICK),
        *("--out", "theft", "--quiet"),
    ]
    assert assay(*command).code == 0
    (tmp_path / "theft/mine.txt").write_text("keep me")
    refused = assay(*command, "--seed", "1")
    assert refused.code == 2
    assert "--force" in refused.err
    old = json.loads((tmp_path / "theft/extraction.json").read_text())
    assert old["seed"] == 0
    assert assay(*command, "--seed", "1", "--force").code == 0
    assert json.loads((tmp_path / "theft/extraction.json").read_text())["seed"] == 1
    assert (tmp_path / "theft/mine.txt").read_text() == "keep me"
    assert [p.name for p in tmp_path.iterdir()] == ["theft"]
