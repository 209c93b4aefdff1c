import numpy as np
import pytest

from assay.errors import InvalidInput
from assay.evidence.dataset_inference.calibrated import (
    _Profile,
    calibrated_label_weights,
    calibrated_score_weights,
)
from assay.evidence.dataset_inference.informative import label_weights, score_weights
from assay.evidence.dataset_inference.references import References

ROWS = 3000
BOTH = pytest.mark.parametrize("weights", [calibrated_label_weights, calibrated_score_weights])


def world(references, rows=ROWS, seed=0, kinds=(), noise=1.5):
    """References of rows of which a fifth are hard: not known without training on them, by a margin of 3."""
    rng = np.random.default_rng(seed)
    hard = np.arange(rows) % 5 == 0
    members = rng.random((references, rows)) < 0.5
    margin = np.where(hard, -1.5, 2.5) + np.where(hard, 3.0, 0.3) * members
    margin = margin + rng.normal(0, noise, margin.shape)
    return References(np.arange(rows, dtype=np.uint64), members, margin.astype(np.float32), (), kinds), hard


@BOTH
def test_the_kind_of_row_that_membership_shows_on_comes_first(weights):
    found, hard = world(8)
    assert hard[weights(found).order()[:400]].mean() > 0.97


@pytest.mark.parametrize(
    ("learned", "alone"),
    [(calibrated_label_weights, label_weights), (calibrated_score_weights, score_weights)],
)
def test_fresh_suspects_are_told_by_fewer_rows_than_row_by_row(learned, alone):
    references, _ = world(6, noise=3.0)
    suspects, _ = world(40, seed=1, noise=3.0)
    margin = suspects.margin.astype(np.float64)
    answers = (margin > 0) if learned is calibrated_label_weights else margin

    def effect(weights):
        first = weights.order()[:300]
        score = weights.slope[first] * (answers[:, first] - weights.centre[first])
        inside = suspects.members[:, first]
        return (score[inside].mean() - score[~inside].mean()) / score.std()

    # The rows needed go with the inverse square.
    assert effect(learned(references)) > 1.1 * effect(alone(references))


def test_rates_are_those_of_references_that_were_not_there():
    references, _ = world(8)
    later, _ = world(200, seed=2)
    found = calibrated_label_weights(references)
    outside = ~later.members
    right = ((later.margin > 0) & outside).sum(0) / outside.sum(0)
    assert np.abs(found.centre - right).mean() < 0.035
    assert np.abs(label_weights(references).centre - right).mean() > 0.055


@pytest.mark.parametrize(("references", "rows"), [(3, ROWS), (8, 100)])
def test_too_little_to_learn_from_leaves_each_row_to_itself(references, rows):
    found, _ = world(references, rows)
    assert np.array_equal(calibrated_label_weights(found).slope, label_weights(found).slope)
    assert np.array_equal(calibrated_score_weights(found).slope, score_weights(found).slope)


def test_a_profile_without_a_reference_is_the_profile_of_the_others():
    found, _ = world(6, 50)
    every = np.arange(50)
    left = References(found.rows, found.members[[0, 1, 3, 4, 5]], found.margin[[0, 1, 3, 4, 5]])
    ours, theirs = _Profile.of(found, 0).without(2).features(every), _Profile.of(left, 0).features(every)
    assert np.allclose(ours, theirs, equal_nan=True)


def test_each_kind_of_reference_is_summed_up_by_itself():
    # The second kind remembers nothing and says so on every row; mixed into the first it hides it.
    first, hard = world(8)
    rng = np.random.default_rng(5)
    members = rng.random((8, ROWS)) < 0.5
    margin = rng.normal(0, 6.0, members.shape).astype(np.float32)
    both = (np.concatenate([first.members, members]), np.concatenate([first.margin, margin]))
    mixed = References(first.rows, *both)
    apart = References(first.rows, *both, (), (0,) * 8 + (1,) * 8)
    told = [hard[calibrated_score_weights(r).order()[:500]].mean() for r in (mixed, apart)]
    assert told[1] > told[0] + 0.05


@BOTH
def test_references_that_are_always_right_tell_nothing(weights):
    found, _ = world(8, 500)
    sure = References(found.rows, found.members, np.full_like(found.margin, 9.0))
    assert np.isfinite(weights(sure).slope).all()
    assert (weights(sure).slope < 1e-6).all()


@pytest.mark.parametrize("members", [True, False])
def test_references_that_all_had_or_all_lacked_the_rows_leave_each_row_to_itself(members):
    found, _ = world(8, 500)
    same = References(found.rows, np.full_like(found.members, members), found.margin)
    assert np.array_equal(calibrated_label_weights(same).slope, label_weights(same).slope)
    assert np.array_equal(calibrated_score_weights(same).slope, score_weights(same).slope)


@BOTH
def test_a_kind_that_had_every_row_is_no_hindrance(weights):
    first, hard = world(8)
    both = [np.concatenate([first.members, np.ones_like(first.members)]), np.tile(first.margin, (2, 1))]
    found = weights(References(first.rows, *both, (), (0,) * 8 + (1,) * 8))
    assert hard[found.order()[:400]].mean() > 0.9


def test_weights_are_the_same_every_time():
    found, _ = world(8)
    assert np.array_equal(calibrated_label_weights(found).slope, calibrated_label_weights(found).slope)


def test_kinds_are_kept_and_must_fit(tmp_path):
    found, _ = world(4, 10, kinds=(0, 0, 1, 1))
    found.save(tmp_path / "references.npz")
    assert References.load(tmp_path / "references.npz").kinds == (0, 0, 1, 1)
    with np.load(tmp_path / "references.npz") as file:
        np.savez(tmp_path / "older.npz", **{name: file[name] for name in file.files if name != "kinds"})
    assert References.load(tmp_path / "older.npz").kinds == (0, 0, 0, 0)
    with pytest.raises(InvalidInput, match="3 kinds for 4 references"):
        world(4, 10, kinds=(0, 0, 1))
