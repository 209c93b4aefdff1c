from __future__ import annotations

import json
import stat

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy import stats

from assay.data import Dataset, Split, commit_split, deduplicate, verify_commitment
from assay.errors import EvidenceTampered, InvalidInput


def pool(n=20, classes=2):
    x = torch.linspace(0, 1, 2 * n).view(n, 2)
    return Dataset(x, torch.arange(n) % classes, tuple(map(str, range(classes))), name="pool")


def rebuilt(split, **changes):
    fields = {"pool": split.pool, "coin": split.coin, "nonce": split.nonce, "stratified": split.stratified}
    return Split(**{**fields, **changes})


def test_sides_partition_the_pool():
    split = commit_split(pool(), private=0.3)
    assert (len(split.private), len(split.control)) == (6, 14)
    together = torch.cat([split.private.x, split.control.x])
    assert torch.equal(together.sort(0).values, pool().x.sort(0).values)
    assert torch.equal(split.private.x, split.pool.x[split.coin])


@pytest.mark.parametrize("seeded", [True, False])
def test_each_row_is_private_with_the_same_probability(seeded):
    data, runs, k = pool(10), 600, 4
    coins = torch.stack([commit_split(data, private=k, rng=s if seeded else None).coin for s in range(runs)])
    assert (coins.sum(1) == k).all()
    counts = coins.sum(0).numpy()
    # Without replacement within a run: the covariance of the counts has n - 1 degrees of freedom.
    p = k / 10
    statistic = ((counts - runs * p) ** 2).sum() / (runs * p * (1 - p)) * 9 / 10
    assert stats.chi2.sf(statistic, 9) > 1e-6


def test_every_split_of_a_small_pool_is_equally_likely():
    data, runs = pool(5), 1000
    keys = [tuple(commit_split(data, private=2, rng=s).coin.nonzero()[:, 0].tolist()) for s in range(runs)]
    counts = np.array([keys.count(key) for key in set(keys)])
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-6


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=60), st.floats(0.2, 0.8), st.integers(0, 10**9))
def test_stratified_counts_are_proportional_to_within_a_row(labels, share, seed):
    y = torch.tensor(labels)
    data = Dataset(torch.linspace(0, 1, len(y))[:, None], y, ("a", "b", "c", "d"))
    split = commit_split(data, private=share, stratify=True, rng=seed)
    k = round(share * len(y))
    got, size = split.private.y.bincount(minlength=4), y.bincount(minlength=4)
    assert int(got.sum()) == k
    assert ((got - k * size / len(y)).abs() < 1).all()
    assert split.stratified


def test_a_seed_reproduces_and_no_seed_never_repeats():
    data = pool(64)
    assert commit_split(data, rng=1).commitment == commit_split(data, rng=1).commitment
    assert commit_split(data, rng=1).commitment != commit_split(data, rng=2).commitment
    assert commit_split(data, rng=1).nonce != commit_split(data, rng=2).nonce
    drawn = [commit_split(data) for _ in range(5)]
    assert len({s.commitment for s in drawn}) == len({s.nonce for s in drawn}) == 5
    assert len({tuple(s.coin.tolist()) for s in drawn}) == 5


def test_commitment_changes_with_any_bit():
    split = commit_split(pool(), rng=0)
    seen = {split.commitment}
    for i in range(len(split.pool)):
        coin = split.coin.clone()
        coin[i] ^= True
        seen.add(rebuilt(split, coin=coin).commitment)
    for bit in range(256):
        nonce = (int.from_bytes(split.nonce, "big") ^ 1 << bit).to_bytes(32, "big")
        seen.add(rebuilt(split, nonce=nonce).commitment)
    x = split.pool.x.clone()
    x[3, 0] += 1e-6
    seen.add(rebuilt(split, pool=Dataset(x, split.pool.y, split.pool.classes)).commitment)
    seen.add(rebuilt(split, pool=split.pool.relabelled(1 - split.pool.y)).commitment)
    seen.add(rebuilt(split, stratified=True).commitment)
    assert len(seen) == 1 + 20 + 256 + 3


def test_the_nonce_hides_the_coin():
    # Otherwise somebody who guesses the coin could confirm the guess before it is revealed.
    split = commit_split(pool())
    assert not verify_commitment(split.commitment, pool=split.pool, coin=split.coin, nonce=bytes(32))


