from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import shapiro
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from assay.errors import InvalidInput
from assay.gateway.detectors import Coverage, Prada, Seen, Watch
from assay.gateway.detectors.base import load_state, save_state
from assay.gateway.detectors.coverage import overlap, share
from assay.gateway.detectors.watch import state_name
from assay.gateway.policy import Detector, Policy
from assay.gateway.store.sql import SqlStore

X, Y = load_digits(return_X_y=True)
X = X / 16
SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def victim():
    return LogisticRegression(max_iter=300).fit(X[:800], Y[:800])


def stream(detector, rows, labels, size=16):
    """Return every look at rows that come in small requests."""
    state, looks = None, []
    for i in range(0, len(rows), size):
        looks.append(detector.look(state, Seen(rows[i : i + size], labels[i : i + size])))
        state = looks[-1].state
    return looks


def augmented(victim, rounds=4, step=0.1, seed=0):
    """Jacobian augmentation of a few seeds, with the victim's own gradients: the cleanest case there is."""
    rng = np.random.default_rng(seed)
    rows = X[800:900]
    every = [rows]
    for _ in range(rounds):
        every.append(np.clip(rows + step * np.sign(victim.coef_[victim.predict(rows)]), 0, 1))
        rows = np.concatenate(every)[rng.permutation(sum(map(len, every)))[:150]]
    return np.concatenate(every)


# --- PRADA -------------------------------------------------------------------------------------


def test_prada_finds_jacobian_augmentation_and_leaves_users_alone(victim):
    for rows, found in ((X[800:], False), (augmented(victim), True), (X[800:][Y[800:] < 3], False)):
        looks = stream(Prada(key="ab"), rows, victim.predict(rows))
        assert any(look.fired for look in looks) == found
        assert (min(look.score for look in looks) < 0.9) == found


def test_prada_is_blind_to_foreign_pictures_as_published(victim):
    noise = np.random.default_rng(0).uniform(0, 1, (600, 64))
    assert not any(look.fired for look in stream(Prada(key="ab"), noise, victim.predict(noise)))


def naive_prada(rows, labels):
    """The published bookkeeping without bounds; returns the pooled distances of each query so far."""
    sets, grown, least, distances = {}, {}, {}, []
    for row, label in zip(rows.astype(np.float32), labels, strict=True):
        if label not in sets:
            sets[label], grown[label], least[label] = [row], [0.0], 0.0
            continue
        d = float(np.sqrt(((np.array(sets[label]) - row) ** 2).sum(1).min()))
        distances.append((d, label))
        if d > least[label]:
            sets[label].append(row)
            grown[label].append(d)
            least[label] = max(least[label], np.mean(grown[label]) - np.std(grown[label]))
    return distances


def test_prada_within_its_bounds_is_the_published_bookkeeping(victim):
    rows = X[800:1200]
    labels = victim.predict(rows)
    distances = naive_prada(rows, labels)
    values = np.array([d for d, _ in distances], np.float32)
    often = [sum(c == label for _, c in distances) >= 10 for _, label in distances]
    pooled = values[often]
    kept = pooled[np.abs(pooled - pooled.mean()) <= 3 * pooled.std()]
    look = Prada(references=1000, every=400).look(None, Seen(rows, labels))
    assert look.score == pytest.approx(shapiro(kept.astype(float)).statistic, abs=1e-6)
    assert look.detail["distances"] == len(distances)


def test_pradas_memory_is_bounded_whatever_comes(victim):
    prada = Prada(references=64, window=210, width=16, key="ab")
    rng = np.random.default_rng(0)
    sizes = []
    state = None
    for _ in range(12):
        rows = rng.normal(size=(100, 300)) * rng.uniform(0.1, 50)
        look = prada.look(state, Seen(rows, rng.integers(0, 40, 100)))
        state = look.state
        sizes.append(len(state))
        assert look.detail["references"] <= 64
        assert look.detail["distances"] <= 210
    assert max(sizes) < 64 * 16 * 4 + 64 * 8 + 210 * 12 + 40 * 32 + 2000
    assert look.queries == 1200


