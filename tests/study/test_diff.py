from __future__ import annotations

import json

import pytest
from little import LITTLE, PATH, changed, study_of

from assay.study import RunFolder, run_study
from assay.study.diff import Difference, diff_runs
from assay.study.executors import SerialExecutor
from assay.study.file import parse_study
from assay.study.grid import plan_study
from assay.study.store import Store


@pytest.fixture
def planned(ran, tmp_path):
    """Return a function that makes a run of a changed study which computed nothing, or everything."""

    def make(*changes, extra="", preset=None, run=False, store=None):
        study = study_of(*changes, extra=extra, preset=preset)
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        if run:
            with SerialExecutor() as executor:
                run_study(study, folder, executor=executor, store=store or str(ran.folder / "artifacts"))
        else:
            folder.mkdir()
            (folder / "study.toml").write_text(changed(*changes, extra=extra))
            about = {"schema": 1, "file": PATH, "preset": preset, "store": str(folder), "own_store": True}
            (folder / "run.json").write_text(json.dumps(about))
        return RunFolder(folder)

    return make


def test_a_run_is_like_itself(ran):
    home = RunFolder(ran.folder)
    found = diff_runs(home, home)
    assert found == Difference(str(home.path), str(home.path), found.same, (), (), (), ())
    assert found.same == len(home.plan().cells)


def test_one_changed_hyperparameter_is_named_once_and_its_dependants_are_not(ran, planned):
    found = diff_runs(RunFolder(ran.folder), planned(("epochs = 2,", "epochs = 3,"), run=True))
    (train, extract) = found.causes
    # The recipe is the models' and, by its name, the thieves' as well.
    assert (train.kind, train.changes) == ("train", {"recipe.epochs": [2, 3]})
    assert (extract.kind, extract.changes) == ("extract", {"options.training.epochs": [2, 3]})
    assert train.steps == 5
    assert extract.steps == 2
    assert train.rows == len(RunFolder(ran.folder).plan().cells)  # everything hangs on the victim
    assert (train.distance, extract.distance) == (0, 0)
    assert found.only_a == found.only_b == ()
    assert found.changed
    assert all(change.recomputed for change in found.changed)
    for change in found.changed:
        assert set(change.results) <= {
            "p_value", "stolen", "queries", "fidelity", "accuracy", "train_accuracy", "verdicts"
        }  # fmt: skip
        assert all(before != after for before, after in change.results.values())
    assert Difference.from_dict(json.loads(json.dumps(found.to_dict()))).same == found.same


def test_what_lies_deep_is_far_and_what_lies_near_comes_first(ran, planned):
    after = planned(
        ('source = "iris"', 'source = "iris"\nseed = 4'),
        ("keep = 40", "keep = 30"),
        ("alpha = 0.05", "alpha = 0.01"),
    )
    found = diff_runs(RunFolder(ran.folder), after)
    assert [cause.kind for cause in found.causes] == ["verify", "panel", "data", "register"]
    assert [cause.distance for cause in found.causes] == [0, 0, 1, 1]
    assert [cause.changes for cause in found.causes] == [
        {"alpha": [0.05, 0.01]},
        {"alpha": [0.05, 0.01]},
        {"seed": [0, 4]},
        {"options.keep": [40, 30]},
    ]
    # Nothing of the second is finished: every number of the first stands alone.
    assert all(after is None for change in found.changed for _, after in change.results.values())


def test_rows_that_only_one_has(ran, planned):
    found = diff_runs(RunFolder(ran.folder), planned(("[extraction.copy]", "[extraction.clone]")))
    assert {row["extraction"] for row in found.only_a} == {"copy"}
    assert {row["extraction"] for row in found.only_b} == {"clone"}
    tables = [row["table"] for row in found.only_a]
    assert sorted(tables) == ["extractions", "removals", "verdicts", "verdicts"]
    assert found.causes == ()


def test_other_numbers_of_inputs_and_other_kinds_of_steps(ran, planned):
    found = diff_runs(RunFolder(ran.folder), planned(("{ count = 2 }", "{ count = 3 }")))
    (cause,) = found.causes
    assert cause.kind == "references"
    assert cause.changes == {"inputs.margins": [2, 3], "kinds": [[0, 0], [0, 0, 0]]}
    start, end = LITTLE.index('scheme = "dataset-inference"'), LITTLE.index("\n\n[extraction.copy]")
    marked = (LITTLE[start:end], 'scheme = "trigger-set"\noptions = { triggers = 8 }')
    found = diff_runs(RunFolder(ran.folder), planned(marked))
    kinds = [cause.changes["kind"] for cause in found.causes if "kind" in cause.changes]
    assert ["register", "embed"] in kinds


def test_equal_steps_with_other_results_are_told(ran, planned):
    other = planned(run=True, store=None)
    key = next(cell.key for cell in other.plan().cells if cell.table == "verdicts")
    changed_store = Store(other.path / "elsewhere")
    about = json.loads((other.path / "run.json").read_text()) | {"store": str(other.path / "elsewhere")}
    (other.path / "run.json").write_text(json.dumps(about))
    for step in other.plan().steps:
        folder, manifest = other.store.open(step.key)
        copied = other.path / "copied"
        copied.mkdir()
        for name in manifest.files:
            (copied / name).parent.mkdir(parents=True, exist_ok=True)
            (copied / name).write_bytes((folder / name).read_bytes())
        facts = manifest.facts | ({"p_value": 0.123} if step.key == key else {})
        changed_store.commit(type(manifest)(**{**vars(manifest), "facts": facts}), copied)
    found = diff_runs(RunFolder(ran.folder), RunFolder(other.path))
    (change,) = found.changed
    assert change.results["p_value"][1] == 0.123
    assert not change.recomputed
    assert found.causes == ()


def test_a_large_grid_is_compared_in_seconds(ran, planned):
    text = LITTLE.replace("alpha = 0.05", "alpha = 0.05\nseeds = 12")
    one = plan_study(parse_study(text, PATH))
    assert len(one.cells) > 100
    many = ("alpha = 0.05", "alpha = 0.05\nseeds = 12")
    found = diff_runs(planned(many), planned(many, ("epochs = 2,", "epochs = 1,")))
    assert [cause.kind for cause in found.causes] == ["train", "extract"]
    assert found.same == len(one.cells)  # no numbers on either side
