from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from assay.adapters import CallableModel
from assay.adapters.sklearn_model import SklearnModel
from assay.defences import Asked, CoverageNoise, Dawn, MaximumAngle, PerAccount, ReverseSigmoid
from assay.defences.answering import keep_top
from assay.defences.buckets import Buckets
from assay.defences.mad import best_transfer, deflection, extreme, poison
from assay.defences.reverse_sigmoid import bend
from assay.defences.sketch import Sketch
from assay.errors import InvalidInput
from assay.registry import create, registered

KEY, OTHER = "ab" * 16, "cd" * 16
X, Y = load_digits(return_X_y=True)
X = X / 16


@pytest.fixture(scope="module")
def scores():
    return LogisticRegression(max_iter=300).fit(X[:800], Y[:800]).predict_proba(X[800:])


def rows_of(n, k, concentration=0.3, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(k, concentration), n)


def asked(n, d=4, seed=0, **more):
    return Asked(np.random.default_rng(seed).normal(size=(n, d)), **more)


EVERY = [
    ReverseSigmoid(),
    ReverseSigmoid(beta=2.0, gamma=0.5, keep_label=False),
    MaximumAngle(),
    MaximumAngle(budget=2.0, keep_label=False),
    MaximumAngle(budget=1.2, search="published"),
    Dawn(rate=0.3, key=KEY),
    Dawn(rate=0.3, key=KEY, grain=0.1),
    PerAccount(key=KEY, temperature=1.0, weights=1.0),
    CoverageNoise(key=KEY),
]


@pytest.mark.parametrize("defence", EVERY, ids=lambda d: f"{d.name}-{id(d) % 97}")
@given(seed=st.integers(0, 10_000), k=st.integers(2, 12), sharp=st.sampled_from([0.02, 0.3, 5.0]))
@settings(max_examples=25, deadline=None)
def test_answers_stay_probabilities_and_the_argument_stays_as_it_is(defence, seed, k, sharp):
    true = rows_of(7, k, sharp, seed)
    true[0] = 1 / k
    true[1] = np.eye(k)[seed % k]
    before = true.copy()
    shown = defence.answer(true, asked(7, account="a", coverage=0.6))
    assert shown.shape == true.shape
    assert np.array_equal(true, before)
    assert np.isfinite(shown).all()
    assert (shown >= 0).all()
    assert np.allclose(shown.sum(1), 1)
    if defence.keeps_label or getattr(defence, "keep_label", False):
        narrow = shown.astype(np.float32)
        assert np.array_equal(narrow.argmax(1)[1:], true.argmax(1)[1:])


@pytest.mark.parametrize("defence", EVERY, ids=lambda d: f"{d.name}-{id(d) % 97}")
def test_nobody_asks_nothing(defence):
    assert defence.answer(np.zeros((0, 5)), Asked(np.zeros((0, 4)))).shape == (0, 5)


@pytest.mark.parametrize("defence", EVERY, ids=lambda d: f"{d.name}-{id(d) % 97}")
def test_a_dressed_model_answers_as_the_arrays_do(defence):
    model = SklearnModel(LogisticRegression(max_iter=200).fit(X[:300], Y[:300]))
    dressed = defence.wear(model)
    rows = torch.from_numpy(X[300:340])
    shown = dressed.scores(rows).numpy()
    coverage = defence.coverage()
    who = Asked(X[300:340], "", coverage(X[300:340]) if coverage else 0.0)
    assert np.allclose(shown, defence.answer(model.scores(rows).double().numpy(), who))
    assert torch.equal(dressed.labels(rows), torch.from_numpy(shown.argmax(1)))
    assert dressed.complete_scores
    assert defence.name in dressed.name


def test_every_new_defence_is_registered():
    names = {entry.name for entry in registered("defence")}
    assert names >= {"reverse-sigmoid", "mad", "dawn", "per-account", "coverage-noise"}
    assert create("mad", "defence", {"budget": "0.25", "keep-label": "no"}) == MaximumAngle(
        budget=0.25, keep_label=False
    )


# --- what a defence may look at ---------------------------------------------------------------


