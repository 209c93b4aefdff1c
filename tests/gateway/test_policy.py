import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assay.errors import EvidenceTampered, InvalidInput
from assay.gateway.policy import (
    Budgets,
    Calibration,
    Defence,
    Detector,
    Policy,
    Pricing,
    Puzzle,
    Tier,
    check_step,
    load_policy,
    parse_policy,
    save_policy,
    sign,
)
from assay.gateway.toml import dump_toml

KEY = bytes(range(32))


def full_policy(**changes):
    return Policy(
        version=7,
        model="digits",
        pricing=Pricing(llr_edges=(-50.25, -1e-3), llr_values=(-3.0, 0.1, 1.5), delta=1e-6),
        budgets=Budgets(epsilon=8.0, queries_per_day=1000),
        tiers={"standard": Tier(), "paying customers": Tier(price_factor=0.0, budget_factor=10.0)},
        answers=(Defence(name="rounding", settings={"digits": 2}), Defence(name="top_k")),
        detectors=(Detector(name="prada", settings={"threshold": 0.9}, action="throttle"),),
        calibration=Calibration(
            provenance={"traffic": 'quoted "name" \\ é', "rows": 12, "forced": True},
            ratios={"two-image blends": {"stateless": 3.2}},
        ),
    ).model_copy(update=changes)


def test_a_policy_survives_its_file(tmp_path):
    policy = sign(full_policy(), KEY)
    path = save_policy(policy, tmp_path / "policy.toml")
    assert load_policy(path, KEY) == policy
    assert not list(tmp_path.glob("*.partial"))


def test_defaults_survive_their_file(tmp_path):
    assert load_policy(save_policy(Policy(), tmp_path / "p.toml")) == Policy()


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("beta = 1.0", "beta = 0.5"),
        ("version = 7", "version = 8"),
        ("digits = 2", "digits = 6"),
        ("queries_per_day = 1000", "queries_per_day = 100000"),
    ],
)
def test_a_changed_file_is_refused(tmp_path, line, other):
    path = save_policy(sign(full_policy(), KEY), tmp_path / "p.toml")
    text = path.read_text()
    assert line in text
    path.write_text(text.replace(line, other))
    for key in (KEY, None):
        with pytest.raises(EvidenceTampered, match="changed after it was signed"):
            load_policy(path, key)


def test_a_forger_without_the_key_is_refused(tmp_path):
    path = save_policy(sign(full_policy(), b"another key of the attacker"), tmp_path / "p.toml")
    with pytest.raises(EvidenceTampered, match="another key"):
        load_policy(path, KEY)
    assert load_policy(path).version == 7  # nothing to check the forgery with


def test_an_unsigned_file_is_refused_where_a_key_is_given(tmp_path):
    path = save_policy(full_policy(), tmp_path / "p.toml")
    with pytest.raises(EvidenceTampered, match="not signed"):
        load_policy(path, KEY)


def test_a_short_key_is_refused():
    with pytest.raises(InvalidInput, match="at least 16 bytes"):
        sign(Policy(), b"short")


def test_a_step_back_is_refused_on_load(tmp_path):
    path = save_policy(sign(full_policy(version=6), KEY), tmp_path / "p.toml")
    with pytest.raises(InvalidInput, match="version 6"):
        load_policy(path, KEY, previous=full_policy())
    same = sign(full_policy(), KEY)
    assert load_policy(save_policy(same, tmp_path / "same.toml"), KEY, previous=full_policy()) == same


@pytest.mark.parametrize(
    "change",
    [
        {"hashes_per_unit": 2047.0},
        {"base_units": 0.24},
        {"mean_cost": 1.0},
        {"deposit_units": 60.0},
        {"max_multiplier": 20.0},
        {"threshold": 19.0},
        {"eta": 0.4},
    ],
)
def test_no_price_falls_more_than_twofold(change):
    old = Policy(version=1)
    changed = Pricing.model_validate(old.pricing.model_dump() | change)
    with pytest.raises(InvalidInput, match="more than twofold"):
        check_step(old, Policy(version=2, pricing=changed))


def test_a_twofold_fall_and_any_rise_are_steps():
    old = Policy(version=1)
    check_step(old, Policy(version=2, pricing=Pricing(hashes_per_unit=2048.0)))
    check_step(old, Policy(version=2, pricing=Pricing(hashes_per_unit=1e6)))


def test_a_smaller_unit_with_a_higher_price_is_no_fall():
    pricing = Pricing(
        hashes_per_unit=1024.0,
        base_units=2.0,
        deposit_units=512.0,
        p95_units=8.0,
        reserve_units=8.0,
        debt_cap_units=512.0,
    )
    check_step(Policy(version=1), Policy(version=2, pricing=pricing))


def test_the_smallest_puzzle_may_not_fall_by_two_bits():
    with pytest.raises(InvalidInput, match="min_bits"):
        check_step(Policy(), Policy(version=2, puzzle=Puzzle(min_bits=10.0)))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("version = 0", "version"),
        ("version = '1'", "version"),
        ("verison = 1", "verison"),
        ("[pricing]\nbeta = -1.0", "pricing.beta"),
        ("[pricing]\nbeta = nan", "finite"),
        ("[pricing]\nllr_values = [1.0, 2.0]", "llr_edges"),
        ("[pricing]\nllr_edges = [-1.0, -2.0]\nllr_values = [0.0, 0.0, 0.0]", "rising"),
        ("[pricing]\nfree_units = 500.0", "free_units"),
        ("[pricing]\nreserve_units = 50.0", "debt_cap_units"),
        ("[puzzle]\nalg = 'none'", "puzzle.alg"),
        ("[puzzle]\nalg = 'scrypt'", "at most 4"),
        ("[puzzle]\nmin_bits = 2.0", "sub-puzzles"),
        ("[tiers.gold]\nprice_factor = 0.5", "standard"),
        ("version = 2026-01-01", "finite number"),
        ("version =", "TOML"),
    ],
)
def test_bad_policies_are_refused_by_name(text, where):
    with pytest.raises(InvalidInput, match=where):
        parse_policy(text)


def test_leaving_in_debt_must_not_pay():
    with pytest.raises(ValidationError, match="leaving in debt"):
        Pricing(deposit_units=10.0, free_units=16.0)


def test_a_policy_is_frozen():
    with pytest.raises(ValidationError):
        Policy().version = 2


def test_missing_and_oversized_files_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="cannot read"):
        load_policy(tmp_path / "none.toml")
    large = tmp_path / "large.toml"
    large.write_text("#" * (1024 * 1024 + 1))
    with pytest.raises(InvalidInput, match="larger"):
        load_policy(large)
    (tmp_path / "latin.toml").write_bytes(b"model = '\xff'")
    with pytest.raises(InvalidInput, match="cannot read"):
        load_policy(tmp_path / "latin.toml")


def test_unknown_tiers_get_standard_terms():
    assert full_policy().tier("nobody") == Tier()
    assert full_policy().tier("paying customers").price_factor == 0.0


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(text, st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, width=64))
finite = scalars.filter(lambda value: not isinstance(value, float) or abs(value) < float("inf"))
tables = st.recursive(
    st.dictionaries(text, finite, max_size=4),
    lambda inner: st.dictionaries(
        text, st.one_of(finite, inner, st.lists(inner, min_size=1, max_size=3)), max_size=4
    ),
    max_leaves=8,
)


@given(tables)
def test_written_toml_reads_back(data):
    assert tomllib.loads(dump_toml(data)) == data


def test_toml_has_no_form_for_objects():
    with pytest.raises(InvalidInput, match="no form"):
        dump_toml({"a": None})