def test_pradas_state_goes_on_where_it_was(victim):
    rows = augmented(victim)
    labels = victim.predict(rows)
    prada = Prada(key="ab")
    whole = stream(prada, rows, labels)
    again = stream(prada, rows, labels)
    assert [look.score for look in whole] == [look.score for look in again]
    half = whole[10].state
    rest = prada.look(half, Seen(rows[176:192], labels[176:192]))
    assert rest.state == whole[11].state


def test_an_alarm_is_raised_once_and_again_after_calm(victim):
    rows = augmented(victim)
    labels = victim.predict(rows)
    looks = stream(Prada(key="ab"), rows, labels)
    assert sum(look.fired for look in looks) == 1
    assert sum(look.score < 0.9 for look in looks) > 1
    later = stream(
        Prada(key="ab", window=200),
        np.concatenate([rows, X[800:1300], rows]),
        np.concatenate([labels, victim.predict(X[800:1300]), labels]),
    )
    assert sum(look.fired for look in later) >= 2


def test_repeats_say_nothing(victim):
    rows = np.repeat(X[:30], 20, axis=0)
    look = Prada().look(None, Seen(rows, victim.predict(rows)))
    assert look.detail["distances"] <= 30
    assert not look.fired


def test_odd_inputs_do_no_harm():
    rows = np.full((60, 5), np.nan)
    rows[1:30] = np.inf
    rows[30:45] = 1e300
    with np.errstate(all="ignore"):
        look = Prada().look(None, Seen(rows, np.arange(60) % 2))
    assert look.score == 1.0
    Coverage().look(None, Seen(rows, np.arange(60) % 2))


# --- coverage -----------------------------------------------------------------------------------


def test_coverage_counts_distinct_buckets(victim):
    coverage = Coverage(bits=10, key="ab")
    rows = X[:500]
    looks = stream(coverage, rows, Y[:500])
    scores = [look.score for look in looks]
    assert scores == sorted(scores)
    assert scores[-1] == len(set(coverage._buckets().of(rows).tolist())) / 1024
    assert looks[-1].queries == 500
    assert (
        stream(coverage, np.concatenate([rows, rows]), np.concatenate([Y[:500]] * 2))[-1].score == scores[-1]
    )
    assert share(looks[-1].state) == scores[-1]
    assert len(looks[-1].state) < 1024 / 8 + 400


def test_a_fitted_limit_lets_trusted_users_pass_and_stops_who_asks_everywhere():
    coverage = Coverage(bits=10, key="ab").fit(X[:900])
    assert not any(look.fired for look in stream(coverage, X[900:], Y[900:]))
    shuffled = np.random.default_rng(0).permuted(X[:900], axis=1)
    looks = stream(coverage, shuffled, Y[:900])
    assert sum(look.fired for look in looks) == 1


def test_accounts_that_share_a_pool_overlap_more_than_strangers():
    coverage = Coverage(bits=12, key="ab")

    def state(rows):
        return coverage.look(None, Seen(rows, np.zeros(len(rows), np.int64))).state

    noise = np.random.default_rng(0).uniform(0, 1, (400, 64))
    one, other, foreign = state(X[:400]), state(X[400:800]), state(noise)
    assert overlap(one, other) > 2 * overlap(one, foreign)
    assert overlap(one, one) == pytest.approx(1)
    assert overlap(one, Coverage(bits=8).look(None, Seen(X[:5], Y[:5])).state) == 0


# --- states --------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
@settings(max_examples=80, deadline=None)
def test_a_state_that_is_not_ours_is_begun_anew(junk):
    rows, labels = X[:20], Y[:20]
    for detector in (Prada(), Coverage()):
        assert detector.look(junk, Seen(rows, labels)).queries == 20


def test_a_state_of_other_settings_is_begun_anew():
    rows, labels = X[:200], Y[:200]
    for first, second in (
        (Prada(), Coverage()),
        (Prada(references=300), Prada(references=20)),
        (Prada(window=900), Prada(window=200)),
        (Prada(key="ab"), Prada(key="cd")),
        (Coverage(bits=8), Coverage(bits=9)),
        (Coverage(key="ab"), Coverage(key="cd")),
    ):
        state = first.look(None, Seen(rows, labels)).state
        assert second.look(state, Seen(rows[:3], labels[:3])).queries == 3
    wide = np.tile(rows[:3], 2)
    state = Prada(width=200).look(None, Seen(rows, labels)).state
    assert Prada(width=200).look(state, Seen(wide, labels[:3])).queries == 3