def test_equal_inputs_have_equal_fingerprints_and_others_have_not():
    rows = np.array([[0.0, 1.0], [-0.0, 1.0], [1e-12, 1.0]])
    first, second, third = Asked(rows).fingerprints
    assert first == second != third
    assert Asked(rows.astype(np.float32)).fingerprints[0] == first
    named = Asked(np.zeros((2, 0)), names=(b"a", b"b"))
    assert len(set(named.fingerprints)) == 2
    with pytest.raises(InvalidInput, match="names"):
        Asked(np.zeros((2, 0)), names=(b"a",))
    with pytest.raises(InvalidInput, match="flattened"):
        Asked(np.zeros((2, 2, 2)))


def test_a_top_class_comes_back_on_top_and_nothing_else_moves():
    true = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    shown = np.array([[0.3, 0.4, 0.3], [0.1, 0.8, 0.1]])
    kept = keep_top(shown, true)
    assert kept[0].argmax() == 0
    assert np.array_equal(kept[1], shown[1])
    assert np.isclose(kept[0].sum(), 1)


# --- reverse sigmoid ---------------------------------------------------------------------------


def test_the_reverse_sigmoid_is_the_published_formula():
    y = rows_of(50, 6)
    away = np.clip(y, 1e-9, 1 - 1e-9)
    bent = y - 1.0 * (1 / (1 + np.exp(-0.1 * np.log(away / (1 - away)))) - 0.5)
    bent = np.maximum(bent, 0)
    assert np.allclose(bend(y, beta=1.0, gamma=0.1), bent / bent.sum(1, keepdims=True))
    assert np.allclose(bend(y, beta=0.0, gamma=0.1), y)


def test_several_true_scores_look_alike_under_the_reverse_sigmoid():
    y = np.linspace(0.5, 1 - 1e-6, 400)
    shown = bend(np.column_stack([y, 1 - y]), beta=1.0, gamma=0.3)[:, 0]
    assert (np.diff(shown) > 0).any()
    assert (np.diff(shown) < 0).any()


def test_the_published_curve_may_change_a_label_and_ours_does_not():
    y = np.array([[0.2, 0.16, 0.16, 0.16, 0.16, 0.16, 0.0]])
    assert bend(y, beta=1.0, gamma=0.1).argmax() != 0
    assert ReverseSigmoid().answer(y, asked(1)).argmax() == 0


# --- maximum angle -----------------------------------------------------------------------------


