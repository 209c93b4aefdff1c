from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import run as command

from assay.cli.study_progress import StudyProgress, duration
from assay.study import StoreFull

sys.path.append(str(Path(__file__).parents[1] / "study"))
from little import LITTLE

FILE = LITTLE.replace('removals = ["none", "noise"]', 'extractions = ["copy", "labels"]')


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run by the verb itself."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.toml").write_text(FILE)
    ran = command("study", "run", folder / "study.toml", "--out", folder / "run", "--serial", "--json")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    return SimpleNamespace(file=folder / "study.toml", folder=folder / "run", json=ran.json)


def changed(done, tmp_path, old="keep = 40", new="keep = 30"):
    (tmp_path / "changed.toml").write_text(FILE.replace(old, new))
    return tmp_path / "changed.toml"


def test_run_says_what_came_of_it(done):
    found = done.json
    assert found["complete"]
    assert found["failed"] == []
    assert (found["cached"], found["skipped"]) == (0, 0)
    assert found["tables"] == str(done.folder / "study-tables.json")
    assert Path(found["tables"]).is_file()
    assert [row["extraction"] for row in found["summary"]["thefts"]] == ["copy", "labels"]
    (innocent,) = found["summary"]["independent"]
    assert innocent["verdicts"] == 6


def test_run_again_repeats_nothing(assay, done):
    again = assay("study", "run", done.file, "--out", done.folder, "--serial")
    assert again.code == 0
    assert re.search(r"steps computed +│ 0 ", again.out)
    assert re.search(rf"finished before +│ {done.json['done']} ", again.out)
    for title in ("Thefts", "Independent models", "found out", "accused", "assay report"):
        assert title in again.out
    assert assay("study", "run", done.file, "--out", done.folder, "--serial", "--quiet").out == ""


def test_dry_run_shows_what_would_be_done_and_does_nothing(assay, done, tmp_path):
    plan = assay("study", "run", done.file, "--dry-run", "--serial")
    assert plan.code == 0
    assert "independent model" in plan.out
    assert f"{done.json['done']} steps, 0 of them finished" in plan.out
    data = assay(
        "study", "run", done.file, "--dry-run", "--json", "--workers", 2, "--out", tmp_path / "new"
    ).json
    assert not (tmp_path / "new").exists()
    assert data["slots"] == 2
    assert data["count"] == len(data["steps"]) == done.json["done"]
    assert sum(group["count"] for group in data["groups"]) == data["count"]
    assert sum(group["core_minutes"] for group in data["groups"]) == pytest.approx(data["core_minutes"])
    assert 0 < data["minutes"] <= data["core_minutes"]
    assert {"key", "kind", "label", "seconds", "config", "finished"} <= set(data["steps"][0])
    after = assay("study", "run", changed(done, tmp_path), "--dry-run", "--json", "--out", done.folder).json
    left = {step["kind"] for step in after["steps"] if not step["finished"]}
    assert left == {"register", "verify", "panel"}
    assert assay("study", "run", done.file, "--dry-run", "--json", "--ray", "auto").json["minutes"] is None


def test_status(assay, done):
    text = assay("study", "status", done.folder)
    assert text.code == 0
    assert f"{done.json['done']} of {done.json['done']}" in text.out
    assert "no run is at work" in text.out
    data = assay("study", "status", done.folder, "--json").json
    assert (data["left"], data["failed"], data["active"]) == (0, 0, False)


def test_resume_goes_on_with_the_study_in_the_folder_wherever_it_is_called(
    assay, done, tmp_path, monkeypatch
):
    (tmp_path / "rows").mkdir()
    monkeypatch.chdir(tmp_path / "rows")
    import numpy as np

    from assay.data import load_data

    iris = load_data("iris")
    np.savez("iris.npz", x=iris.x.numpy(), y=iris.y.numpy())
    text = FILE.replace('source = "iris"', 'source = "iris.npz"')
    Path("study.toml").write_text(text.replace('"copy", "labels"', '"copy"') + "\n[panel.none-of-it]\n")
    Path("study.toml").write_text(text.replace('"copy", "labels"]', '"copy"]\npanels = []'))
    assert assay("study", "run", "study.toml", "--out", "run", "--serial", "--quiet").code == 0
    Path("study.toml").unlink()
    monkeypatch.chdir(tmp_path)
    again = assay("study", "resume", "rows/run", "--serial", "--json")
    assert again.code == 0, again.err
    assert (again.json["done"], again.json["complete"]) == (0, True)


