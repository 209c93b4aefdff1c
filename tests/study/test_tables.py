"""Tables of a study and what is counted over them, against numbers known beforehand."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import sys

import numpy as np
import pytest
from scipy.stats import beta, binom

from assay.errors import InvalidInput, MissingDependency
from assay.statistics import clopper_pearson, holm
from assay.study.error_summary import bounded_mean, error_curve, error_table
from assay.study.power_summary import (
    adjusted_verdicts,
    clopper_pearson_band,
    power_curve,
    power_table,
    queries_within,
)
from assay.study.published import beside_published
from assay.study.tables import StudyTables, csv_text
from assay.study.trade_offs import (
    extraction_table,
    fidelity_curve,
    merge_shared,
    model_table,
    pareto_front,
    removal_table,
    trade_off_table,
)


def key(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def verdict(p=0.001, **changes):
    row = {
        "victim": "v",
        "evidence": "e",
        "extraction": "a",
        "removal": "none",
        "verification": "t",
        "access": "labels",
        "seed": 0,
        "alpha": 0.01,
        "p_value": p,
        "stolen": p is not None and p <= 0.01,
        "queries": 100,
    }
    row |= changes
    return {**row, "step": key(*row.values())}


def innocent(p, *, secret=0, model=0, **changes):
    row = verdict(p, panel="same", kind="independent", secret=secret, model=model, architecture="mlp")
    return row | changes


def study(**changes):
    rows = {
        "tables": {
            "verdicts": [verdict(companions={"welch": 0.2}, effect=math.inf)],
            "extractions": [{"extraction": "a", "curve": [[10, 0.5, math.nan]], "queries": 10}],
            "own": [{"anything": [1, {"x": None}], "n": 2, "share": 0.5, "good": True}],
        },
        "published": [
            {"table": "verdicts", "where": {}, "metric": "p_value", "value": 0.1, "source": "A paper"}
        ],
        "provenance": [{"key": key(1), "kind": "train", "inputs": [key(2)], "config": {"lr": 0.1}}],
        "about": {"preset": "tiny", "failed": [{"key": key(3), "kind": "x", "error": "why"}]},
    }
    return StudyTables("A study", **{**rows, **changes})


# -- the file ---------------------------------------------------------------------------------


def test_tables_come_back_as_they_were(tmp_path):
    made = study()
    file = made.save(tmp_path / "run")
    assert file.name == "study-tables.json"
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    for path in (file, file.parent):
        found = StudyTables.load(path)
        assert found.to_json() == made.to_json()
        assert found.rows("verdicts")[0]["effect"] == math.inf
        assert math.isnan(found.rows("extractions")[0]["curve"][0][2])
        assert found.rows("extractions")[0]["accuracy"] is None
    assert "NaN" not in file.read_text()


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"tables": {"verdicts": [verdict(p_value=1.5)]}}, r"verdicts, row 1, column 'p_value'.*0 to 1"),
        ({"tables": {"verdicts": [verdict(), verdict(seed="one")]}}, r"row 2, column 'seed'.*whole"),
        ({"tables": {"verdicts": [verdict(seed=True)]}}, "whole"),
        ({"tables": {"verdicts": [verdict(stolen=1)]}}, "true or false"),
        ({"tables": {"verdicts": [verdict() | {"step": "abc"}]}}, "64 hexadecimal"),
        ({"tables": {"verdicts": [{"evidence": "e"}]}}, "'verification' is missing"),
        ({"tables": {"extractions": [{"extraction": "a", "curve": [[1, 2]]}]}}, "fidelity, accuracy"),
        ({"tables": {"extractions": [{"extraction": "a", "curve": "abc"}]}}, "fidelity, accuracy"),
        ({"tables": {"verdicts": [verdict(companions={"t": "small"})]}}, "expected a number"),
        ({"tables": {"verdicts": [verdict(companions=[1])]}}, "names with numbers"),
        ({"tables": {"verdicts": {}}}, "list of rows"),
        ({"tables": {"models": ["victim"]}}, "named columns"),
        ({"tables": {"../up": []}}, "a-z"),
        ({"tables": []}, "object of tables"),
        ({"alpha": 0.0}, "between 0 and 1"),
        ({"alpha": True}, "between 0 and 1"),
        ({"title": None}, "title"),
        ({"provenance": [{"key": "short", "kind": "x"}]}, "hexadecimal"),
        ({"provenance": [{"key": key(1), "kind": "x", "seconds": "long"}]}, "seconds"),
        ({"provenance": [{"key": key(1), "kind": "x", "inputs": {}}]}, "inputs"),
        ({"provenance": [{"key": key(1), "kind": "x", "inputs": [3]}]}, "inputs"),
        ({"published": [{"table": "verdicts"}]}, "metric"),
        ({"published": [{"table": "t", "metric": "m", "source": "s", "where": {"a": [1]}}]}, "one value"),
        ({"published": [{"table": "t", "metric": "m", "source": "s", "where": {}}]}, "value"),
        ({"about": {"failed": "all"}}, "failed"),
        ({"about": []}, "about"),
    ],
)
def test_bad_tables_are_refused(change, hint):
    with pytest.raises(InvalidInput, match=hint):
        StudyTables(**{"title": "t", **change})


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{", "cannot read"),
        ("[]", "JSON object"),
        ("{}", "schema"),
        ('{"schema": 99, "title": "t"}', "schema"),
        ('{"schema": 1}', "title"),
        ('{"schema": 1, "title": "t", "more": 1}', "more"),
        ('{"schema": 1, "title": 3}', r"study-tables.json: title"),
        ("[" * 100_000, "cannot read"),
        ("\udcff", "cannot read"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, hint):
    (tmp_path / "study-tables.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InvalidInput, match=hint):
        StudyTables.load(tmp_path)


def test_no_file_at_all(tmp_path):
    with pytest.raises(InvalidInput, match="cannot read"):
        StudyTables.load(tmp_path)
    with pytest.raises(InvalidInput, match="plain JSON"):
        study(about={"x": object()}).to_json()


def test_csv_files_hold_every_table(tmp_path):
    files = study().save_csv(tmp_path, {"summary": [{"a": 1, "steps": ["x"]}]})
    assert {f.stem for f in files} == {"verdicts", "extractions", "own", "published", "provenance", "summary"}
    with (tmp_path / "verdicts.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["p_value"], row["removal"], row["reason"]) == ("0.001", "none", "")
    assert json.loads(row["companions"]) == {"welch": 0.2}
    with pytest.raises(InvalidInput, match="own"):
        study().save_csv(tmp_path, {"own": []})


def test_spreadsheets_compute_nothing():
    assert csv_text([{"a": "=1+1", "b": "-1", "c": -1}]) == "a,b,c\n'=1+1,'-1,-1\n"


def test_parquet_files_have_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [verdict(step_seed=2**63), verdict(None, queries=None)]
    files = study(tables={**study().tables, "verdicts": rows, "models": []}).save_parquet(tmp_path)
    assert "models.parquet" not in {f.name for f in files}
    table = parquet.read_table(tmp_path / "verdicts.parquet")
    types = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    assert (types["p_value"], types["queries"], types["stolen"]) == ("double", "int64", "bool")
    assert types["step_seed"] == "string"  # larger than 64 bits with a sign
    assert table.column("queries").to_pylist() == [100, None]
    own = parquet.read_table(tmp_path / "own.parquet").to_pylist()
    assert own == [{"anything": '[1, {"x": null}]', "n": 2, "share": 0.5, "good": True}]


def test_parquet_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"assay-ml\[parquet\]"):
        study().save_parquet(tmp_path)


# -- many suspects ----------------------------------------------------------------------------


def test_families_are_adjusted_by_themselves():
    p = [0.004, 0.001, 0.03]
    rows = [verdict(x, extraction=str(i), seed=s) for s in (0, 1) for i, x in enumerate(p)]
    rows += [verdict(0.009, evidence="other")]
    found = adjusted_verdicts(rows)
    assert [row["step"] for row in found] == [row["step"] for row in rows]
    assert [row["p_holm"] for row in found[:3]] == pytest.approx([0.008, 0.003, 0.03])
    assert [row["p_bh"] for row in found[3:6]] == pytest.approx([0.006, 0.003, 0.03])
    assert [row["family"] for row in found] == [3] * 6 + [1]
    assert found[-1]["p_holm"] == 0.009
    assert [row["stolen_holm"] for row in found[:3]] == [True, True, False]
    assert "p_holm" not in rows[0]


def test_adjustment_is_ordered_and_never_helps():
    rng = np.random.default_rng(3)
    rows = [verdict(float(p), extraction=str(i)) for i, p in enumerate(rng.random(40) ** 3)]
    found = sorted(adjusted_verdicts(rows), key=lambda row: row["p_value"])
    for name in ("p_holm", "p_bh"):
        values = [row[name] for row in found]
        assert values == sorted(values)
        assert all(row[name] >= row["p_value"] for row in found)
    assert all(row["p_bh"] <= row["p_holm"] for row in found)
    assert [row["p_holm"] for row in found] == pytest.approx(holm([row["p_value"] for row in found]))


def test_a_missing_p_value_counts_as_one():
    found = adjusted_verdicts(
        [verdict(0.006), verdict(None, extraction="b"), verdict(math.nan, extraction="c")]
    )
    assert [row["p_holm"] for row in found] == pytest.approx([0.018, 1.0, 1.0])


# -- power ------------------------------------------------------------------------------------


def test_power_is_counted_exactly():
    rows = [verdict(0.001, seed=s, queries=10 * (s + 1)) for s in range(18)]
    rows += [verdict(0.5, seed=s, queries=900) for s in (18, 19)]
    rows += [verdict(0.5, seed=0, removal="prune")]
    first, second = power_table(rows)
    assert (first["stolen"], first["verdicts"], first["seeds"]) == (18, 20, 20)
    assert first["share_low"] == pytest.approx(beta.ppf(0.025, 18, 3))
    assert first["share_high"] == pytest.approx(beta.ppf(0.975, 19, 2))
    assert (first["queries_median"], first["queries_90"], first["queries_95"]) == (100, 180, None)
    assert (first["queries_most"], first["p_median"]) == (900, 0.001)
    assert first["steps"] == [row["step"] for row in rows[:20]]
    assert (second["removal"], second["stolen"], second["queries_median"]) == ("prune", 0, None)


def test_settings_of_one_test_stand_together():
    rows = [verdict(extraction=a, verification=t) for a in "ab" for t in "xy"]
    found = [(row["verification"], row["extraction"]) for row in power_table(rows)]
    assert found == [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")]


@pytest.mark.parametrize(("share", "expected"), [(0.05, 1), (0.5, 10), (0.95, 19), (1.0, 20)])
def test_shares_of_repetitions_are_whole_ones(share, expected):
    rows = [verdict(queries=q) for q in range(1, 21)]
    assert queries_within(rows, share) == expected
    assert queries_within([*rows[1:], verdict(0.5)], 1.0) is None


def test_power_curves_rise_to_the_share_found():
    rng = np.random.default_rng(0)
    rows = [
        verdict(float(p), queries=int(q))
        for p, q in zip(rng.random(30) ** 6, rng.integers(1, 99, 30), strict=True)
    ]
    curve = power_curve(rows)
    shares = [point["share"] for point in curve]
    assert shares == sorted(shares)
    assert shares[-1] == power_table(rows)[0]["share"]
    assert curve[-1]["queries"] == max(row["queries"] for row in rows)
    assert all(point["low"] <= point["share"] <= point["high"] for point in curve)
    assert power_curve([]) == []
    # A verdict that was not "stolen" is reached by no number of queries.
    assert [p["share"] for p in power_curve([verdict(0.5, queries=5)])] == [0.0, 0.0]


def test_the_band_is_clopper_and_pearson():
    low, high = clopper_pearson_band(range(13), 12, 0.9)
    for k in range(13):
        exact = clopper_pearson(k, 12, 0.9)
        assert (low[k], high[k]) == pytest.approx((exact.low, exact.high))


# -- error rates ------------------------------------------------------------------------------


def test_error_rates_are_counted_exactly():
    rows = [innocent(0.005 if m < 2 else 0.5, secret=0, model=m) for m in range(4)]
    rows += [innocent(0.04 if m == 0 else 0.7, secret=s, model=m) for s in range(1, 5) for m in range(4)]
    rows += [innocent(0.9, kind="redraw", secret=9)]
    found, redraw = error_table(rows)
    assert (found["verdicts"], found["false_positives"], found["rate"]) == (20, 2, 0.1)
    assert (found["rate_low"], found["rate_high"]) == pytest.approx(
        (beta.ppf(0.025, 2, 19), beta.ppf(0.975, 3, 18))
    )
    assert (found["secrets"], found["models"], found["secrets_accusing"]) == (5, 4, 1)
    assert found["secret_rate"] == pytest.approx(0.1)
    assert found["share_5"] == pytest.approx(6 / 20)
    assert (redraw["kind"], redraw["verdicts"], redraw["secrets"]) == ("redraw", 1, 1)
    # One verdict a secret, another model each time.
    assert found["ks_p_secrets"] > found["ks_p"]


def test_secrets_of_different_seeds_are_different():
    rows = [innocent(0.5, secret=-1, seed=s) for s in range(3)]
    assert error_table(rows)[0]["secrets"] == 3


def test_a_shared_secret_widens_the_interval():
    apart = [innocent(0.001 if i < 5 else 0.5, secret=i) for i in range(50)]
    together = [innocent(0.001 if i < 5 else 0.5, secret=i // 5, model=i) for i in range(50)]
    one, two = error_table(apart)[0], error_table(together)[0]
    assert one["rate_high"] == two["rate_high"]
    assert one["secret_rate"] == two["secret_rate"] == pytest.approx(0.1)
    assert two["secret_high"] > one["secret_high"] > one["rate_high"]


@pytest.mark.parametrize("n", [1, 5, 40])
def test_the_interval_of_bounded_means_is_exact_at_its_ends(n):
    for value in (0, 1):
        found, exact = bounded_mean([float(value)] * n), clopper_pearson(value * n, n)
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-12)


@pytest.mark.parametrize(("n", "rate"), [(10, 0.02), (10, 0.3), (60, 0.01), (60, 0.5)])
def test_the_interval_of_bounded_means_covers(n, rate):
    # Whole numbers 0 and 1 vary most; their coverage can be summed up exactly.
    covered = 0.0
    for k in range(n + 1):
        found = bounded_mean([1.0] * k + [0.0] * (n - k), 0.9)
        covered += binom.pmf(k, n, rate) * (found.low <= rate <= found.high)
    assert covered >= 0.9
    middle = bounded_mean([0.25] * n)
    assert 0 < middle.low < 0.25 < middle.high < 1


def test_error_curves_of_uniform_and_of_broken_tests():
    grid = (np.arange(200) + 0.5) / 200
    fair, broken = error_curve(grid), error_curve(grid**3)
    for curve in (fair, broken):
        assert np.all(np.diff(curve["share"]) >= 0)
        assert np.all((curve["low"] <= curve["share"]) & (curve["share"] <= curve["high"]))
        assert curve["share"][-1] == 1.0
    level = fair["level"]
    assert np.all((fair["low"] <= level) & (level <= fair["high"]))
    assert np.any(broken["low"] > level)


@pytest.mark.parametrize("values", [[], [1.2], [math.nan], [[0.1]]])
def test_bad_means_are_refused(values):
    with pytest.raises(InvalidInput):
        bounded_mean(values)
    if values != [[0.1]]:
        with pytest.raises(InvalidInput):
            error_curve(values)


# -- what thieves pay -------------------------------------------------------------------------


def test_fronts_against_the_definition():
    rng = np.random.default_rng(1)
    points = [(int(x), int(y)) for x, y in rng.integers(0, 12, size=(60, 2))]

    def dominated(p):
        return any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)

    assert pareto_front(points) == [not dominated(p) for p in points]
    assert pareto_front([]) == []
    with pytest.raises(InvalidInput):
        pareto_front([(0.0, math.nan)])


def test_extractions_are_averaged_and_ranked():
    rows = [
        {"victim": "v", "extraction": "a", "queries": q, "fidelity": f} for q, f in [(100, 0.8), (300, 0.9)]
    ]
    rows += [{"victim": "v", "extraction": "b", "queries": 200, "fidelity": 0.7}]
    rows += [{"victim": "w", "extraction": "b", "queries": 200, "fidelity": 0.7}]
    rows += [{"victim": "v", "extraction": "c", "queries": None, "fidelity": 0.99}]
    rows += [{"victim": "v", "extraction": "insider", "queries": 0, "fidelity": 0.99}]
    found = {(row["victim"], row["extraction"]): row for row in extraction_table(rows)}
    a = found["v", "a"]
    assert (a["queries"], a["copies"], a["fidelity_least"], a["fidelity_most"]) == (200, 2, 0.8, 0.9)
    assert a["fidelity"] == pytest.approx(0.85)
    front = {name for name, row in found.items() if row["front"]}
    assert front == {("v", "a"), ("w", "b")}


def test_curves_average_what_was_measured_at_the_same_queries():
    rows = [{"curve": [[100, 0.6, 0.5], [400, 0.9, 0.8]]}, {"curve": [[100, 0.8, None]]}]
    rows += [{"queries": 400, "fidelity": 0.7, "accuracy": 0.6}, {"queries": None}]
    first, last = fidelity_curve(rows)
    assert (first["queries"], first["copies"], first["accuracy"]) == (100, 2, 0.5)
    assert (last["queries"], last["fidelity_least"], last["fidelity_most"]) == (400, 0.7, 0.9)


def test_washing_is_weighed_against_what_it_costs():
    place = {"victim": "v", "evidence": "e", "extraction": "a"}
    removals = [
        {**place, "removal": r, "seed": s, "accuracy_before": 0.9, "accuracy": 0.9 - lost, "step": key(r, s)}
        for r, lost in [("prune", 0.02), ("noise", 0.1)]
        for s in (0, 1)
    ]
    verdicts = [
        verdict(p, removal=r, seed=s)
        for r, p in [("none", 1e-8), ("prune", 0.1), ("noise", 1e-4)]
        for s in (0, 1)
    ]
    found = {row["removal"]: row for row in trade_off_table(verdicts, removals)}
    assert [found[r]["front"] for r in ("none", "prune", "noise")] == [True, True, False]
    assert [found[r]["lost"] for r in ("none", "prune", "noise")] == pytest.approx([0, 0.02, 0.1])
    assert [found[r]["evidence_left"] for r in ("none", "prune", "noise")] == pytest.approx([8, 1, 4])
    assert [found[r]["share"] for r in ("none", "prune", "noise")] == [1, 0, 1]
    assert key("prune", 1) in found["prune"]["steps"]
    # Copies of a victim without evidence of its own serve all kinds of evidence.
    shared = [{**row, "evidence": None} for row in removals]
    assert trade_off_table(verdicts, shared) == trade_off_table(verdicts, removals)
    lost = trade_off_table(verdicts, [])
    assert [row["lost"] for row in lost] == [0.0, None, None]
    assert [row["front"] for row in lost] == [True, False, False]
    assert removal_table(removals)[0]["lost"] == pytest.approx(0.02)


def test_shared_steps_count_once():
    rows = [{"victim": "v", "evidence": e, "extraction": "a", "step": key(s)} for e in "xy" for s in (1, 2)]
    rows += [{"victim": "v", "evidence": "z", "extraction": "a", "step": key(3)}]
    assert [row["evidence"] for row in merge_shared(rows)] == ["x, y", "x, y", "z"]
    assert [(row["evidence"], row["copies"]) for row in extraction_table(rows)] == [("x, y", 2), ("z", 1)]
    models = [
        {"role": "victim", "evidence": e, "step": key(s), "accuracy": 0.5} for e in "xy" for s in (1, 2)
    ]
    assert model_table(models)[0]["models"] == 2
    assert model_table([{"role": "victim"}, {"role": "victim"}])[0]["models"] == 2


# -- published numbers ------------------------------------------------------------------------


def test_published_numbers_stand_beside_their_rows():
    rows = [verdict(p, seed=s, effect=float(s)) for s, p in enumerate([0.001, 0.004, 0.5])]

    def beside(metric, **where):
        paper = {"table": "verdicts", "where": where, "metric": metric, "value": 1.0, "source": "A paper"}
        return beside_published([paper], {"verdicts": rows})[0]

    share = beside("stolen", extraction="a")
    exact = clopper_pearson(2, 3)
    assert (share["statistic"], share["ours"], share["rows"]) == ("share", pytest.approx(2 / 3), 3)
    assert (share["low"], share["high"]) == pytest.approx((exact.low, exact.high))
    assert len(share["steps"]) == 3
    assert (beside("p_value")["statistic"], beside("p_value")["ours"]) == ("median", 0.004)
    assert (beside("effect", seed=2)["statistic"], beside("effect", seed=2)["ours"]) == ("mean", 2.0)
    for unknown in (beside("p_value", extraction="b"), beside("p_value", column=1)):
        assert (unknown["rows"], unknown["ours"], unknown["value"]) == (0, None, 1.0)
    assert (beside("no such metric")["rows"], beside("no such metric")["ours"]) == (3, None)
