from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from assay.report import Gallery
from assay.study.tables import StudyTables


def verdict(seed, p):
    place = {"victim": "cnn", "evidence": "walk", "extraction": "label-query", "removal": "none"}
    found = {"verification": "scores", "alpha": 0.01, "p_value": p, "stolen": p <= 0.01, "queries": 50 + seed}
    return {**place, **found, "seed": seed, "step": hashlib.sha256(str(seed).encode()).hexdigest()}


@pytest.fixture
def run_folder(assay):
    rows = [verdict(seed, p) for seed, p in enumerate([0.001, 0.002, 0.5])]
    StudyTables("Walks", tables={"verdicts": rows}).save("runs/di")
    Gallery("Rows", images=[("one", np.zeros((1, 4, 4)))]).save("runs/di/galleries/rows.safetensors")
    return Path("runs/di")


def test_a_run_folder_becomes_a_report_in_it(assay, run_folder):
    done = assay("report", run_folder)
    assert (done.code, done.err) == (0, "")
    for text in ("Walks", "found 2 of 3 copies", "Thefts found out", "runs/di/report/report.html"):
        assert text in done.out
    report = run_folder / "report"
    assert {p.name for p in report.iterdir()} == {"report.html", "report.md", "pictures", "tables"}
    assert "Rows" in (report / "report.html").read_text()
    assert (report / "pictures" / "gallery-0-0.png").is_file()
    # It follows from the run: a newer one replaces it, and nothing else is touched.
    (report / "notes.txt").write_text("mine")
    assert assay("report", run_folder, "--title", "Anew", "-q").out == ""
    assert "Anew" in (report / "report.html").read_text()
    assert (report / "notes.txt").read_text() == "mine"
    assert not list(run_folder.glob("*.partial"))


def test_the_ending_says_what_kind_of_study_report_it_is(assay, run_folder):
    for name in ("r.html", "r.md", "r.csv", "r.json"):
        done = assay("report", run_folder / "study-tables.json", "--out", name)
        assert (done.code, done.err) == (0, "")
        assert done.out.endswith(f"{name}\n")
    assert not (run_folder / "report").exists()
    assert "image/svg+xml" in Path("r.html").read_text()
    assert Path("r.md").read_text().startswith("# Walks")
    with Path("r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["table"] for row in rows] == ["verdicts"] * 3
    assert StudyTables.load("r.json").title == "Walks"
    assert assay("report", run_folder, "--out", "r.html").code == 2
    assert assay("report", run_folder, "--out", "r.html", "--force").code == 0


def test_for_programs_a_study_is_one_object(assay, run_folder):
    found = assay("report", run_folder, "--json", "--out", "all").json
    assert found["report"] == "all/report.html"
    assert found["tables"]["summary-power"][0]["stolen"] == 2
    assert any("2 of 3" in text for text in found["summary"]["found"])
    assert Path("all/tables/verdicts.csv").is_file()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["runs/di", "runs/di"], "one study"),
        (["runs/di", "elsewhere"], "one study"),
        (["runs/di", "--out", "r.pdf"], ".html"),
        (["broken"], "schema"),
        (["blurred"], "no gallery"),
    ],
)
def test_bad_studies_are_refused(assay, run_folder, words, hint):
    for name in ("broken", "blurred"):
        Path(name, "galleries").mkdir(parents=True)
    Path("broken/study-tables.json").write_text(json.dumps({"title": "t"}))
    StudyTables("t").save("blurred")
    Path("blurred/galleries/x.safetensors").write_bytes(b"?")
    before = sorted(Path().rglob("*"))
    done = assay("report", *words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert hint in done.err
    assert sorted(Path().rglob("*")) == before
