from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command import run

from assay.demo import DemoResult
from assay.report import build_report, load_entries


@pytest.fixture(scope="module")
def records(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    suspects = ["--suspect", world / "victim.safetensors", "--suspect", world / "other.safetensors"]
    assert run("verify", "--evidence", world / "evidence", *suspects, "--out", folder / "v", "-q").code == 10
    done = run(
        *("extract", "--victim", world / "victim.safetensors", "--pool", "digits@train:40"),
        *("--evaluation", "digits@test:30", "--set", "epochs=1", "--out", folder / "theft", "-q"),
    )
    assert done.code == 0
    return folder


def test_without_a_page_the_records_are_listed(assay, records, tmp_path):
    done = assay("report", records)
    assert done.code == 0
    for word in ("stolen", "inconclusive", "label-query"):
        assert word in done.out
    found = assay("report", records / "v", records / "theft/extraction.json", "--json").json["records"]
    assert sorted(r["kind"] for r in found) == ["extraction", "verdict", "verdict"]
    assert list(tmp_path.iterdir()) == []


def test_the_ending_says_what_kind_of_report_it_is(assay, records):
    for name in ("r.html", "r.md", "r.csv", "r.json"):
        done = assay("report", records, "--out", name, "--title", "Who did it")
        assert (done.code, done.out) == (0, f"{name}: 3 records\n")
    page = Path("r.html").read_text()
    assert "Who did it" in page
    assert "image/svg+xml" in page
    with Path("r.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    assert len(json.loads(Path("r.json").read_text())) == 3
    assert assay("report", records, "--out", "all", "-q").out == ""
    assert {p.name for p in Path("all").iterdir()} >= {"report.html", "report.md", "rows.csv"}
    assert assay("report", records, "--out", "r.html").code == 2
    assert assay("report", records, "--out", "r.html", "--force").code == 0


def test_verify_writes_a_report_beside_its_verdict(assay, world):
    done = assay(
        *("verify", "--evidence", world / "evidence", "--suspect", world / "victim.safetensors"),
        *("--report", "verdict.html", "--quiet"),
    )
    assert done.code == 10
    assert "stolen" in Path("verdict.html").read_text()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["report"], "PATH"),
        (["report", "nowhere"], "nowhere"),
        (["report", "."], "no verdict"),
        (["report", "verdict.json"], "guilty"),
        (["report", "{records}", "--out", "r.pdf"], ".html"),
    ],
)
def test_bad_input_for_a_report(assay, records, tmp_path, words, hint):
    if words[-1] == "verdict.json":
        (tmp_path / "verdict.json").write_text('{"decision": "guilty"}')
    before = sorted(tmp_path.iterdir())
    done = assay(*(w.format(records=records) for w in words))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert hint in done.err
    assert sorted(tmp_path.iterdir()) == before


def test_the_demo_is_run_as_told_and_moved_into_place(assay, records, monkeypatch):
    told = {}

    def play(out, *, seed, plan, observers):
        told.update(out=Path(out), seed=seed, plan=plan)
        page = build_report(load_entries([records])).save(out)
        return DemoResult(Path(out), page, tuple(load_entries([records])), 1.5)

    monkeypatch.setattr("assay.demo.play.run", play)
    done = assay("demo", "--out", "d", "--seed", "3", "--set", "independents=4", "--json")
    assert (done.code, done.err) == (0, "")
    assert (told["seed"], told["plan"].independents) == (3, 4)
    assert told["out"] != Path("d")
    assert done.json["report"] == "d/report.html"
    assert Path("d/report.html").is_file()
    assert len(done.json["records"]) == 3
    assert [p.name for p in Path().iterdir()] == ["d"]
    assert assay("demo", "--out", "d").code == 2
    assert "report.html" in assay("demo", "--out", "d", "--force").out.replace("\n", "")
    assert assay("demo", "--out", "e", "--set", "pools=3").code == 2
