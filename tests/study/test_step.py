import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trivial_steps import numbers_and_sums

from assay.errors import InvalidInput, UnknownName
from assay.study.step import Step, canonical, step_version, topological

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
words = st.text('abé\\n"', max_size=3)
leaf = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9) | words
plain = leaf | st.lists(leaf, max_size=3) | st.dictionaries(words, leaf, max_size=3)
configs = st.dictionaries(words, plain, max_size=4)


def reversed_order(value):
    if isinstance(value, dict):
        return {k: reversed_order(v) for k, v in reversed(value.items())}
    return [reversed_order(v) for v in value] if isinstance(value, list) else value


@quick
@given(configs)
def test_order_of_configuration_keys_is_irrelevant(config):
    assert Step("trivial-number", config).key == Step("trivial-number", reversed_order(config)).key


@quick
@given(configs, configs)
def test_equal_keys_mean_equal_configurations(one, two):
    same = canonical(one) == canonical(two)
    assert (Step("trivial-number", one).key == Step("trivial-number", two).key) == same


@quick
@given(configs, st.text(), plain)
def test_any_change_of_a_value_changes_the_key(config, name, value):
    changed = {**config, name: value}
    before, after = Step("trivial-number", config), Step("trivial-number", changed)
    assert (before.key == after.key) == (name in config and canonical(config[name]) == canonical(value))


@quick
@given(configs, st.integers(0, 2**32), st.integers(0, 2**32), st.text(), st.text(), st.floats(0, 1e9))
def test_seed_counts_and_labels_and_estimates_do_not(config, seed, other, label, second, seconds):
    step = Step("trivial-number", config, seed=seed, label=label)
    assert (step.key == Step("trivial-number", config, seed=other).key) == (seed == other)
    estimates = {"seconds": seconds, "memory": 5, "gpus": 1.0}
    assert step.key == Step("trivial-number", config, seed=seed, label=second, **estimates).key


def test_kind_inputs_and_their_order_and_names_count():
    a, b = "a" * 64, "b" * 64
    variants = [
        Step("trivial-sum"),
        Step("trivial-number"),
        Step("trivial-sum", inputs={"terms": a}),
        Step("trivial-sum", inputs={"terms": (a,)}),
        Step("trivial-sum", inputs={"terms": (a, b)}),
        Step("trivial-sum", inputs={"terms": (b, a)}),
        Step("trivial-sum", inputs={"others": (a, b)}),
        Step("trivial-sum", {"terms": [a, b]}),
    ]
    assert len({step.key for step in variants}) == len(variants)


def test_a_new_version_of_a_kind_has_new_keys(monkeypatch):
    import trivial_steps

    before = numbers_and_sums(2)
    assert step_version("trivial-number") == 1
    monkeypatch.setattr(trivial_steps.number, "version", 2)
    after = numbers_and_sums(2)
    assert not {s.key for s in before} & {s.key for s in after}  # dependants change with it


def test_keys_do_not_change_between_processes_and_releases():
    # Artifacts of earlier releases are found by these keys.
    step = Step("trivial-number", {"b": [1, 2.5], "a": None}, seed=3)
    assert step.key == "b61cbbbb02e4def2646441df7043efdd2474b7175c6ef85ef8c1cefe123ea201"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", object()])
def test_configuration_must_be_json(value):
    with pytest.raises(InvalidInput, match="plain JSON"):
        _ = Step("trivial-number", {"value": value}).key


def test_unknown_kind_names_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'trivial-number'"):
        _ = Step("trivial-numbr").key


@quick
@given(st.data())
def test_topological_order_of_any_graph(data):
    steps = []
    for i in range(data.draw(st.integers(1, 12))):
        parents = data.draw(st.lists(st.sampled_from(steps), unique=True)) if steps else []
        steps.append(Step("trivial-sum", {"i": i}, {"terms": tuple(p.key for p in parents)}))
    given_order = data.draw(st.permutations([*steps, steps[0]]))
    order = [step.key for step in topological(given_order)]
    assert sorted(order) == sorted({s.key for s in steps})
    for step in steps:
        assert all(order.index(parent) < order.index(step.key) for parent in step.parents)


def test_a_missing_input_is_named():
    number, *_, last = numbers_and_sums(2)
    with pytest.raises(InvalidInput, match=r"the step all needs [0-9a-f]{12}, which is not in the plan"):
        topological([number, last])


def test_a_chain_of_thousands_needs_no_recursion():
    step = Step("trivial-number", {"value": 0})
    chain = [step]
    for _ in range(3000):
        step = Step("trivial-sum", {}, {"terms": (step.key,)})
        chain.append(step)
    assert topological([step, *chain])[-1] is step
