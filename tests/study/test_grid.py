from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from little import PATH, changed, plan_of, study_of

from assay.adapters import TorchModel, save_model
from assay.errors import InvalidInput
from assay.nets import build
from assay.study import grid
from assay.study.file import load_study, parse_study
from assay.study.grid import plan_study
from assay.study.plan import Plan
from assay.study.step import topological

EXAMPLE = Path(__file__).parents[2] / "studies/dataset-inference.toml"
GRID = "[grid]\n"
TWO = ("alpha = 0.05", "alpha = 0.05\nseeds = 2")


def kinds(plan):
    return dict(Counter(step.kind for step in plan.steps))


def cells(plan, table):
    return [cell.row for cell in plan.cells if cell.table == table]


def steps(plan, kind):
    return [step for step in plan.steps if step.kind == kind]


def test_what_the_little_study_comes_to():
    plan = plan_of()
    # Three thefts, "twice" begins with "labels"; each copy is washed once.
    assert kinds(plan) == {
        "data": 1,
        "train": 3 + 2,  # the victim, two references; two independent models
        "margins": 2,
        "references": 1,
        "register": 1,
        "extract": 3,
        "remove": 3,
        "verify": 6,
        "panel": 1,
    }
    assert len(cells(plan, "extractions")) == 3
    assert len(cells(plan, "removals")) == 3
    assert len(cells(plan, "verdicts")) == 6
    assert {row["removal"] for row in cells(plan, "verdicts")} == {"none", "noise"}
    assert len(cells(plan, "panel")) == 1
    assert Counter(row["role"] for row in cells(plan, "models")) == {
        "victim": 1,
        "reference": 2,
        "independent": 2,
    }
    assert len({step.key for step in plan.steps}) == len(plan.steps)
    assert topological(plan.steps)
    assert plan.seconds == sum(step.seconds for step in plan.steps)
    assert 0 < plan.longest <= plan.seconds


def test_a_reference_is_the_victim_of_another_seed():
    one, two = plan_of(), plan_of(TWO)
    # The second seed's victim was trained already, as a reference of the first.
    assert kinds(two)["train"] == kinds(one)["train"]
    assert {s.key for s in one.steps} < {s.key for s in two.steps}
    victims = [cell.key for cell in two.cells if cell.table == "models" and cell.row["role"] == "victim"]
    references = {
        cell.key for cell in two.cells if cell.table == "models" and cell.row["role"] == "reference"
    }
    assert victims[1] in references
    for register in steps(two, "register"):
        asked = {m for step in two.steps if step.key == register.inputs["references"] for m in step.parents}
        models = {two.by_key[m].inputs["model"] for m in asked if two.by_key[m].kind == "margins"}
        assert register.inputs["victim"] not in models  # none of its own references is the victim


def test_victims_that_differ_in_name_only_share_everything_but_their_cells():
    same = '[victim.b]\ndata = "iris"\narchitecture = "mlp-8"\nrecipe = "short"\n'
    one, two = plan_of(), plan_of(extra=same)
    assert {s.key for s in one.steps} == {s.key for s in two.steps}
    assert len(two.cells) == 2 * len(one.cells)


def test_each_link_of_a_chain_steals_the_copy_of_the_one_before():
    plan = plan_of()
    first, second = (s for s in steps(plan, "extract") if s.config["attack"] == "label-query")
    assert plan.by_key[first.inputs["victim"]].kind == "train"
    assert second.inputs["victim"] == first.key
    longer = plan_of(('["labels", "labels"]', '["twice-and", "labels"]'),
                     extra='[extraction.twice-and]\nchain = ["labels", "labels"]\n')  # fmt: skip
    attacks = [s for s in steps(longer, "extract") if s.config["attack"] == "label-query"]
    assert len(attacks) == 3  # the shorter chains are the beginning of the longest


def test_a_thief_who_owns_his_copy_sees_all_of_it():
    hidden = '[victim.a]\naccess = "labels"\n'
    tuned = '[extraction.tuned]\nchain = ["labels", "tuning"]\n[extraction.tuning]\nattack = "fine-tuning"\n'
    only = GRID + 'extractions = ["tuned"]\n'
    plan = plan_of(("[victim.a]\n", hidden), (GRID, only), extra=tuned)
    assert [s.config["access"] for s in steps(plan, "extract")] == ["labels", None]
    with pytest.raises(
        InvalidInput, match="the attack fine-tuning needs weights, but the victim a offers labels"
    ):
        plan_of(("[victim.a]\n", hidden), (GRID, only.replace("tuned", "tuning")), extra=tuned)