def test_diff(assay, done, tmp_path):
    file = changed(done, tmp_path)
    store = ["--store", done.folder / "artifacts"]
    assert assay("study", "run", file, "--out", tmp_path / "other", "--serial", "--quiet", *store).code == 0
    text = assay("study", "diff", done.folder, tmp_path / "other")
    assert text.code == 0
    assert "options.keep: 40 -> 30" in " ".join(text.out.replace("│", " ").split())
    data = assay("study", "diff", done.folder, tmp_path / "other", "--json").json
    assert [cause["kind"] for cause in data["causes"]] == ["register"]
    assert {change["table"] for change in data["changed"]} <= {"verdicts", "panel"}
    same = assay("study", "diff", done.folder, done.folder)
    assert same.out.startswith("rows with equal results")


def test_gc(assay, done, tmp_path):
    folder = tmp_path / "run"
    for file in (done.file, changed(done, tmp_path)):
        assert assay("study", "run", file, "--out", folder, "--serial", "--quiet").code == 0
    would = assay("study", "gc", folder, "--dry-run", "--json").json
    assert len(would["removed"]) == 1 + 2 + 1
    assert would["bytes"] > 0
    assert "4 artifacts" in assay("study", "gc", folder).out
    assert assay("study", "gc", folder, "--json").json["removed"] == []
    assert assay("study", "status", folder, "--json").json["left"] == 0


def test_export_needs_mlflow(assay, done, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    found = assay("study", "export", done.folder, "--mlflow", "file:///nowhere")
    assert found.code == 2
    assert "pip install mlflow-skinny" in found.err


def test_a_failing_step_is_told_with_its_log(assay, done, tmp_path):
    plugin = tmp_path / "thumbs.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from assay.extraction.source import SourceCopy\n"
        "from assay.registry import register\n"
        '@register("all-thumbs", kind="extraction")\n'
        "@dataclass(frozen=True)\n"
        "class AllThumbs(SourceCopy):\n"
        '    "Drop it."\n'
        '    name = "all-thumbs"\n'
        "    def steal(self, oracle, pool, **how):\n"
        "        raise ValueError('dropped\\x1b[31m it')\n"
    )
    file = changed(done, tmp_path, '"source-copy"', '"all-thumbs"')
    file.write_text(file.read_text().replace("alpha = 0.05", 'alpha = 0.05\nplugins = ["thumbs.py"]'))
    ran = assay("study", "run", "changed.toml", "--out", "run", "--serial")
    assert ran.code == 1
    assert "\x1b" not in ran.out + ran.err
    assert ran.err.count("\n") == 1
    log = re.search(r"1 steps failed and 1 that need them were not run; see (\S+)", ran.err)[1]
    assert "Traceback" in Path(log).read_text()
    assert "Failed steps" in ran.out
    status = assay("study", "status", "run", "--json").json
    assert [(e["label"], e["error"]) for e in status["errors"]] == [
        ("copy of model 0 of a", "ValueError: dropped\x1b[31m it")
    ]
    assert "Failed steps" in assay("study", "status", "run").out
    data = assay("study", "resume", "run", "--serial", "--json")
    assert data.code == 1
    assert (data.json["complete"], len(data.json["failed"])) == (False, 1)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "gone.toml", "--out", "new"], 2, "No such file"),
        (["run", "study.toml"], 2, "--out FOLDER"),
        (["run", "study.toml", "--out", "new", "--preset", "tow"], 2, "did you mean 'two'?"),
        (["run", "study.toml", "--out", "new", "--seed", "3"], 2, "seeds stand in its file"),
        (["run", "study.toml", "--out", "new", "--serial", "--workers", "2"], 2, "one of --ray"),
        (["run", "study.toml", "--out", "new", "--workers", "0"], 2, "--workers"),
        (["run", "study.toml", "--out", "new", "--device", "abacus"], 2, "abacus"),
        (["run", "study.toml", "--out", "other"], 2, "holds other things"),
        (["run", "study.toml", "--out", "study.toml/below"], 2, "cannot write"),
        (["run", "study.toml", "--out", "new", "--store", "odd://x"], 2, "artifact store"),
        (["run", "wrong.toml", "--out", "new"], 2, "wrong.toml, line 2: unknown key of [study]"),
        (["run", "wrong.toml", "--dry-run"], 2, "wrong.toml, line 2: unknown key of [study]"),
        (["status", "gone"], 2, "gone is no run of a study"),
        (["resume", "other"], 2, "other is no run of a study"),
        (["diff", "gone", "other"], 2, "is no run of a study"),
        (["gc", "gone"], 2, "is no run of a study"),
        (["export", "gone", "--mlflow", "x"], 2, "is no run of a study"),
        (["export", "gone"], 2, "--mlflow"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(assay, tmp_path, words, code, said):
    (tmp_path / "study.toml").write_text(FILE)
    (tmp_path / "wrong.toml").write_text('[study]\ntitel = "x"\n')
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine.txt").write_text("here first")
    before = sorted(tmp_path.rglob("*"))
    found = assay("study", *words)
    assert found.code == code, found.err
    assert found.out == ""
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1
    assert said in found.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "nothing that was finished is lost: `assay study resume run` goes on"),
        (StoreFull("no space is left; nothing is lost"), 3, "nothing is lost"),
    ],
)
def test_an_interruption_and_a_full_disk_lose_nothing(assay, done, monkeypatch, error, code, said):
    closed = []

    def stopped(*_, **options):
        closed.append(options["executor"])
        options["executor"].close = lambda: closed.append("closed")
        raise error

    monkeypatch.setattr("assay.study.run.run_study", stopped)
    found = assay("study", "run", done.file, "--out", "run", "--workers", 1)
    assert (found.code, found.out, found.err.count("\n")) == (code, "", 1)
    assert said in found.err
    assert closed[1:] == ["closed"]