def test_verification_accepts_the_truth_only():
    split = commit_split(pool(), stratify=True)
    parts = {"pool": split.pool, "coin": split.coin, "nonce": split.nonce, "stratified": True}
    assert verify_commitment(split.commitment, **parts)
    assert not verify_commitment(split.commitment, **{**parts, "stratified": False})
    assert not verify_commitment(split.commitment, **{**parts, "coin": ~split.coin})
    for commitment in ("", "ab", split.commitment[:-1] + "g", None):
        with pytest.raises(InvalidInput, match="64 hexadecimal"):
            verify_commitment(commitment, **parts)
    for change in ({"coin": split.coin[:-1]}, {"coin": split.coin.long()}, {"nonce": b"short"}):
        with pytest.raises(InvalidInput):
            verify_commitment(split.commitment, **{**parts, **change})


def test_the_secret_is_not_in_the_repr():
    split = commit_split(pool(), rng=0)
    assert split.nonce.hex() not in repr(split)
    assert "coin" not in repr(split)
    assert "nonce" not in repr(split)


@pytest.mark.parametrize("private", [0, 1, 19, 20, -1, 0.0, 1.0, 0.01, float("nan"), True, "half", None])
def test_refuses_sizes_that_leave_no_test(private):
    with pytest.raises(InvalidInput):
        commit_split(pool(), private=private)


@pytest.mark.parametrize("rng", [-1, 1.5, True, "0"])
def test_refuses_what_is_no_seed(rng):
    with pytest.raises(InvalidInput, match="seed"):
        commit_split(pool(), rng=rng)


def test_refuses_a_pool_of_copies():
    data = pool(4)
    with pytest.raises(InvalidInput, match="distinct rows"):
        commit_split(data.subset([0, 0, 0, 1, 1, 2]))


def test_duplicates_go_whatever_their_label_and_sign_of_zero():
    x = torch.tensor([[0.0, 1.0], [0.5, 0.5], [-0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    data = Dataset(x, torch.tensor([0, 1, 0, 0, 1]), ("a", "b"))
    assert deduplicate(data).x.tolist() == [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    assert deduplicate(data).y.tolist() == [0, 1, 1]
    assert deduplicate(pool()).digest == pool().digest
    doubled = pool().concat(pool())
    split = commit_split(doubled)
    assert len(split.pool) == 20
    private, control = ({tuple(r) for r in side.x.tolist()} for side in (split.private, split.control))
    assert not private & control


def test_saved_split_comes_back_and_only_its_owner_can_read_it(tmp_path):
    split = commit_split(pool(), stratify=True)
    split.save(tmp_path)
    split.save(tmp_path)
    again = Split.load(tmp_path)
    assert (again.commitment, again.stratified, again.pool.name) == (split.commitment, True, "pool")
    assert stat.S_IMODE((tmp_path / "split.json").stat().st_mode) == 0o600
    (tmp_path / "pool.npz").unlink()
    assert Split.load(tmp_path, split.pool).commitment == split.commitment


@pytest.mark.parametrize("field", ["coin", "nonce", "stratified", "commitment"])
def test_tampering_is_found(tmp_path, field):
    commit_split(pool(), rng=0).save(tmp_path)
    path = tmp_path / "split.json"
    record = json.loads(path.read_text())
    old = record[field]
    record[field] = True if field == "stratified" else ("0" if old[0] != "0" else "1") + old[1:]
    path.write_text(json.dumps(record))
    with pytest.raises(EvidenceTampered, match="commitment"):
        Split.load(tmp_path)


def test_another_pool_is_found(tmp_path):
    split = commit_split(pool(), rng=0)
    split.save(tmp_path)
    for other in (pool().relabelled(1 - pool().y), pool(21)):
        with pytest.raises(EvidenceTampered):
            Split.load(tmp_path, other)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"rows": "20"},
        {"rows": 10**12},
        {"coin": "zz"},
        {"nonce": 5},
        {"stratified": 1},
        {"coin": None},
    ],
)
def test_malformed_records_are_refused(tmp_path, change):
    commit_split(pool(), rng=0).save(tmp_path)
    path = tmp_path / "split.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InvalidInput):
        Split.load(tmp_path)
    path.write_text("[]")
    with pytest.raises(InvalidInput):
        Split.load(tmp_path)
    path.unlink()
    with pytest.raises(InvalidInput):
        Split.load(tmp_path)


def test_a_split_built_by_hand_is_checked():
    data = pool(6)
    with pytest.raises(InvalidInput, match="2 rows a side"):
        Split(data, torch.tensor([True] + [False] * 5), bytes(32))
    with pytest.raises(InvalidInput, match="bool tensor"):
        Split(data, torch.ones(6), bytes(32))
