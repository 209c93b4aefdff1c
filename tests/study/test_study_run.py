from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from little import LITTLE, PATH, changed, rows_of, study_of

from assay.adapters import TorchModel, save_model
from assay.errors import InvalidInput
from assay.nets import build
from assay.observers import Recorder
from assay.study import RunFolder, StoreFull, StudyTables, engine, run_study
from assay.study.executors import SerialExecutor
from assay.study.file import parse_study
from assay.study.grid import plan_study
from assay.study.lock import is_locked, run_lock
from assay.study.plan import Plan

ATTACK = """
from dataclasses import dataclass
from assay.extraction.source import SourceCopy
from assay.registry import register

@register("{name}", kind="extraction")
@dataclass(frozen=True)
class {name}(SourceCopy):
    "Take the model itself."
    name = "{name}"
    def steal(self, oracle, pool, **how):
        print("about to steal")
        {act}
        return super().steal(oracle, pool, **how)
"""
KILLED = """
import os, signal, sys
import torch; torch.set_num_threads(1)
from assay.study import load_study, run_study
from assay.study.executors import SerialExecutor

def kill(event, step, outcome, done=[]):
    done += [event] * (event == "done")
    if len(done) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

run_study(load_study(sys.argv[1]), sys.argv[2], executor=SerialExecutor(), report=kill)
"""
FEW = ('removals = ["none", "noise"]\n', 'extractions = ["labels", "stolen"]\npanels = []\n')


def go(study, out, **options):
    with SerialExecutor() as executor:
        return run_study(study, out, executor=executor, **options)


def lines(folder):
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


@pytest.fixture
def copy(ran, tmp_path):
    """The finished run in a folder of one's own."""
    folder = tmp_path / "copied"
    subprocess.run(["cp", "-r", ran.folder, folder], check=True)
    return folder


def test_a_run_leaves_rows_of_everything_in_the_grid(ran):
    assert ran.run.complete
    assert ran.run.cached == []
    rows = ran.tables.tables
    assert {name: len(found) for name, found in rows.items()} == {
        "models": 5,
        "extractions": 3,
        "removals": 3,
        "verdicts": 6,
        "panel": 2 * 3,  # two models, the true secret and two fresh ones
    }
    assert StudyTables.load(ran.path) == ran.tables
    source = next(r for r in rows["extractions"] if r["extraction"] == "copy")
    assert (source["queries"], source["fidelity"]) == (0, 1.0)
    steps = {row["key"] for row in ran.tables.provenance}
    assert {row["step"] for found in rows.values() for row in found} <= steps
    assert not (ran.folder / "work").exists()
    assert not is_locked(ran.folder)


def test_another_run_repeats_nothing_and_says_the_same(ran, copy):
    watch = Recorder()
    again = go(study_of(), copy, observers=[watch])
    assert (again.run.done, len(again.run.cached)) == ([], len(ran.run.done))
    assert rows_of(again) == rows_of(ran)
    assert watch.events[0] == ("start", "study", 0)


def test_whoever_watches_is_told_how_far_it_is(tmp_path):
    watch = Recorder()
    done = go(
        study_of(("extraction.copy", "extraction.only"), FEW, ('"stolen"', '"only"')),
        tmp_path,
        observers=[watch],
    )
    total = len(done.run.done)
    assert watch.events[0] == ("start", "study", total)
    told = [event[2:] for event in watch.events if event[0] == "step"]
    assert [count for count, _ in told] == list(range(total + 1))
    assert all(numbers["running"] == 1 for _, numbers in told[:-1])
    left = [numbers["core_seconds_left"] for _, numbers in told]
    assert left == sorted(left, reverse=True)
    assert left[-1] == pytest.approx(0)
    assert watch.events[-1] == ("end", "study", {"done": total, "failed": 0, "skipped": 0})


def test_a_change_computes_what_depends_on_it_and_no_more(ran, copy):
    text = changed(("keep = 40", "keep = 30"))
    after = go(parse_study(text, PATH), copy)
    kinds = {row["key"]: row["kind"] for row in after.tables.provenance}
    assert {kinds[key] for key in after.run.done} == {"register", "verify", "panel"}
    fresh = rows_of(after)
    for table in ("models", "extractions", "removals"):
        assert fresh[table] == rows_of(ran)[table]
    # And back: the first study's artifacts are still there.
    assert go(study_of(), copy).run.done == []


def test_what_is_not_needed_any_more_is_removed_only_when_asked(copy):
    RunFolder(copy).collect()  # the store that was copied served other tests too
    go(study_of(("keep = 40", "keep = 30")), copy)
    home = RunFolder(copy)
    before = set(home.store.keys())
    would = home.collect(dry_run=True)
    assert set(home.store.keys()) == before
    assert len({key for key, _ in would}) == 1 + 6 + 1
    assert all(size > 0 for _, size in would)
    assert home.collect() == would
    assert set(home.store.keys()) == {step.key for step in home.plan().steps}
    assert RunFolder(copy).status().left == 0