def surrogate_gradients(scores, seed):
    """Gradients of log-likelihoods with respect to an undecided last layer, by automatic differentiation."""
    torch.manual_seed(seed)
    features = torch.randn(len(scores), 7, dtype=torch.float64)
    k = scores.shape[1]
    found = []
    for row in features:
        weights = torch.zeros(k, 7, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(k, dtype=torch.float64, requires_grad=True)
        logs = torch.log_softmax(weights @ row + bias, 0)
        parts = [torch.autograd.grad(logs[j], (weights, bias), retain_graph=True) for j in range(k)]
        found.append(torch.stack([torch.cat([w.ravel(), b]) for w, b in parts]).numpy())
    return found


def objective(gradients, y, shown):
    """The published one, from a Jacobian."""
    a, b = gradients.T @ y, gradients.T @ shown
    return ((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2).sum()


def test_the_closed_form_is_the_objective_of_a_real_surrogate():
    y, shown = rows_of(12, 5, seed=1), rows_of(12, 5, 1.0, seed=2)
    for i, gradients in enumerate(surrogate_gradients(y, 0)):
        assert np.isclose(deflection(y[i : i + 1], shown[i : i + 1])[0], objective(gradients, y[i], shown[i]))


def test_a_surrogate_that_is_nearly_undecided_is_turned_nearly_as_far():
    # Ordinary initial weights: predictions are close to even, not even.
    torch.manual_seed(0)
    y = rows_of(20, 10, 0.05, seed=3)
    shown = best_transfer(y, budget=0.8, keep_label=False)
    real = []
    for row in range(20):
        features = torch.relu(torch.randn(32, dtype=torch.float64))
        p = torch.softmax(torch.nn.Linear(32, 10).double()(features), 0).detach().numpy()
        a, b = y[row] - p, shown[row] - p
        real.append(2 - 2 * a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    claimed = deflection(y, shown)
    assert abs(np.mean(real) - claimed.mean()) < 0.1
    assert (np.abs(real - claimed) < 0.5).all()


@pytest.mark.parametrize("keep_label", [True, False])
@pytest.mark.parametrize("k", [2, 3, 6])
def test_no_extreme_point_is_further_than_the_closed_form(keep_label, k):
    y = np.concatenate([rows_of(25, k, sharp, seed=k) for sharp in (0.1, 1.0)])
    best = deflection(y, extreme(y, keep_label=keep_label))
    for row, found in zip(y, best, strict=True):
        label = row.argmax()
        sets = itertools.chain(*(itertools.combinations(range(k), m) for m in range(1, k)))
        points = [np.isin(np.arange(k), s) / len(s) for s in sets if label in s]
        points = points if keep_label else list(np.eye(k))
        brute = max(deflection(row[None], point[None])[0] for point in points)
        assert np.isclose(found, brute)


@pytest.mark.parametrize("keep_label", [True, False])
@pytest.mark.parametrize("budget", [0.2, 0.7, 1.6])
def test_no_transfer_between_two_classes_is_further_than_the_best(keep_label, budget):
    y = np.concatenate([rows_of(15, 5, sharp, seed=9) for sharp in (0.1, 1.0)])
    shown = best_transfer(y, budget=budget, keep_label=keep_label)
    best = deflection(y, shown)
    assert (np.abs(shown - y).sum(1) <= budget + 1e-9).all()
    for row, found in zip(y, best, strict=True):
        moves = [np.eye(5)[j] - np.eye(5)[i] for i, j in itertools.permutations(range(5), 2)]
        tried = np.concatenate([row + t * np.array(moves) for t in np.linspace(0, budget / 2, 80)])
        allowed = tried.min(axis=1) >= 0
        if keep_label:
            others = np.delete(tried, row.argmax(), axis=1)
            allowed &= tried[:, row.argmax()] >= others.max(axis=1) + 1e-3
        most = deflection(np.broadcast_to(row, tried.shape), tried)[allowed].max()
        assert found >= most - 1e-9


def vertices(y, half):
    """Corners of all answers within the budget: one class gains, others are emptied but one."""
    for gain in range(len(y)):
        others = [i for i in range(len(y)) if i != gain]
        for m in range(len(y)):
            for emptied in itertools.combinations(others, m):
                left = half - y[list(emptied)].sum()
                for part in others:
                    if part not in emptied and 0 <= left <= y[part]:
                        moved = y.copy()
                        moved[list(emptied)] = 0
                        moved[part] -= left
                        moved[gain] += half
                        yield moved


def test_one_transfer_turns_nearly_as_far_as_any_answer_within_the_budget():
    parts = []
    for row in rows_of(120, 5, 0.2, seed=4):
        corners = [deflection(row[None], corner[None])[0] for corner in vertices(row, 0.2)]
        if not corners or max(corners) > 2:  # beyond a right angle corners need not be best
            continue
        found = deflection(row[None], best_transfer(row[None], budget=0.4, keep_label=False))[0]
        assert found <= max(corners) + 1e-9
        parts.append(found / max(corners))
    assert len(parts) > 60
    assert np.mean(parts) > 0.98


def test_the_published_variant_uses_its_budget_and_turns_less(scores):
    shown = poison(scores, budget=0.5, keep_label=True)
    assert (np.abs(shown - scores).sum(1) <= 0.5 + 1e-9).all()
    ours = best_transfer(scores, budget=0.5, keep_label=True)
    assert deflection(scores, ours).mean() > 3 * deflection(scores, shown).mean()


def test_with_many_classes_rows_are_still_turned_within_the_budget():
    y = rows_of(3, 300, 0.05, seed=5)
    shown = best_transfer(y, budget=0.6, keep_label=True)
    assert np.array_equal(shown.argmax(1), y.argmax(1))
    assert (np.abs(shown - y).sum(1) <= 0.6 + 1e-9).all()
    assert (deflection(y, shown) > 0.01).all()


# --- DAWN --------------------------------------------------------------------------------------


def test_dawn_marks_the_stated_share_and_shows_uniform_wrong_classes():
    n, k = 20_000, 5
    labels = np.random.default_rng(0).integers(0, k, n)
    choice = Dawn(rate=0.1, key=KEY).choose(asked(n), labels, k)
    assert abs(choice.marked.mean() - 0.1) < 4 * np.sqrt(0.09 / n)
    step = np.bincount((choice.wrong - labels) % k, minlength=k) / n
    assert step[0] == 0
    assert np.allclose(step[1:], 1 / (k - 1), atol=0.015)
    # which inputs are marked says nothing about the wrong class
    assert abs((choice.wrong[choice.marked] - labels[choice.marked] == 1).mean() - 0.2 * 1.0) < 0.1


def test_dawn_repeats_itself_and_another_key_does_not():
    true = rows_of(3000, 10, 0.05)
    who = asked(3000)
    dawn = Dawn(rate=0.05, key=KEY)
    shown = dawn.answer(true, who)
    turned = Asked(who.rows[::-1], account="somebody else")
    assert np.array_equal(dawn.answer(true[::-1], turned), shown[::-1])
    changed = shown.argmax(1) != true.argmax(1)
    assert np.array_equal(np.sort(shown, 1), np.sort(true, 1))  # as sure as before
    other = Dawn(rate=0.05, key=OTHER).answer(true, who).argmax(1) != true.argmax(1)
    assert 0 < (changed & other).sum() < 0.3 * changed.sum()
    choice = dawn.choose(who, true.argmax(1), 10)
    assert np.array_equal(choice.marked, changed)
    assert np.array_equal(choice.wrong[changed], shown.argmax(1)[changed])


@pytest.mark.parametrize(("grain", "least"), [(0.0, 0.0), (2.0, 0.9)])
def test_near_duplicates_share_a_decision_where_a_grain_is_set(grain, least):
    rng = np.random.default_rng(0)
    near = np.abs(X + rng.normal(0, 0.002, X.shape))
    dawn = Dawn(rate=0.3, key=KEY, grain=grain)
    a, b = (dawn.choose(Asked(x), Y, 10) for x in (X, near))
    same = (a.marked == b.marked) & ((a.wrong == b.wrong) | ~a.marked)
    if grain:
        assert same.mean() > least
        assert abs(a.marked.mean() - 0.3) < 0.12  # cells are shared by several digits
    else:
        assert same.mean() < 0.8  # what chance gives


def test_the_commitment_binds_key_and_settings_and_does_not_show_the_key():
    first = Dawn(rate=0.01, key=KEY).commitment
    assert first == Dawn(rate=0.01, key=KEY).commitment
    changed = {
        Dawn(rate=0.01, key=OTHER).commitment,
        Dawn(rate=0.02, key=KEY).commitment,
        Dawn(rate=0.01, key=KEY, grain=0.5).commitment,
        Dawn(rate=0.01, key=KEY, directions=9).commitment,
    }
    assert len(changed | {first}) == 5
    assert KEY not in first
    assert len(first) == 64


def test_a_copy_of_the_answers_remembers_marks_and_an_independent_model_does_not():
    from scipy.stats import binomtest
    from sklearn.neighbors import KNeighborsClassifier

    victim = LogisticRegression(max_iter=300).fit(X[:600], Y[:600])
    queries = Asked(X[600:1500])
    labels = victim.predict(queries.rows)
    dawn = Dawn(rate=0.05, key=KEY)
    choice = dawn.choose(queries, labels, 10)
    shown = np.where(choice.marked, choice.wrong, labels)
    copy = KNeighborsClassifier(1).fit(queries.rows, shown)
    honest = KNeighborsClassifier(1).fit(X[:600], Y[:600])
    p = []
    for suspect in (copy, honest):
        answers = suspect.predict(queries.rows[choice.marked])
        off = answers != labels[choice.marked]
        matches = int((answers[off] == choice.wrong[choice.marked][off]).sum())
        p.append(binomtest(matches, max(int(off.sum()), 1), 1 / 9, alternative="greater").pvalue)
    assert p[0] < 1e-9
    assert p[1] > 0.01


# --- accounts ----------------------------------------------------------------------------------


def test_accounts_see_consistent_views_that_differ(scores):
    view = PerAccount(key=KEY)
    who = [view.answer(scores, asked(len(scores), account=name)) for name in ("a", "a", "b")]
    assert np.array_equal(who[0], who[1])
    assert np.abs(who[0] - who[2]).max() > 0.05
    assert np.array_equal(who[0].argmax(1), who[2].argmax(1))
    assert np.allclose(
        PerAccount(key=KEY, temperature=0, weights=0).answer(scores, asked(len(scores))), scores
    )
    assert not np.allclose(PerAccount(key=OTHER).answer(scores, asked(len(scores), account="a")), who[0])


def test_noise_by_coverage_is_nothing_for_a_narrow_user_and_all_at_the_knee(scores):
    noise = CoverageNoise(key=KEY)
    narrow = noise.answer(scores, asked(len(scores), coverage=0.05))
    assert np.abs(narrow - scores).max() < 1e-5
    wide = noise.answer(scores, asked(len(scores), coverage=0.8))
    assert (wide.argmax(1) == scores.argmax(1)).mean() < 0.9
    assert np.isclose(noise.scale(0.8), 1.0, rtol=1e-6)
    assert np.array_equal(wide, noise.answer(scores, asked(len(scores), coverage=0.8)))


def test_a_dressed_model_counts_its_callers_coverage():
    model = CallableModel(lambda x: np.full((len(x), 2), 0.5), (20,), outputs="probabilities")
    dressed = CoverageNoise(key=KEY, bits=4, knee=0.5).wear(model)
    rng = np.random.default_rng(0)
    first = dressed.scores(torch.from_numpy(rng.normal(size=(1, 20))))
    assert (first - 0.5).abs().max() < 1e-5
    later = dressed.scores(torch.from_numpy(rng.normal(size=(200, 20))))
    assert (later - 0.5).abs().max() > 0.2


# --- projections -------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [3, 64, 20_000])
def test_a_sketch_keeps_distances_on_average(d):
    rng = np.random.default_rng(d)
    x = rng.normal(size=(30, d))
    ratios = [
        np.linalg.norm(Sketch(bytes([i]), 48)(x[:15] - x[15:]), axis=1)
        / np.linalg.norm(x[:15] - x[15:], axis=1)
        for i in range(20)
    ]
    assert abs(np.mean(np.square(ratios)) - 1) < 0.1


def test_a_sketch_does_not_depend_on_the_batch_and_takes_what_is_missing():
    x = np.random.default_rng(0).normal(size=(5, 100))
    sketch = Sketch(b"s", 16)
    assert np.array_equal(sketch(x)[2:3], sketch(x[2:3]))
    x[0, 3], x[1, 5] = np.nan, np.inf
    assert np.isfinite(sketch(x)).all()


def test_fitted_buckets_spread_what_they_were_fitted_to():
    plain = Buckets(b"s", 8)
    assert len(set(plain.fit(X).of(X).tolist())) > 2 * len(set(plain.of(X).tolist()))
    assert set(plain.of(X).tolist()) <= set(range(256))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReverseSigmoid(beta=-1.0),
        lambda: ReverseSigmoid(gamma=0.0),
        lambda: MaximumAngle(budget=2.5),
        lambda: MaximumAngle(search="luck"),
        lambda: Dawn(rate=0.6),
        lambda: Dawn(grain=-1.0),
        lambda: Dawn(directions=0),
        lambda: Dawn(key="xy").ready(),
        lambda: Dawn(key="ab").commitment,
        lambda: Dawn(key=KEY).choose(asked(1), np.zeros(1, int), 1),
        lambda: PerAccount(temperature=-1.0),
        lambda: PerAccount().ready(),
        lambda: CoverageNoise(knee=0.0),
        lambda: CoverageNoise(floor=2.0),
        lambda: CoverageNoise().ready(),
        lambda: Buckets(b"", 2),
        lambda: Buckets(b"", 4, (1.0,)),
        lambda: Sketch(b"", 0),
    ],
)
def test_numbers_out_of_range_and_missing_secrets_are_refused(make):
    with pytest.raises(InvalidInput):
        make()


def test_a_defence_without_its_secret_is_not_worn():
    model = CallableModel(lambda x: x, (2,), outputs="probabilities")
    for defence in (Dawn(), PerAccount(), CoverageNoise()):
        with pytest.raises(InvalidInput, match="secret"):
            defence.wear(model)
