import json
import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
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

EFFECT = Effect("mean-difference", 0.5, -math.inf, math.inf)
RESULT = TestResult("welch", "same mean", math.nan, 1.0, {"private": 3}, EFFECT, exact=True, reason="why")
VERDICT = Verdict(
    decision="stolen",
    alpha=0.01,
    p_value=0.001,
    test="permutation",
    null="exchangeable",
    n={"private": 40, "control": 40},
    effect=EFFECT,
    cost=Cost(queries=12, dollars=0.5),
    scheme="dataset-inference",
    commitment="c" * 64,
    suspect="s" * 64,
    companions=(RESULT, RESULT),
    assumptions=(Assumption("the split was random", None), Assumption("checked", holds=True)),
    calibration=Calibration(20, 0, 0.01, Interval(0.0, 0.0, 0.17)),
    samples={"private": [1.0, math.inf, -math.inf], "control": []},
    details={"rows": 3, "names": ["a"]},
    versions={"assay": "0"},
)


def test_a_full_verdict_survives_json_exactly():
    back = Verdict.from_json(VERDICT.to_json())
    assert back.samples == VERDICT.samples
    assert math.isnan(back.companions[0].statistic)
    assert back.to_json() == VERDICT.to_json()
    plain = {f.name: getattr(VERDICT, f.name) for f in fields(VERDICT) if f.name != "companions"}
    assert Verdict(**plain) == Verdict(**{**plain, **{k: getattr(back, k) for k in plain}})


def test_json_has_no_bare_nan():
    json.loads(VERDICT.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.integers(0, 10**9))
def test_numbers_survive(low, high, queries):
    interval = Interval(0.5, low, high)
    assert Interval.from_json(interval.to_json()) == interval
    point = CurvePoint(queries, low, high)
    assert CurvePoint.from_json(point.to_json()) == point


def test_saved_records_load_and_leave_no_partial_file(tmp_path):
    RESULT.save(tmp_path / "deep" / "result.json")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["result.json"]
    assert TestResult.load(tmp_path / "deep" / "result.json").effect == EFFECT


@pytest.mark.parametrize(
    "change",
    [
        {"unheard-of": 1},
        {"queries": 1.5},
        {"queries": True},
        {"dollars": "a lot"},
        {"dollars": None},
        {"dollars": False},
    ],
)
def test_malformed_records_are_refused(change):
    with pytest.raises(InvalidInput):
        Cost.from_dict({**Cost().to_dict(), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"decision": "not stolen"},
        {"companions": 3},
        {"companions": [{"test": "x"}]},
        {"n": [1, 2]},
        {"samples": {"private": 3}},
        {"effect": "large"},
    ],
)
def test_malformed_verdicts_are_refused(change):
    with pytest.raises(InvalidInput):
        Verdict.from_dict({**VERDICT.to_dict(), **change})


def test_missing_fields_broken_json_and_missing_files_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="not a Interval"):
        Interval.from_dict({"value": 1.0})
    with pytest.raises(InvalidInput, match="not JSON"):
        Interval.from_json("{")
    with pytest.raises(InvalidInput, match="JSON object"):
        Interval.from_json("[]")
    with pytest.raises(InvalidInput, match="cannot read"):
        Interval.load(tmp_path / "nothing.json")


def test_verdict_says_stolen_only_when_it_decided_so():
    assert VERDICT.stolen
    assert VERDICT.queries == 12
    assert not Verdict.from_dict({**VERDICT.to_dict(), "decision": "inconclusive"}).stolen
