"""Evidence that is trained in or put into answers, from the study file to the rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from assay.data import load_data
from assay.errors import InvalidInput
from assay.study import RunFolder, run_study
from assay.study.executors import SerialExecutor
from assay.study.file import load_study, parse_study
from assay.study.grid import plan_study
from assay.study.mark_summary import mark_table, outcome_table

STUDY = Path(__file__).parents[2] / "studies" / "watermarks.toml"
SLICE = """\
[study]
title = "Marks"
seeds = 1
alpha = 0.05

[data.d]
source = "digits"
parts = { pool = 400, queries = 300, labelled = 60, outside = 80, evaluation = 150 }

[recipe]
short = { epochs = 40, batch_size = 32, optimizer = "adam", lr = 5e-3, weight_decay = 0.0 }

[victim.v]
data = "d"
private = 0.9
architecture = "mlp-48"
recipe = "short"
access = "scores"

[evidence.marked]
scheme = "trigger-set"
unmarked = true
options = { triggers = 40 }

[evidence.plain]
scheme = "trigger-set"
options = { triggers = 8 }

[evidence.dawn]
scheme = "dawn"
options = { rate = 0.1 }

[extraction.copy]
attack = "source-copy"

[extraction.labels]
attack = "label-query"
options = { architecture = "mlp-48", training = "short" }

[extraction.twice]
chain = ["labels", "labels"]

[removal.noise]
removal = "weight-noise"
options = { noise = 3.0 }

[verification.test]
access = "scores"
whole = true

[panel.others]
secrets = 1

[[panel.others.models]]
architecture = "mlp-8"
recipe = "short"
count = 2

