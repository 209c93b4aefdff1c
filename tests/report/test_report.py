"""Reports from made-up records: complete, inert, and robust against what suspects call themselves."""

import base64
import csv
import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from assay.errors import InvalidInput, MissingDependency
from assay.extraction import ExtractionRecord
from assay.report import Entry, build_report, load_entries, table_rows
from assay.report.summary import summarise
from assay.result import (
    Assumption,
    Calibration,
    Cost,
    CurvePoint,
    Effect,
    Interval,
    TestResult,
    Verdict,
)

NASTY = "<script>alert(1)</script> $x^{$ | `a` \u202e \x00 漢 \"'"


def verdict(p=0.001, *, kind="walk", rows=50, **changes):
    rng = np.random.default_rng(round(1e6 * min(p, 1)) if np.isfinite(p) else 0)
    samples = {"private": rng.normal(1, 1, rows).tolist(), "control": rng.normal(0, 1, rows).tolist()}
    if kind == "labels":
        samples["log_wealth"] = np.cumsum(rng.normal(0.1, 0.3, 2 * rows)).tolist()
    if kind == "trigger":
        samples = {"key": [0.9], "decoys": rng.binomial(40, 0.1, 99).tolist()}
    fields = {
        "decision": "stolen" if p <= 0.01 else "inconclusive",
        "alpha": 0.01,
        "p_value": p,
        "test": "coin-betting" if kind == "labels" else "permutation",
        "null": "the answers are independent of the draw",
        "n": {"private": rows, "control": rows},
        "effect": Effect("cohen-d", 1.0, 0.5, 1.5),
        "cost": Cost(queries=1234, round_trips=3, seconds=0.2),
        "scheme": "dataset-inference",
        "commitment": "c" * 64,
        "suspect": "5" * 64,
        "companions": (TestResult("welch", "null", 1.0, 0.25, {"a": 3}),),
        "assumptions": (
            Assumption("the split is random", None, "committed"),
            Assumption("blind", holds=True),
        ),
        "calibration": Calibration(12, 0, 0.01, Interval(0.0, 0.0, 0.26), "panel"),
        "samples": samples,
        "details": {"embedding": kind, "rows": [1, 2]},
        "seed": 7,
        "versions": {"assay": "0.1"},
    }
    return Verdict(**{**fields, **changes})


def theft(**changes):
    fields = {
        "attack": "label-query",
        "parameters": {},
        "victim": "v" * 64,
        "surrogate": "s" * 64,
        "cost": Cost(queries=4000, round_trips=1),
        "fidelity": Interval(0.9, 0.8, 0.95),
        "accuracy": Interval(0.85, 0.75, 0.9),
        "victim_accuracy": Interval(0.92, 0.9, 0.95),
        "curve": (CurvePoint(250, 0.7, 0.6), CurvePoint(4000, 0.9, 0.85)),
    }
    return ExtractionRecord(**{**fields, **changes})


def many():
    entries = [Entry(theft(), "copy", truth="stolen")]
    for kind in ("labels", "walk", "trigger"):
        entries.append(Entry(verdict(2e-4, kind=kind), "copy", kind, "stolen"))
        entries.append(Entry(verdict(0.3, kind=kind), "somebody", kind))
        entries += [
            Entry(verdict(0.1 + 0.25 * i, kind=kind), f"other {i}", kind, "independent") for i in range(3)
        ]
    return entries