def test_a_threshold_may_change_without_losing_the_state():
    rows, labels = X[:50], Y[:50]
    for first, second in ((Prada(), Prada(threshold=0.8, every=5)), (Coverage(), Coverage(limit=0.9))):
        state = first.look(None, Seen(rows, labels)).state
        assert second.look(state, Seen(rows, labels)).queries == 100


def test_only_the_expected_arrays_are_loaded():
    state = save_state({"a": np.arange(3)}, "layout")
    assert load_state(state, {"a": ("int64", 1)})["a"].tolist() == [0, 1, 2]
    assert load_state(state, {"a": ("int64", 1)}, "other") is None
    for other in ({"a": ("float32", 1)}, {"a": ("int64", 2)}, {"b": ("int64", 1)}, {}):
        assert load_state(state, other) is None
    assert load_state(None, {}) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: Prada(threshold=1.0),
        lambda: Prada(window=100),
        lambda: Prada(references=2),
        lambda: Prada(every=0),
        lambda: Coverage(limit=0.0),
        lambda: Coverage(bits=20),
        lambda: Seen(np.zeros((2, 2)), np.zeros(3, np.int64)),
        lambda: Watch([Detector(name="prado")], SECRET),
        lambda: Watch([Detector(name="prada"), Detector(name="prada")], SECRET),
        lambda: Watch([Detector(name="prada", settings={"treshold": 0.5})], SECRET),
    ],
)
def test_wrong_settings_are_refused(make):
    with pytest.raises(InvalidInput):
        make()


# --- the watch ------------------------------------------------------------------------------------


@pytest.fixture
def store():
    store = SqlStore("sqlite://")
    for name in ("user", "thief"):
        store.open_account(name, "standard", 1.0)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("action", "tier"), [("flag", "standard"), ("throttle", "throttled"), ("deny", "barred")]
)
def test_an_alarm_is_recorded_and_does_what_the_policy_says(store, victim, action, tier):
    policy = Policy(
        detectors=(
            Detector(name="prada", action=action),
            Detector(name="coverage", settings={"bits": 8, "limit": 0.9}),
        )
    )
    rows = augmented(victim)
    # Two replicas: states and alarms live in the store, not in a process.
    replicas = [Watch(policy.detectors, SECRET) for _ in range(2)]
    alarms = []
    for i in range(0, len(rows), 16):
        part = rows[i : i + 16]
        alarms += replicas[i // 16 % 2].look(store, "thief", Seen(part, victim.predict(part)), now=2.0 + i)
        part = X[800 + i % 500 : 816 + i % 500]
        assert not replicas[0].look(store, "user", Seen(part, victim.predict(part)), now=2.0 + i)
    assert [(a.account, a.detector, a.action) for a in alarms] == [("thief", "prada", action)]
    recorded = store.alarms()
    assert [(a.account, a.kind) for a in recorded] == [("thief", "prada")]
    assert recorded[0].detail["action"] == action
    assert recorded[0].value == alarms[0].score < 0.9
    assert store.account("thief").tier == tier
    assert store.account("user").tier == "standard"


def test_coverage_is_known_to_who_shows_answers(store):
    watch = Watch([Detector(name="coverage", settings={"bits": 8})], SECRET)
    assert watch.coverage("user") == 0
    watch.look(store, "user", Seen(X[:100], Y[:100]), now=1.0)
    known = watch.coverage("user")
    assert 0 < known < 1
    held = store.amend("user", state_name("coverage"), lambda state: state, now=1.0)
    assert Watch([], SECRET).recall("user", held) == known


def test_detectors_get_secrets_of_their_own(store):
    one, other = Watch([Detector(name="coverage")], SECRET), Watch([Detector(name="coverage")], bytes(32))
    keys = {w._detectors[0][0].key for w in (one, other, Watch([Detector(name="prada")], SECRET))}
    assert len(keys) == 3
    assert Watch([Detector(name="coverage", settings={"key": "ab"})], SECRET)._detectors[0][0].key == "ab"
    assert not Watch([], SECRET)
    assert Watch([Detector(name="coverage", settings={"bits": 3, "centre": "0.5, 1, 2"})], SECRET)