def test_a_shared_store_is_not_cleaned_for_one_of_its_runs(ran, tmp_path):
    done = go(study_of(), tmp_path / "out", store=str(ran.folder / "artifacts"))
    assert done.run.done == []
    assert not (tmp_path / "out/artifacts").exists()
    with pytest.raises(InvalidInput, match="may belong to other runs"):
        RunFolder(tmp_path / "out").collect()


def test_killed_at_any_moment_a_run_goes_on_and_ends_alike(ran, tmp_path):
    (tmp_path / "study.toml").write_text(LITTLE)
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "study.toml"), str(out), "9"]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    home = RunFolder(out)
    status = home.status()
    assert (status.done, status.active, status.running) == (9, False, ())
    assert status.left == status.steps - 9
    rest = go(home.study, out)
    assert (len(rest.run.cached), len(rest.run.done)) == (9, status.steps - 9)
    assert rows_of(rest) == rows_of(ran)
    # No step was finished twice, over both runs.
    finished = [event["key"] for event in lines(out) if event["event"] == "done"]
    assert len(finished) == len(set(finished)) == status.steps


def test_a_journal_that_was_cut_off_is_read_as_far_as_it_goes(copy):
    journal = copy / "journal.jsonl"
    journal.write_text(journal.read_text()[:-20])
    assert RunFolder(copy).status().done == len(RunFolder(copy).plan().steps)


def test_two_runs_do_not_share_a_folder(copy):
    with (
        run_lock(copy),
        pytest.raises(InvalidInput, match=f"another run .process {os.getpid()}. is at work on"),
    ):
        go(study_of(), copy)
    with run_lock(copy), pytest.raises(InvalidInput, match="another run"):
        RunFolder(copy).collect()


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidInput, match=r"cannot write to .*choose another --out"):
        go(study_of(), tmp_path / "file/below")
    with pytest.raises(InvalidInput, match="cannot write to"):
        go(study_of(), tmp_path / "file")


def test_status_while_a_run_is_at_work(copy):
    home = RunFolder(copy)
    first, second, third = home.plan().steps[-3:]
    for step in (first, second, third):
        home.store.discard(step.key)
    with run_lock(copy), (copy / "journal.jsonl").open("a") as journal:
        # A step of a killed run, then a run with one slot that was handed two steps.
        for event in (
            {"event": "start", "key": third.key, "time": 1.0},
            {"event": "run", "executor": "x", "slots": 1, "time": 2.0},
            {"event": "start", "key": first.key, "time": 3.0},
            {"event": "start", "key": second.key, "time": 4.0},
        ):
            journal.write(json.dumps(event) + "\n")
        journal.flush()
        status = home.status()
        assert (status.active, status.running, status.left) == (True, (first.label,), 3)
        assert status.seconds_left == first.seconds + second.seconds + third.seconds
    assert (home.status().active, home.status().running) == (False, ())


def test_looking_at_a_run_never_keeps_another_from_starting(copy):
    for _ in range(20):
        RunFolder(copy).status()
        with run_lock(copy):
            assert is_locked(copy)


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path):
    for text in (None, "{", "[]", "{}"):
        if text is not None:
            (tmp_path / "run.json").write_text(text)
            (tmp_path / "study.toml").write_text(LITTLE)
        with pytest.raises(InvalidInput, match=r"is no run of a study; `assay study run FILE --out"):
            RunFolder(tmp_path)


def test_a_run_that_was_moved_has_its_artifacts_with_it(copy):
    moved = copy.rename(copy.with_name("moved"))
    assert RunFolder(moved).status().left == 0
    assert go(study_of(), moved).run.done == []


def test_a_plan_that_is_missing_or_of_another_study_is_made_anew(copy):
    status = RunFolder(copy).status()
    plan = copy / "plan.json"
    plan.write_text(Plan((), ()).to_json("another study"))
    assert RunFolder(copy).status() == status
    plan.unlink()
    assert RunFolder(copy).status() == status


def test_a_damaged_artifact_is_computed_anew_with_a_warning(copy, ran):
    home = RunFolder(copy)
    verify = next(step for step in home.plan().steps if step.kind == "verify")
    folder, _ = home.store.open(verify.key)
    (folder / "verdict.json").write_text("{}")
    assert home.status().left == 1
    again = go(study_of(), copy)
    assert again.run.done == [verify.key]
    assert "is damaged" in again.run.warnings[0]
    assert rows_of(again) == rows_of(ran)


