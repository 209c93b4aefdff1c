"""A study's report from made-up tables: complete, inert, traceable, and usable when it is large."""

import base64
import csv
import hashlib
import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from assay.errors import InvalidInput, MissingDependency
from assay.report import Gallery, build_study_report, load_galleries
from assay.report.study_error_plots import error_pictures
from assay.report.study_findings import study_findings
from assay.report.study_front_plots import copy_pictures
from assay.report.study_plots import power_pictures
from assay.report.study_sentences import sentences
from assay.report.study_wash_plots import wash_pictures
from assay.study.tables import StudyTables

NASTY = "<script>alert(1)</script> $x^{$ | `a` \u202e \x00 漢 \"'"
KINDS = {"marks", "reach", "power", "errors", "copies", "outcomes", "washed"}


def key(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def made(*, seeds=3, names=str, bad=False):
    """A study of two attacks, one removal, two tests; ``names`` renames everything."""
    models, extractions, removals, verdicts, panel, provenance = [], [], [], [], [], []

    def step(kind, *parts, inputs=()):
        digest = key(kind, *parts)
        provenance.append(
            {
                "key": digest,
                "kind": names(kind),
                "label": names(f"{kind} {parts}"),
                "seed": 3,
                "version": 1,
                "seconds": 2.0,
                "memory": 2**20,
                "finished": 1.7e9,
                "versions": {"assay": names("0.1")},
                "inputs": list(inputs),
                "config": {names("lr"): 0.1},
            }
        )
        return {"step": digest, "step_seed": 3, "seconds": 2.0}

    for seed in range(seeds):
        place = {"victim": names("cnn"), "seed": seed}
        marks = {"match_rate": 0.9, "unmarked_match_rate": 0.1, "unmarked_accuracy": 0.91 + 0.01 * seed}
        about = {"evidence": names("walk"), "unmarked_p_value": 0.4}
        models.append({"role": "victim", **place, **about, "accuracy": 0.9, **marks, **step("train", seed)})
        for attack in ("label-query", "fine-tuning"):
            copy = {**place, "evidence": names("walk"), "extraction": names(attack)}
            curve = [[100, 0.6, 0.5], [400, 0.8 + 0.01 * seed, 0.75]]
            extractions.append(
                {
                    **copy,
                    "queries": 400,
                    "fidelity": 0.8,
                    "accuracy": 0.75,
                    "curve": curve,
                    **step("steal", attack, seed),
                }
            )
            removals.append(
                {
                    **copy,
                    "removal": names("prune"),
                    "accuracy_before": 0.75,
                    "accuracy": 0.7,
                    **step("wash", attack, seed),
                }
            )
            for removal in ("none", "prune"):
                for test in ("betting", "fixed"):
                    p = 0.002 if removal == "none" else 0.2
                    verdicts.append(
                        {
                            **copy,
                            "removal": names(removal) if removal != "none" else removal,
                            "verification": names(test),
                            "access": "labels",
                            "stolen": p <= 0.01,
                            "alpha": 0.01,
                            "p_value": p,
                            "match_rate": 0.9 if removal == "none" else 0.2,
                            "queries": 400 if test == "fixed" else 100 + 50 * seed,
                            "reason": names("why"),
                            **step("verify", attack, removal, test, seed),
                        }
                    )
    tested = step("panel")
    for secret in range(12):
        p = ((secret + 0.5) / 12) ** (8 if bad else 1)
        panel.append(
            {
                "victim": names("cnn"),
                "evidence": names("walk"),
                "panel": names("others"),
                "verification": names("fixed"),
                "access": "labels",
                "seed": 0,
                "kind": "redraw",
                "model": secret % 3,
                "secret": secret,
                "stolen": p <= 0.01,
                "alpha": 0.01,
                "p_value": p,
                **tested,
            }
        )
    papers = [
        {
            "table": "verdicts",
            "where": {"removal": "none"},
            "metric": "stolen",
            "value": 0.9,
            "source": names("paper"),
        },
        {
            "table": "verdicts",
            "where": {"removal": "x"},
            "metric": "stolen",
            "value": "all",
            "source": names("paper"),
        },
    ]
    failed = {"key": key("f"), "kind": "train", "label": names("victim 9"), "error": names("no rows")}
    skipped = {"key": key("s"), "kind": "steal", "label": names("theft 9"), "error": names("victim 9 failed")}
    about = {
        "preset": names("tiny"),
        "titles": {"evidence": {"walk": names("Blind walk")}},
        "failed": [{**failed, "log": names("a") + "\nb"}],
        "skipped": [skipped],
    }
    tables = {
        "models": models,
        "extractions": extractions,
        "removals": removals,
        "verdicts": verdicts,
        "panel": panel,
    }
    return StudyTables(names("A study"), names("What it asks."), 0.01, tables, papers, provenance, about)


def images(names=str):
    rng = np.random.default_rng(1)
    grey = [(names(f"row {i}"), rng.random((1, 8, 8))) for i in range(3)]
    colour = [(names("big"), rng.integers(0, 255, (3, 300, 500), dtype=np.uint8))]
    return [
        Gallery(names("Private rows"), names("Those that tell most."), grey),
        Gallery("Triggers", images=colour),
    ]


class Page(HTMLParser):
    """Collects tags, addresses, identifiers and text, and checks that elements nest."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.ids, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in {"src", "href", "action", "srcset", "poster"}]
        self.ids += [v for k, v in attrs if k == "id"]
        assert not any(k.startswith("on") for k, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def full():
    return build_study_report(made(), images())


@pytest.fixture(scope="module")
def page(full):
    return Page(full.html())


def test_the_page_shows_everything(full, page):
    for text in (
        "A study",
        "What it asks.",
        "3 victims, 6 thefts by 2 extractions, 6 attempts to wash evidence out by 1 removal",
        "24 verdicts about them with 1 kind of evidence over 3 repetitions",
        "12 verdicts about models that are independent",
        "1 step failed",
        "no rows",
        "victim 9 failed",
        "Blind walk",
        "Private rows",
        "Those that tell most.",
        "Published numbers beside ours",
        "no row of ours matches",
        "Benjamini-Hochberg",
        "Versions A",
        "assay 0.1",
    ):
        assert text in page.text, text
    assert set(full.drawn) == KINDS
    assert all(full.drawn.values())
    shown = {base64.b64decode(a.partition(",")[2]) for a in page.addresses if a.startswith("data:image/svg")}
    assert shown == {p.svg.encode() for p in full.pictures}
    assert page.tags.count("img") == len(full.pictures) + 4


def test_every_row_leads_to_its_steps(full, page):
    links = [a for a in page.addresses if a.startswith("#")]
    assert set(page.ids) >= {a[1:] for a in links}
    steps = {row["key"] for row in full.tables.provenance}
    assert {a.removeprefix("#step-") for a in links if a.startswith("#step-")} == {k[:16] for k in steps}
    for name in (
        "summary-power",
        "summary-errors",
        "summary-extractions",
        "summary-removals",
        "summary-models",
    ):
        assert all(line.steps for line in full.sheets[name].lines)
        assert {step for line in full.sheets[name].lines for step in line.steps} <= steps


def test_the_page_asks_nobody_for_anything(full, page):
    assert all(
        a.startswith(("#", "data:image/svg+xml;base64,", "data:image/png;base64,")) for a in page.addresses
    )
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    html = full.html()
    assert "url(" not in html
    assert "@import" not in html
    for picture in full.pictures:
        root = ET.fromstring(picture.svg)
        assert not [node for node in root.iter() if node.tag.endswith(("script", "image", "foreignObject"))]


def test_pictures_are_the_same_for_the_same_rows(full):
    again = error_pictures(study_findings(made()))
    assert [p.svg for p in again] == [p.svg for p in full.drawn["errors"]]


def test_names_cannot_break_out():
    report = build_study_report(made(seeds=1, names=lambda _: NASTY), images(lambda _: NASTY))
    html, markdown = report.html(), report.markdown("pictures")
    assert "script" not in Page(html).tags
    assert "<script" not in re.sub(r"\\.", "", markdown)
    for text in (html, markdown):
        assert "\u202e" not in text
        assert "\x00" not in text
    tables = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(tables) >= 7
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_the_summary_in_words(full):
    said = " ".join(sentences(full.findings)["found"])
    # Two attacks, three seeds; the one test stops at 100, 150 and 200 queries.
    assert "Walk by betting (α = 0.01) found 6 of 6 copies, half of all within 150 queries" in said
    assert "and 0 of 6 that were washed" in said
    assert "0 of 12 verdicts" in said
    assert "does not lie above α" in said
    assert "Of 24 verdicts 12 are 'stolen' at their own level" in said
    assert "1 of 2 published numbers have one of ours beside them; 1 lie within our limits" in said


def test_broken_tests_are_called_broken():
    said = " ".join(sentences(study_findings(made(bad=True)))["found"])
    assert "accuses too often on others (redraw)" in said
    assert "smaller than an innocent model's should be" in said
    assert "does not lie above" not in said
    report = build_study_report(made(bad=True))
    assert "too often" in report.sheets["summary-errors"].lines[0].cells[-5].text


def test_no_panel_is_said():
    tables = made()
    tables.tables["panel"].clear()
    assert "nothing is said about false accusations" in " ".join(sentences(study_findings(tables))["found"])


def test_power_is_drawn_by_queries_or_by_level(full):
    titles = [p.title for p in power_pictures(full.findings)]
    assert titles == ["Power by queries: walk", "Power by level: walk"]


def test_a_model_of_two_roles_counts_in_both():
    rows = [{"role": role, "evidence": e, "step": key(1)} for role in ("victim", "reference") for e in "ab"]
    said = sentences(study_findings(StudyTables("t", tables={"models": rows})))["done"]
    assert said == ["The study comprises 1 victim and 1 reference model."]


def many_removals(count=12):
    tables = made()
    for rows in (tables.tables["removals"], tables.tables["verdicts"]):
        some = [row for row in rows if row["removal"] == "prune" and row.get("verification") != "betting"]
        rows += [{**row, "removal": f"removal-{i}"} for row in some for i in range(count)]
    return tables


def test_many_removals_have_numbers_and_match_rates_below():
    (picture,) = wash_pictures(study_findings(many_removals()))[:1]
    assert "numbers are removals" in picture.caption
    (few,) = wash_pictures(study_findings(made()))
    assert "marks are removals" in few.caption


def test_who_carries_the_marks_and_what_they_cost(full):
    (row,) = full.findings.marks
    assert row["seeds"] == 3
    assert (round(row["cost"], 3), round(row["cost_most"], 3)) == (0.02, 0.03)
    assert row["copies"] == {"label-query": pytest.approx(0.9), "fine-tuning": pytest.approx(0.9)}
    assert "summary-marks" in full.sheets
    rates = {line.cells[-2].text for line in full.sheets["summary-power"].lines}
    assert rates == {"90.0 %", "20.0 %"}
    said = " ".join(sentences(full.findings)["found"])
    assert "Marks cost 2 to 2 points of accuracy on average" in said


def test_a_thief_who_wins_is_named(full):
    said = " ".join(sentences(full.findings)["found"])
    assert "12 attempts to wash copies" not in said
    assert "6 attempts to wash copies of label-query that carried evidence" in said
    assert "6 were won by the thief, mostly by prune (6 of 6)" in said
    texts = {cell.text for line in full.sheets["summary-outcomes"].lines for cell in line.cells}
    assert "WON BY THE THIEF" in texts
    assert len(full.drawn["outcomes"]) == 4  # two extractions, two tests


def test_nothing_washed_and_nothing_measured():
    tables = made()
    for row in tables.tables["extractions"]:
        row.update(fidelity=None, curve=None)
    tables.tables["removals"].clear()
    found = study_findings(tables)
    assert copy_pictures(found) == []
    assert wash_pictures(found) == []
    Page(build_study_report(tables).html())


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"models": [{"role": "victim"}]},
        {"verdicts": [{"evidence": "e", "verification": "v", "stolen": False, "alpha": 0.01}]},
        {
            "panel": [
                {
                    "evidence": "e",
                    "panel": "p",
                    "verification": "v",
                    "kind": "k",
                    "stolen": True,
                    "alpha": 0.5,
                }
            ]
        },
        {"extractions": [{"extraction": "a", "fidelity": float("nan"), "queries": 0}]},
        {"own": [{"x": 1}]},
    ],
)
def test_little_to_report(tables):
    report = build_study_report(StudyTables("Bare", tables=tables))
    text = Page(report.html()).text
    assert ("no results yet" in text) == (not tables or "own" in tables)
    assert report.markdown().startswith("# Bare")
    assert len(report.rows()) == sum(map(len, tables.values()))


def test_large_studies_stay_readable():
    tables = made(seeds=2)
    first = tables.provenance[0]
    tables.provenance.extend({**first, "key": key("more", i)} for i in range(3000))
    for i in range(500):
        tables.tables["models"].append(
            {"role": "independent", "architecture": f"net-{i}", "step": key("more", i)}
        )
    report = build_study_report(tables, longest=50)
    report.__dict__["drawn"] = {kind: [] for kind in KINDS}
    page = Page(report.html())
    assert "The first 50 of 501 rows are shown" in page.text
    assert page.text.count("net-") == 49
    assert "3,0" in page.text
    assert "100 are listed" in page.text
    assert sum(i.startswith("step-") for i in page.ids) == 100
    # What is listed is what the tables rest on: no link is left without its end.
    links = {a[1:] for a in page.addresses if a.startswith("#step-")}
    assert links <= set(page.ids)
    assert len(report.html()) < 400_000


def test_many_steps_behind_one_row():
    rows = [{"role": "victim", "accuracy": 0.5, "step": key(i)} for i in range(60)]
    steps = [{"key": key(i), "kind": "train"} for i in range(60)]
    page = Page(build_study_report(StudyTables("t", tables={"models": rows}, provenance=steps)).html())
    assert "60 steps" in page.text
    assert "and 36 more" in page.text


def test_saving(tmp_path, full):
    target = full.save(tmp_path / "out")
    assert target.read_text(encoding="utf-8") == full.html()
    out = target.parent
    for link in re.findall(r"]\(([^)]*)\)", (out / "report.md").read_text(encoding="utf-8")):
        assert (out / link).is_file()
    assert StudyTables.load(out / "tables").to_json() == full.tables.to_json()
    with (out / "tables" / "summary-verdicts.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert float(rows[0]["p_holm"]) >= float(rows[0]["p_value"])
    power = json.loads((out / "tables" / "summaries.json").read_text())["summary-power"]
    assert [row["stolen"] for row in power] == [row["stolen"] for row in full.findings.power]
    try:
        from pyarrow import parquet
    except ImportError:
        assert not list((out / "tables").glob("*.parquet"))
    else:
        assert parquet.read_table(out / "tables" / "summary-power.parquet").num_rows == len(power)


def test_rows_carry_the_name_of_their_table(full):
    rows = full.rows()
    assert {row["table"] for row in rows} == {"models", "extractions", "removals", "verdicts", "panel"}
    assert all("p_holm" in row for row in rows if row["table"] == "verdicts")


# -- images -----------------------------------------------------------------------------------


def test_images_are_drawn_as_they_are():
    grey = np.arange(6, dtype=np.uint8).reshape(1, 2, 3) * 50
    colour = np.zeros((3, 2, 2), dtype=np.float32)
    colour[0] = 1.0
    tiles = Gallery("t", images=[("grey", grey), ("red", colour)]).tiles
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(tiles[0].png))), grey[0])
    assert np.asarray(Image.open(io.BytesIO(tiles[1].png)))[0, 0].tolist() == [255, 0, 0]
    big = images()[1].tiles[0]
    assert max(Image.open(io.BytesIO(big.png)).size) == 224


def test_galleries_come_back(tmp_path):
    made = images()
    for i, gallery in enumerate(made):
        gallery.save(tmp_path / "galleries" / f"{i}.safetensors")
    found = load_galleries(tmp_path)
    assert [g.title for g in found] == [g.title for g in made]
    for one, two in zip(made, found, strict=True):
        assert [label for label, _ in one.images] == [label for label, _ in two.images]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(one.images, two.images, strict=True))


def test_too_many_images_are_not_shown(monkeypatch):
    gallery = Gallery("Many", images=[(str(i), np.zeros((1, 2, 2))) for i in range(120)])
    text = Page(build_study_report(StudyTables("t"), [gallery]).html()).text
    assert "The first 96 of 120 images are shown." in text


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8)),
        np.zeros((2, 8, 8)),
        np.zeros((1, 0, 8)),
        np.zeros((1, 5000, 1)),
        np.full((1, 2, 2), 1.5),
        np.full((1, 2, 2), np.nan),
        np.zeros((1, 2, 2), dtype=np.int64),
    ],
)
def test_bad_images_are_refused(image):
    with pytest.raises(InvalidInput, match="an image must"):
        Gallery("t", images=[("x", image)])


def test_bad_galleries_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="title"):
        Gallery(3)
    (tmp_path / "galleries").mkdir()
    (tmp_path / "galleries" / "x.safetensors").write_bytes(b"not a gallery")
    with pytest.raises(InvalidInput, match="no gallery"):
        load_galleries(tmp_path)
    from safetensors.numpy import save_file

    save_file({"0": np.zeros((1, 2, 2))}, tmp_path / "galleries" / "x.safetensors", {"labels": "[]"})
    with pytest.raises(InvalidInput, match="no gallery"):
        load_galleries(tmp_path)


# -- bad input --------------------------------------------------------------------------------


def test_bad_input_is_refused():
    with pytest.raises(InvalidInput, match="StudyTables"):
        build_study_report({"title": "t"})
    with pytest.raises(InvalidInput, match="Gallery"):
        build_study_report(StudyTables("t"), ["image"])
    with pytest.raises(InvalidInput, match="longest"):
        build_study_report(StudyTables("t"), longest=0)


@pytest.mark.parametrize("absent", ["jinja2", "matplotlib.figure"])
def test_missing_packages_are_named(monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingDependency, match=r"assay-ml\[report\]"):
        build_study_report(made(seeds=1)).html()