[grid]
removals = ["none", "noise"]
evidence = ["marked", "dawn"]
extractions = ["copy", "labels"]
"""


def plan_of(text=SLICE, *changes):
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return plan_study(parse_study(text))


def steps(plan, kind):
    return [step for step in plan.steps if step.kind == kind]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    text = SLICE.replace('access = "scores"\n\n[evidence', 'access = "weights"\n\n[evidence')
    with SerialExecutor() as executor:
        return run_study(parse_study(text), tmp_path_factory.mktemp("marks"), executor=executor)


def weights(text=SLICE):
    return text.replace('access = "scores"\n\n[evidence', 'access = "weights"\n\n[evidence')


def test_unmarked_models_are_trained_only_where_they_are_asked_for():
    plan = plan_of(weights(), ('evidence = ["marked", "dawn"]', 'evidence = ["marked", "plain"]'))
    assert [step.config.get("unmarked") for step in steps(plan, "embed")] == [True, None]


def test_those_who_ask_a_service_are_answered_with_its_marks_and_nobody_else():
    plan = plan_of(weights(), ('["copy", "labels"]', '["copy", "labels", "twice"]'))
    worn = {step.label: "wears" in step.config for step in steps(plan, "extract")}
    served = {label: mark for label, mark in worn.items() if "with marked" not in label}
    assert sorted(served.values()) == [False, False, True]  # the file, the copy of a copy, the answers
    assert not any(mark for label, mark in worn.items() if "with marked" in label)
    (bundle,) = steps(plan, "register")
    assert bundle.config["private"]["part"] == "queries"
    (theft,) = (step for step in steps(plan, "extract") if "wears" in step.config)
    key = bundle.config["options"]["key"]
    assert theft.config["wears"]["options"]["key"] == key
    assert len(key) == 32


def test_keys_of_a_service_differ_from_repetition_to_repetition():
    plan = plan_of(weights(), ("seeds = 1", "seeds = 3"))
    keys = {step.config["options"]["key"] for step in steps(plan, "register")}
    assert len(keys) == 3


def test_answered_rows_must_be_a_part():
    with pytest.raises(InvalidInput, match="querys"):
        plan_of(weights(), ('scheme = "dawn"\n', 'scheme = "dawn"\nanswered = "querys"\n'))


@pytest.mark.parametrize(("pooled", "said"), [(3, "cannot be pooled"), (1, "greater than or equal to 2")])
def test_squares_must_divide_the_images(pooled, said):
    with pytest.raises(InvalidInput, match=said):
        plan_of(weights(), ('source = "digits"', f'source = "digits"\npooled = {pooled}'))


def test_tables_cannot_be_pooled():
    with pytest.raises(InvalidInput, match="cannot be pooled"):
        plan_of(
            weights(),
            ('source = "digits"', 'source = "iris"\npooled = 2'),
            (
                "pool = 400, queries = 300, labelled = 60, outside = 80, evaluation = 150",
                "pool = 60, queries = 30, outside = 20, evaluation = 20",
            ),
        )


def test_pooled_images_are_means_of_squares(tmp_path):
    text = weights().replace("[data.d]", "[data.d]\npooled = 2").replace("epochs = 40", "epochs = 1")
    text = text.replace('["marked", "dawn"]', "[]").replace('removals = ["none", "noise"]', "panels = []")
    with SerialExecutor() as executor:
        done = run_study(parse_study(text), tmp_path, executor=executor)
    (data,) = (row for row in done.tables.provenance if row["kind"] == "data")
    assert data["config"]["pooled"] == 2
    folder, manifest = RunFolder(tmp_path).store.open(data["key"])
    assert manifest.facts["input_shape"] == [1, 4, 4]
    with safe_open(folder / "data.safetensors", framework="pt") as file:
        small = file.get_tensor("evaluation.x").double()
    whole = load_data("digits").x.double()
    means = {tuple(row) for row in whole.reshape(-1, 4, 2, 4, 2).mean((2, 4)).flatten(1).float().tolist()}
    assert {tuple(row) for row in small.flatten(1).float().tolist()} <= means


def test_asking_everything_is_part_of_a_verification_only_where_it_is_asked_for():
    plan, less = plan_of(weights()), plan_of(weights(), ("whole = true\n", ""))
    assert all(step.config["whole"] for step in steps(plan, "verify"))
    assert not any("whole" in step.config for step in steps(less, "verify"))


def test_a_fresh_network_of_the_same_kind_is_an_architecture():
    more = '[removal.fresh]\nremoval = "distillation"\noptions = { epochs = 1 }\n'
    assert plan_of(weights() + more, ('["none", "noise"]', '["none", "fresh"]')).seconds > 0


def test_what_marks_cost_and_who_carries_them(ran):
    assert ran.run.complete, ran.tables.about["failed"]
    models = [row for row in ran.tables.rows("models") if row["evidence"] == "marked"]
    (victim,) = (row for row in models if row["role"] == "victim")
    assert victim["match_rate"] > 0.5 > victim["unmarked_match_rate"]
    assert victim["unmarked_p_value"] > 0.05
    assert 0.5 < victim["unmarked_accuracy"] <= 1
    found = {
        (r["evidence"], r["extraction"]): r for r in ran.tables.rows("verdicts") if r["removal"] == "none"
    }
    assert found["marked", "copy"]["match_rate"] == pytest.approx(victim["match_rate"])
    # Everything is asked once the verdict is there, which spent less.
    assert found["marked", "copy"]["stolen"]
    assert found["marked", "copy"]["queries"] < 40
    assert found["marked", "copy"]["p_whole"] < found["marked", "copy"]["p_value"]
    assert not found["marked", "labels"]["stolen"]
    assert found["dawn", "labels"]["stolen"]
    assert not found["dawn", "copy"]["stolen"]
    (row,) = mark_table(ran.tables.rows("models"), ran.tables.rows("verdicts"))
    assert row["cost"] == pytest.approx(victim["unmarked_accuracy"] - victim["accuracy"])


def test_a_removal_that_destroys_the_copy_is_no_win(ran):
    rows = outcome_table(ran.tables.rows("verdicts"), ran.tables.rows("removals"))
    outcome = {(r["evidence"], r["extraction"], r["removal"]): r["outcome"] for r in rows}
    assert outcome["marked", "copy", "none"] == "verified"
    assert outcome["marked", "labels", "none"] == "absent"
    assert outcome["marked", "labels", "noise"] == "absent"
    assert outcome["marked", "copy", "noise"] in ("spoilt", "verified")
    assert all(r["won"] == 0 for r in rows)


def test_independent_models_are_tested_against_marks_of_answers_too(ran):
    rows = ran.tables.rows("panel")
    assert {row["evidence"] for row in rows} == {"marked", "dawn"}
    assert {row["secret"] for row in rows} == {-1, 0}


def test_rules_of_outcomes():
    def verdict(removal, seed, *, stolen):
        return {"extraction": "e", "removal": removal, "seed": seed, "stolen": stolen, "p_value": 0.5}

    def removal(seed, after):
        row = {"extraction": "e", "removal": "r", "seed": seed, "accuracy_before": 0.9}
        return {**row, "accuracy": after}

    verdicts = [verdict("none", seed, stolen=seed < 4) for seed in range(5)]
    verdicts += [verdict("r", seed, stolen=seed == 0) for seed in range(5)]
    removals = [removal(0, 0.9), removal(1, 0.85), removal(2, 0.84), removal(3, None), removal(4, 0.9)]
    row = outcome_table(verdicts, removals)[1]
    # A loss of exactly 5 points is a win, and so is one that nobody measured.
    assert [row[name] for name in ("verified", "spoilt", "won", "absent")] == [1, 1, 2, 1]
    assert row["outcome"] == "won"
    assert outcome_table(verdicts, removals, most_lost=0.01)[1]["spoilt"] == 2
    tie = outcome_table(verdicts[:2] + verdicts[5:7], removals[:2])[1]
    assert tie["outcome"] == "won"


def test_a_model_that_stands_twice_counts_once():
    model = {"role": "victim", "evidence": "e", "match_rate": 1.0, "accuracy": 0.9, "step": "a" * 64}
    (row,) = mark_table([model, model, {"role": "independent", "accuracy": 0.9}], [])
    assert row["seeds"] == 1
    assert row["cost"] is None
    assert row["copies"] == {}


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_every_scheme_of_the_study_of_watermarks_is_registered(preset):
    file = load_study(STUDY, preset).file
    schemes = {table.scheme for table in file.evidence.values()}
    assert schemes >= {"entangled", "badnets", "adi", "content", "noise", "unrelated", "frontier", "margin"}
    assert schemes >= {"radioactive", "trigger-set", "gradient-matching", "dawn"}
    assert {"refit", "refit-all"} <= set(file.grid.removals)


@pytest.mark.slow
def test_a_slice_of_the_study_of_watermarks(tmp_path):
    text = STUDY.read_text(encoding="utf-8").replace(
        "[preset.small]",
        '[preset.slice.grid]\nvictims = ["digits"]\nevidence = ["badnets", "dawn"]\npanels = []\n'
        'removals = ["none", "refit", "magnitude-pruning"]\n'
        "[preset.slice.study]\nseeds = 1\n\n[preset.small]",
        1,
    )
    study = parse_study(text, "slice", "slice")
    with SerialExecutor() as executor:
        done = run_study(study, tmp_path, executor=executor)
    assert done.run.complete, done.tables.about["failed"]
    found = {(r["evidence"], r["extraction"], r["removal"]): r for r in done.tables.rows("verdicts")}
    assert found["badnets", "source-copy", "none"]["stolen"]
    assert not found["badnets", "same", "none"]["stolen"]
    assert not found["dawn", "source-copy", "none"]["stolen"]