def test_a_full_disk_is_told_and_nothing_is_lost(copy, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("assay.study.run.run_steps", full)
    with pytest.raises(StoreFull, match=r"no space is left in .*nothing that was finished is lost"):
        go(study_of(), copy)
    monkeypatch.undo()
    monkeypatch.setattr(engine, "_ATTEMPTS", 1)
    assert go(study_of(), copy).run.done == []


def plugged(tmp_path, name, act):
    """Return a study with a plug-in that steals like a source copy, and what else it does."""
    file = tmp_path / f"{name}.py"
    file.write_text(ATTACK.format(name=name, act=act))
    text = changed(
        ("alpha = 0.05", f'alpha = 0.05\nplugins = ["{file}"]'),
        FEW,
        extra=f'[extraction.stolen]\nattack = "{name}"\n[extraction.after]\nchain = ["stolen", "labels"]\n',
    )
    return parse_study(text.replace('"labels", "stolen"]', '"labels", "stolen", "after"]'), PATH)


def test_an_attack_of_ones_own(tmp_path):
    done = go(plugged(tmp_path, "Borrowed", "pass"), tmp_path / "out")
    assert done.run.complete
    stolen = [row for row in done.tables.rows("extractions") if row["extraction"] == "stolen"]
    assert [(row["attack"], row["fidelity"]) for row in stolen] == [("Borrowed", 1.0)]


def test_a_step_that_fails_takes_its_dependants_with_it_and_nothing_else(tmp_path):
    done = go(plugged(tmp_path, "Clumsy", "raise OSError('dropped it')"), tmp_path / "out")
    assert not done.run.complete
    assert [outcome.error for outcome in done.run.failed.values()] == ["OSError: dropped it"]
    assert len(done.run.skipped) == 1 + 1 + 1  # verdict; the theft from the copy, and its verdict
    assert {row["extraction"] for row in done.tables.rows("verdicts")} == {"labels"}
    status = RunFolder(tmp_path / "out").status()
    assert (status.failed, status.skipped, status.left) == (1, 3, 0)
    (error,) = status.errors
    log = Path(error["log"]).read_text()
    assert "about to steal" in log
    assert "Traceback" in log
    assert {row["error"] for row in status.waiting} == {"something that it needs failed"}
    assert done.tables.about["failed"] == [error]
    # It is tried again, and alone.
    again = go(RunFolder(tmp_path / "out").study, tmp_path / "out")
    assert (again.run.done, len(again.run.failed)) == ([], 1)


def test_a_plug_in_that_was_changed_is_another_attack(tmp_path):
    kept = {}
    for name, act in (("First", "pass"), ("Second", "1 + 1")):
        study = plugged(tmp_path, name, act)
        kept[name] = next(s for s in plan_study(study).steps if s.config.get("attack") == name)
    codes = {step.config["code"] for step in kept.values()}
    assert len(codes) == 2
    assert all(len(code) == 64 for code in codes)


@pytest.mark.parametrize("kind", ["safetensors", "skops"])
def test_a_model_of_ones_own_is_stolen_and_found_out(tmp_path, monkeypatch, kind):
    from assay.data import load_data

    monkeypatch.chdir(tmp_path)
    data = load_data("iris")
    if kind == "skops":
        import skops.io
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=200).fit(data.x.numpy(), data.y.numpy())
        skops.io.dump(model, "own.skops")
    else:
        save_model(TorchModel(build("mlp-8", (4,), 3)), "own.safetensors", classes=data.classes)
    text = changed(
        ('architecture = "mlp-8"\nrecipe = "short"\n',
         f'model = "own.{kind}"\nprivate_part = "pool"\ncontrol_part = "queries"\naccess = "scores"\n'),
        ("references = { count = 2 }\n", ""),
        ("keep = 40,", 'keep = 40, references = 2, architecture = "mlp-4", recipe = "short",'),
        ('removals = ["none", "noise"]\n', 'extractions = ["labels", "twice"]\npanels = []\n'),
    )  # fmt: skip
    done = go(parse_study(text, PATH), "out")
    assert done.run.complete, done.run.failed
    assert {row["extraction"] for row in done.tables.rows("verdicts")} == {"labels", "twice"}
    (victim,) = done.tables.rows("models")
    assert victim["accuracy"] >= (0.9 if kind == "skops" else 0)
    # From elsewhere, and with the file gone, the run still knows what it was.
    (tmp_path / f"own.{kind}").unlink()
    monkeypatch.chdir("/")
    assert RunFolder(tmp_path / "out").status().left == 0


def test_on_a_gpu_the_steps_that_compute_with_networks_ask_for_one(ran, tmp_path):
    asked = {}

    class Watching(SerialExecutor):
        def submit(self, task):
            asked[task.step.kind] = (task.step.gpus, task.device)
            super().submit(replace(task, device="cpu"))

    text = changed(('removals = ["none", "noise"]\n', 'extractions = ["copy"]\npanels = []\n'))
    done = run_study(parse_study(text, PATH), tmp_path, executor=Watching(), device="cuda:0")
    assert done.run.complete
    assert asked["train"] == asked["verify"] == (1.0, "cuda:0")
    assert asked["data"][0] == asked["references"][0] == 0
    # What they compute is the same step wherever it runs.
    assert set(done.run.done) <= set(ran.run.done)