class Page(HTMLParser):
    """Collects tags, addresses and text, and checks that elements nest."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in {"src", "href", "action", "srcset", "poster"}]
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
    return build_report(many(), "A report", notes=["What was done."])


def test_the_page_shows_every_record_and_picture(full):
    page = Page(full.html())
    for words in (
        "A report",
        "What was done.",
        "other 2",
        "somebody",
        "welch",
        "they do not decide",
        "1,234",
    ):
        assert words in page.text
    assert page.tags.count("details") == 15
    assert {p.key for p in full.pictures} == {
        "p-values", "independent", "queries", "thefts", "wealth-0", "scores-0", "scores-1", "scores-2",
    }  # fmt: skip
    images = [a for a in page.addresses if a.startswith("data:")]
    assert len(images) == page.tags.count("img")
    # Whole, not only present: what the page holds is what was drawn.
    shown = {base64.b64decode(a.partition(",")[2]).decode() for a in images}
    assert shown == {p.svg for p in full.pictures}


def test_the_page_asks_nobody_for_anything(full):
    page = Page(full.html())
    assert all(a.startswith(("#", "data:image/svg+xml;base64,")) for a in page.addresses)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "url(" not in full.html()
    assert "@import" not in full.html()
    for picture in full.pictures:
        root = ET.fromstring(picture.svg)
        links = [v for node in root.iter() for k, v in node.attrib.items() if k.endswith("href")]
        assert all(link.startswith("#") for link in links)
        assert not [node for node in root.iter() if node.tag.endswith(("script", "image", "foreignObject"))]


def test_pictures_are_the_same_for_the_same_records(full):
    again = build_report(many())
    assert [p.svg for p in again.pictures] == [p.svg for p in full.pictures]


def test_names_cannot_break_out():
    bad = verdict(
        test=NASTY,
        null=NASTY,
        scheme=NASTY,
        suspect=NASTY,
        commitment=NASTY,
        reason=NASTY,
        n={NASTY: 3},
        details={NASTY: NASTY},
        versions={NASTY: NASTY},
    )
    entries = [Entry(bad, NASTY, NASTY, t) for t in ("stolen", "independent")]
    entries.append(Entry(theft(attack=NASTY), NASTY))
    report = build_report(entries, NASTY, notes=[NASTY])
    html, markdown = report.html(), report.markdown("pictures")
    assert "script" not in Page(html).tags
    assert "<script" not in re.sub(r"\\.", "", markdown)
    for text in (html, markdown):
        assert "\u202e" not in text
        assert "\x00" not in text
    # An unescaped bar would give a row of a Markdown table another number of cells.
    tables = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_numbers_that_are_none():
    nan, inf = float("nan"), float("inf")
    entries = [
        Entry(verdict(nan, effect=Effect("d", nan, -inf, inf), cost=Cost()), "a", "e", "independent"),
        Entry(verdict(1e-300, effect=None, samples={"private": [nan], "control": []}), "b", "e", "stolen"),
        Entry(verdict(0.5, samples={"log_wealth": [nan, inf, -inf, 0.0]}), "c", "e", "independent"),
        Entry(verdict(0.5, samples={"private": [1.0], "control": [1.0]}), "d", "e", "independent"),
        Entry(theft(fidelity=Interval(nan, nan, nan), accuracy=None, curve=()), "e"),
    ]
    report = build_report(entries)
    assert "not a number" in Page(report.html()).text
    rows = json.loads(_saved_rows(report))
    assert rows[0]["p_value"] == "nan"
    assert rows[0]["effect_high"] == "inf"


def _saved_rows(report):
    from assay.report.rows import json_text

    return json_text(report.rows())


@pytest.mark.parametrize(
    "bare",
    [
        [],
        [Entry(verdict(samples={}, companions=(), assumptions=(), details={}, n={}, calibration=None))],
        [Entry(theft(fidelity=None, accuracy=None, victim_accuracy=None, curve=()))],
    ],
)
def test_little_to_report(bare):
    report = build_report(bare)
    Page(report.html())
    assert report.markdown().startswith("# Assay report")
    assert len(report.rows()) == len(bare)


def test_a_single_verdict_needs_no_labels():
    page = Page(build_report([Entry(verdict(0.002))]).html())
    assert "555555555555" in page.text
    assert "dataset-inference (walk)" in page.text


def test_no_verdict_hides_another():
    entries = [Entry(verdict(0.5), "same", "e"), Entry(verdict(0.002), "same", "e")]
    text = Page(build_report(entries).html()).text
    assert "same (2)" in text
    assert len(summarise(entries).verdicts()) == 2


def test_counts_by_evidence():
    kinds = {k.name: k for k in summarise(many()).kinds}
    assert kinds["walk"].flagged == {"stolen": 1, "unknown": 0, "independent": 0}
    assert kinds["walk"].suspects == {"stolen": 1, "unknown": 1, "independent": 3}
    assert kinds["walk"].rate["independent"].high == pytest.approx(1 - 0.025 ** (1 / 3))


def test_saving_and_loading(tmp_path, full):
    page = full.save(tmp_path / "out")
    assert page.read_text(encoding="utf-8") == full.html()
    with (tmp_path / "out" / "rows.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(full.entries)
    for link in re.findall(r"]\(([^)]*)\)", (tmp_path / "out" / "report.md").read_text(encoding="utf-8")):
        assert (tmp_path / "out" / link).is_file()
    folder = tmp_path / "suspect"
    theft().save(folder / "extraction.json")
    verdict(0.003).save(folder / "verdict-blind-walk.json")
    verdict(0.4).save(folder / "verdict.json")
    found = load_entries([folder])
    assert [(e.suspect, e.evidence, e.truth) for e in found] == [
        ("suspect", "", "unknown"),
        ("suspect", "blind-walk", "unknown"),
        ("suspect", "dataset-inference (walk)", "unknown"),
    ]
    (folder / "labels.json").write_text('{"suspect": "x", "truth": "stolen"}', encoding="utf-8")
    assert {(e.suspect, e.truth) for e in load_entries([folder / "verdict.json"])} == {("x", "stolen")}


@pytest.mark.parametrize("labels", ["[]", '{"suspect": 3}', "{", '{"truth": "perhaps"}'])
def test_bad_labels_are_refused(tmp_path, labels):
    verdict().save(tmp_path / "verdict.json")
    (tmp_path / "labels.json").write_text(labels, encoding="utf-8")
    with pytest.raises(InvalidInput):
        load_entries([tmp_path])


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no file or folder"):
        load_entries([tmp_path / "absent"])
    with pytest.raises(InvalidInput, match="no verdict"):
        load_entries([tmp_path])
    with pytest.raises(InvalidInput, match="Entry objects"):
        build_report([verdict()])
    with pytest.raises(InvalidInput, match="made of Verdict"):
        Entry("a verdict")
    with pytest.raises(InvalidInput, match="truth"):
        Entry(verdict(), truth="guilty")


def test_spreadsheets_compute_nothing():
    from assay.report.rows import csv_text

    text = csv_text(table_rows([Entry(verdict(), '=HYPERLINK("http://x")', "@e")]))
    row = next(csv.DictReader(io.StringIO(text)))
    assert row["suspect"].startswith("'=")
    assert row["evidence"] == "'@e"


@pytest.mark.parametrize("absent", ["jinja2", "matplotlib.figure"])
def test_missing_packages_are_named(monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingDependency, match=r"assay-ml\[report\]"):
        build_report([Entry(verdict())]).html()


def test_drawing_leaves_global_settings_alone(full):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    assert build_report([Entry(verdict())]).pictures
    assert dict(mpl.rcParams) == before