def test_progress_is_a_line_now_and_then_without_a_terminal(capsys):
    now = [0.0]
    with StudyProgress(clock=lambda: now[0]) as progress:
        progress.on_start("study", 100)
        for done in range(5):
            now[0] = 25.0 * done
            progress.on_step(
                "study",
                done,
                {"running": 2, "failed": 0, "skipped": 0, "core_seconds_left": 6000, "pace": 2.0, "slots": 2},
            )
        now[0] = 160.0
    assert capsys.readouterr().err == "3 of 100 steps done, 2 running, about 1 h 40 min left\n"
    # Between two events the clock goes on.
    assert progress.line == "4 of 100 steps done, 2 running, about 1 h 39 min left"
    progress.on_step("study", 97, {"running": 0, "failed": 1, "skipped": 2, "core_seconds_left": 0})
    assert progress.line == "97 of 100 steps done, 0 running, 1 failed, 2 skipped"


def test_progress_on_a_terminal_names_what_is_under_way(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with StudyProgress() as progress:
        progress.on_start("study", 3)
        steps = [SimpleNamespace(key=str(i), label=f"step {i}\x1b[31m", kind="x") for i in range(3)]
        for step in steps:
            progress.report("start", step, None)
        progress.on_step("study", 0, {"running": 2, "core_seconds_left": 90, "pace": 1, "slots": 2})
        progress._bar.refresh()
        progress.report("failed", steps[0], SimpleNamespace(error="broke\x1b[2J"))
        progress.on_step(
            "study", 0, {"running": 1, "failed": 1, "core_seconds_left": 60, "pace": 1, "slots": 2}
        )
        progress.on_end("study")
    shown = capsys.readouterr().err
    assert "step 0 [31m, step 1 [31m" in shown
    assert "step 2" not in shown.partition("failed: step 0")[0]
    assert "2 running, about" in shown
    assert "failed: step 0 [31m: broke [2J" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "1 h 0 min"), (90_000, "25 h 0 min")],
)
def test_times_in_words(seconds, text):
    assert duration(seconds) == text