def test_removals_are_chained_and_none_is_among_them_only_if_named():
    more = '[removal.both]\nchain = ["noise", "round"]\n[removal.round]\nremoval = "weight-quantisation"\n'
    plan = plan_of(('removals = ["none", "noise"]', 'removals = ["both"]'), extra=more)
    assert {row["removal"] for row in cells(plan, "verdicts")} == {"both"}
    assert [s.config["removal"] for s in steps(plan, "remove")] == ["weight-noise", "weight-quantisation"] * 3
    for step in steps(plan, "verify"):
        assert plan.by_key[step.inputs["suspect"]].config["removal"] == "weight-quantisation"
    everything = plan_of(('removals = ["none", "noise"]', 'removals = "all"'), extra=more)
    assert {r["removal"] for r in cells(everything, "verdicts")} == {"none", "noise", "both", "round"}
    nothing = plan_of(('removals = ["none", "noise"]\n', ""))
    assert {r["removal"] for r in cells(nothing, "verdicts")} == {"none"}


@pytest.mark.parametrize(
    ("rule", "verdicts", "extract", "panel"),
    [
        ('exclude = [{ extraction = "copy" }]', 4, 2, 1),
        ('exclude = [{ extraction = ["copy", "twice"] }]', 2, 1, 1),
        ('exclude = [{ extraction = "copy", removal = "noise" }]', 5, 3, 1),
        ('exclude = [{ extraction = "copy", removal = "noise" }, { removal = "none" }]', 2, 2, 1),
        ('exclude = [{ verification = "labels" }]', 0, 3, 0),
        ('exclude = [{ panel = "others" }]', 6, 3, 0),
        ("exclude = [{ seed = [7, 8] }]", 6, 3, 1),
        ('only = [{ extraction = "copy" }]', 2, 1, 1),
        ('only = [{ extraction = "copy", removal = "none" }, { extraction = "labels" }]', 3, 2, 1),
        ('only = [{ panel = "others" }]\nextractions = []', 0, 0, 1),
        ('only = [{ removal = "noise" }]\nexclude = [{ extraction = "twice" }]', 2, 2, 1),
    ],
)
def test_filters(rule, verdicts, extract, panel):
    plan = plan_of((GRID, GRID + rule + "\n"))
    assert len(cells(plan, "verdicts")) == verdicts
    assert len(cells(plan, "extractions")) == extract
    assert kinds(plan).get("panel", 0) == panel
    # Nothing is planned that nobody looks at.
    assert len(steps(plan, "verify")) == verdicts
    roles = {row["role"] for row in cells(plan, "models")}
    assert ("independent" in roles) == (panel > 0)


def test_filters_that_leave_no_evidence_leave_no_work_for_it():
    plan = plan_of((GRID, GRID + 'exclude = [{ evidence = "kept" }]\nevidence = []\n'))
    assert set(kinds(plan)) == {"data", "train", "extract", "remove"}
    assert {row["evidence"] for row in cells(plan, "extractions")} == {"none"}


def test_settings_for_one_victim():
    other = '[victim.b]\ndata = "iris"\narchitecture = "mlp-4"\nrecipe = "short"\n'
    own = (
        "[extraction.labels.per.b]\noptions = { epochs = 1, training = { epochs = 7 } }\n"
        "[evidence.kept.per.b]\noptions.keep = 20\nreferences.count = 1\n"
        "[verification.labels.per.b]\nbudget = 9\n[panel.others.per.b]\nsecrets = 0\n"
    )
    plan = plan_of((GRID, GRID + 'extractions = ["labels"]\nremovals = "none"\n'),
                   ('removals = ["none", "noise"]\n', ""), extra=other + own)  # fmt: skip
    a, b = steps(plan, "extract")
    assert (a.config["options"]["training"]["epochs"], b.config["options"]["training"]["epochs"]) == (2, 7)
    a, b = steps(plan, "register")
    assert (a.config["options"]["keep"], b.config["options"]["keep"]) == (40, 20)
    assert b.config["options"]["decide"] == "permutation"
    assert [len(s.inputs["margins"]) for s in steps(plan, "references")] == [2, 1]
    assert [s.config["budget"] for s in steps(plan, "verify")] == [None, 9]
    assert [s.config["secrets"] for s in steps(plan, "panel")] == [2, 0]


def test_evidence_that_is_trained_in_has_a_victim_of_its_own():
    marked = '[evidence.marked]\nscheme = "trigger-set"\noptions = { triggers = 8 }\n'
    plan = plan_of((GRID, GRID + 'extractions = ["copy"]\n'), extra=marked)
    (embedded,) = steps(plan, "embed")
    for step in steps(plan, "verify"):
        suspect = plan.by_key[step.inputs["suspect"]]
        while suspect.kind != "extract":
            suspect = plan.by_key[suspect.inputs["model"]]
        marked_victim = suspect.inputs["victim"] == embedded.key
        assert marked_victim == (step.inputs["evidence"] == embedded.key)
    assert len(cells(plan, "verdicts")) == 4


def test_references_can_be_copied_as_a_thief_would():
    plan = plan_of(("count = 2 }", 'count = 2, copies = "labels" }'))
    (joined,) = steps(plan, "references")
    models = [plan.by_key[plan.by_key[m].inputs["model"]].kind for m in joined.inputs["margins"]]
    assert models == ["train", "train", "extract", "extract"]
    assert joined.config["kinds"] == [0, 0, 1, 1]


def test_references_of_each_architecture_and_their_copies_are_kinds():
    more = 'count = 2, copies = "labels", extra = [{ architecture = "mlp-8", recipe = "short", count = 1 }] }'
    (joined,) = steps(plan_of(("count = 2 }", more)), "references")
    assert joined.config["kinds"] == [0, 0, 1, 2, 2, 3]


def test_panels_share_models_and_may_name_evidence_that_the_grid_leaves_out():
    more = '[evidence.few]\nscheme = "dataset-inference"\noptions = { keep = 10, references = 2 }\n'
    plan = plan_of((GRID, GRID + 'evidence = ["kept"]\n'), ("secrets = 2", 'secrets = 2\nevidence = ["few"]'),
                   extra=more)  # fmt: skip
    assert {row["evidence"] for row in cells(plan, "panel")} == {"few"}
    assert {row["evidence"] for row in cells(plan, "verdicts")} == {"kept"}
    public = plan_of(("count = 2\n\n[grid]", 'count = 3\npublic = "pool"\npublic_every = 2\n\n[grid]'))
    rows = [s.config["rows"] for s in steps(public, "train") if s.config["rows"][0]["part"] == "outside"]
    assert [[r["part"] for r in draws] for draws in rows] == [
        ["outside", "pool"],
        ["outside"],
        ["outside", "pool"],
    ]


def test_changing_one_hyperparameter_changes_the_keys_of_what_depends_on_it_and_no_others():
    before = plan_of()
    same = {
        'options = { architecture = "mlp-8", training = "short" }': {
            'options = { architecture = "mlp-8", training = { epochs = 3, batch_size = 16 } }': {
                "extract": 2, "remove": 2, "verify": 4,
            }
        },
        "keep = 40": {"keep = 30": {"register": 1, "verify": 6, "panel": 1}},
        'title = "Iris"': {'title = "Other"': {}},
        "secrets = 2": {"secrets = 3": {"panel": 1}},
        "alpha = 0.05": {"alpha = 0.01": {"verify": 6, "panel": 1}},
        "[removal.noise]\n": {"[removal.noise]\noptions.noise = 0.2\n": {"remove": 3, "verify": 3}},
    }  # fmt: skip
    for old, news in same.items():
        for new, expected in news.items():
            after = plan_of((old, new))
            assert len(after.steps) == len(before.steps)
            assert kinds(Plan(tuple(s for s in after.steps if s.key not in before.by_key), ())) == expected


def test_the_order_of_a_table_changes_no_key_and_names_do():
    turned = plan_of(
        ("options = { keep = 40, decide = ", "options = { decide = "),
        ("resamples = 99 }", "resamples = 99, keep = 40 }"),
    )
    assert {s.key for s in turned.steps} == {s.key for s in plan_of().steps}


def test_a_model_of_ones_own_is_known_by_its_content(tmp_path):
    path = tmp_path / "model.safetensors"
    own = changed(
        ('architecture = "mlp-8"\nrecipe = "short"\n',
         f'model = "{path}"\nprivate_part = "pool"\ncontrol_part = "queries"\n'),
        ("references = { count = 2 }\n", ""),
    )  # fmt: skip
    found = []
    for seed in (0, 1):
        save_model(TorchModel(build("mlp-8", (4,), 3, seed)), path, classes=("a", "b", "c"))
        plan = plan_study(parse_study(own, PATH))
        (model,) = steps(plan, "model")
        found.append(model.key)
        (register,) = steps(plan, "register")
        assert register.inputs["victim"] == model.key
        assert (register.config["private"]["part"], register.config["control"]["part"]) == ("pool", "queries")
    assert found[0] != found[1]


def test_too_many_steps_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(grid, "_MOST", 10)
    with pytest.raises(InvalidInput, match="more than 10 steps"):
        plan_of()


def test_a_plan_outlives_the_code_that_made_it():
    plan = plan_of()
    again = Plan.from_json(plan.to_json("x"), "x")
    assert [s.to_dict() for s in again.steps] == [s.to_dict() for s in plan.steps]
    assert again.cells == plan.cells
    text = plan.to_json("x").replace(plan.steps[0].key, "0" * 64)
    assert Plan.from_json(text, "x").steps[0].key == "0" * 64
    for broken in ("{", '{"schema": 1}', '{"schema": 1, "study": "x", "steps": [{}], "cells": []}'):
        with pytest.raises(InvalidInput, match="cannot be read"):
            Plan.from_json(broken, "x")


@pytest.mark.parametrize("preset", ["tiny"])
def test_the_example_study_is_valid(preset):
    plan = plan_study(load_study(EXAMPLE, preset))
    assert {"train", "register", "extract", "verify", "panel"} <= set(kinds(plan))


def test_a_study_is_checked_without_a_store():
    assert len(plan_study(study_of(), None).steps) == len(plan_of().steps)
