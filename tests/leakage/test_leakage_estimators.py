import dataclasses
import json
import threading

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from assay.adapters import restrict
from assay.data import Dataset, load_data
from assay.data.pools import synthesise
from assay.errors import AccessDenied, AssayError, EvidenceTampered, InvalidInput
from assay.leakage import (
    Composite,
    Distilled,
    Entropy,
    Gap,
    LinearHeads,
    NearestNeighbours,
    TeacherEnsemble,
    load_estimator,
)
from assay.leakage.compare import rank_agreement
from assay.leakage.scale import doubt_to_log_q
from assay.registry import create, registered

NAMES = ("composite", "distilled", "entropy", "gap", "heads", "pknn", "teachers")


@pytest.fixture(scope="module")
def fitted(digits, victim, brief):
    ensemble = TeacherEnsemble(teachers=12, architecture="mlp-16", recipe=brief).fit(digits, victim)
    heads = LinearHeads().fit(digits, victim)
    gap = Gap().fit(digits, victim)
    return {
        "teachers": ensemble,
        "heads": heads,
        "gap": gap,
        "entropy": Entropy().fit(digits, victim),
        "pknn": NearestNeighbours(k=30).fit(digits, victim),
        "distilled": Distilled(epochs=25, rows=1_000).fit(digits, victim, reference=ensemble),
        "composite": Composite().join([heads, gap], digits.x),
    }


def test_every_estimator_is_registered():
    assert tuple(e.name for e in registered("leakage")) == NAMES
    assert create("teachers", "leakage", {"teachers": "10"}) == TeacherEnsemble(teachers=10)


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_answers_one_number_for_each_row(self, fitted, queries, name):
        estimator = fitted[name]
        found = estimator.log_q(queries)
        assert found.shape == (len(queries),)
        assert found.dtype == np.float64
        assert np.all(found <= 0)
        assert np.all(np.isfinite(found))
        assert np.ptp(found) > 1
        assert estimator.log_q(queries[:0]).shape == (0,)

    def test_is_deterministic_and_does_not_depend_on_the_batch(self, fitted, queries, name):
        estimator = fitted[name]
        whole = estimator.log_q(queries)
        assert np.array_equal(whole, estimator.log_q(queries))
        single = np.concatenate([estimator.log_q(row[None]) for row in queries[:20]])
        np.testing.assert_allclose(single, whole[:20], rtol=1e-3, atol=1e-6)

    def test_unfamiliar_inputs_leak_more(self, fitted, digits, queries, name):
        noise = synthesise(digits, "noise", 200, rng=3).x
        usual, odd = fitted[name].log_q(queries), fitted[name].log_q(noise)
        assert np.median(odd) > np.median(usual)

    def test_survives_being_saved(self, fitted, queries, victim, name, tmp_path):
        estimator = fitted[name]
        folder = estimator.save(tmp_path / "estimator")
        assert not [p for p in folder.rglob("*") if p.suffix in {".pkl", ".pt", ".npy"}]
        again = load_estimator(folder, victim)
        assert again.digest == estimator.digest
        assert (again.name, again.sigma) == (estimator.name, estimator.sigma)
        assert dataclasses.asdict(again.method) == dataclasses.asdict(estimator.method)
        assert np.array_equal(again.log_q(queries), estimator.log_q(queries))
        with pytest.raises(InvalidInput, match="already exists"):
            estimator.save(folder)

    def test_needs_no_victim_beside_it_when_scores_are_known(self, fitted, queries, victim, name, tmp_path):
        estimator = fitted[name]
        again = load_estimator(estimator.save(tmp_path / "estimator"))
        assert again.digest == estimator.digest
        scores = victim.scores(queries)
        np.testing.assert_allclose(
            again.log_q(queries, scores=scores), estimator.log_q(queries), rtol=1e-6, atol=1e-9
        )

    def test_changed_files_are_refused(self, fitted, victim, name, tmp_path):
        folder = fitted[name].save(tmp_path / "estimator")
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            content = file.read_bytes()
            file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
            with pytest.raises(AssayError):
                load_estimator(folder, victim)
            file.write_bytes(content)
        load_estimator(folder, victim)

    def test_bad_inputs_are_refused(self, fitted, queries, name):
        estimator = fitted[name]
        bad = queries[:2].clone()
        bad[0, 0] = torch.nan
        for x in (bad, queries[:2].flatten(1), queries[:2].to(torch.int64), [1.0]):
            with pytest.raises(InvalidInput):
                estimator.log_q(x)

    def test_serves_another_thread(self, fitted, queries, name):
        estimator, found = fitted[name], []
        worker = threading.Thread(target=lambda: found.append(estimator.log_q(queries)))
        worker.start()
        worker.join()
        assert np.array_equal(found[0], estimator.log_q(queries))


def test_another_model_is_refused(fitted, digits, tmp_path):
    from assay.adapters import TorchModel
    from assay.nets import build

    other = TorchModel(build("mlp-32", digits.input_shape, 10, 9))
    folder = fitted["heads"].save(tmp_path / "heads")
    with pytest.raises(InvalidInput, match="another model"):
        load_estimator(folder, other)


def test_manifest_rewritten_with_other_settings_is_refused(fitted, victim, tmp_path):
    folder = fitted["pknn"].save(tmp_path / "pknn")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parameters"]["k"] = 5
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EvidenceTampered, match="digest"):
        load_estimator(folder, victim)


def test_no_estimator_folder(tmp_path):
    with pytest.raises(InvalidInput, match="no manifest"):
        load_estimator(tmp_path)
    (tmp_path / "manifest.json").write_text('{"estimator": "../x"}')
    with pytest.raises(EvidenceTampered, match="names no estimator"):
        load_estimator(tmp_path)


def test_file_outside_the_folder_is_refused(fitted, tmp_path):
    folder = fitted["gap"].save(tmp_path / "gap")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../secret"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EvidenceTampered, match="outside"):
        load_estimator(folder)


def test_scores_replace_the_victim_for_entropy_and_gap(fitted, queries):
    for name in ("entropy", "gap"):
        even = torch.full((len(queries), 10), 0.1)
        found = fitted[name].log_q(queries, scores=even)
        assert np.allclose(found, found[0])
        assert found[0] > fitted[name].log_q(queries).mean()
        with pytest.raises(InvalidInput):
            fitted[name].log_q(queries, scores=even[:3])


def test_entropy_and_gap_keep_the_order_of_their_scores(fitted, queries, victim):
    p = victim.scores(queries).double().numpy()
    top = np.sort(p, axis=1)
    gap, found = top[:, -1] - top[:, -2], fitted["gap"].log_q(queries)
    assert spearmanr(-gap, found).statistic > 0.999
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
    assert spearmanr(entropy, fitted["entropy"].log_q(queries)).statistic > 0.999


def test_doubt_rises_strictly_over_its_whole_range():
    doubt = np.linspace(0, 1, 2_001)
    found = doubt_to_log_q(doubt, 100)
    assert np.all(np.diff(found) > 0)
    with pytest.raises(InvalidInput):
        doubt_to_log_q(doubt, 1)


def test_fast_estimators_keep_the_ranking_of_the_ensemble(fitted, digits, queries):
    pools = [synthesise(digits, kind, 60, rng=8).x for kind in ("noise", "inversions", "blends")]
    mixed = torch.cat([queries, *pools])
    assert rank_agreement(fitted["distilled"], fitted["teachers"], mixed) > 0.45
    assert rank_agreement(fitted["heads"], fitted["teachers"], mixed) > 0.4
    assert fitted["distilled"].facts["rank_correlation"] > 0.45
    with pytest.raises(InvalidInput):
        rank_agreement(fitted["heads"], fitted["teachers"], queries[:2])


def test_heads_report_their_rank_correlation(fitted, digits, victim, queries):
    heads = LinearHeads(teachers=10).fit(digits, victim, reference=fitted["teachers"], traffic=queries)
    assert heads.facts["rank_correlation"] == pytest.approx(
        rank_agreement(heads, fitted["teachers"], queries), abs=1e-6
    )


def test_votes_add_up(fitted, queries):
    assert np.allclose(fitted["teachers"].votes(queries).sum(1), 12)
    assert np.allclose(fitted["heads"].votes(queries).sum(1), fitted["heads"].facts["teachers"])
    assert np.allclose(fitted["pknn"].votes(queries).sum(1), 30)


def test_neighbours_are_the_nearest():
    # Continuous rows: pixels have ties among their distances.
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(300, 6, generator=generator), torch.randint(4, (300,), generator=generator)
    data, asked = Dataset(x, y, tuple("abcd")), torch.rand(50, 6, generator=generator)
    near = NearestNeighbours(k=7, features="inputs").fit(data)
    distance = torch.cdist(asked.double(), x.double())
    for row, votes in zip(distance, near.votes(asked), strict=True):
        expected = np.bincount(y[row.topk(7, largest=False).indices].numpy(), minlength=4)
        assert np.array_equal(votes, expected)


def test_composite_takes_the_most_alarmed_member(fitted, digits, queries):
    heads, gap = fitted["heads"], fitted["gap"]
    plain = Composite(calibrated=False).join([heads, gap], digits.x)
    expected = np.maximum(heads.log_q(queries), gap.log_q(queries))
    np.testing.assert_allclose(plain.log_q(queries), expected)
    mean = Composite(calibrated=False, mode="mean").join([heads, gap], digits.x)
    assert np.all(mean.log_q(queries) <= expected)
    both = fitted["composite"].log_q(queries)
    alone = Composite().join([heads, gap], queries).log_q(queries)
    assert spearmanr(both, alone).statistic > 0.9


def test_calibrated_composite_ignores_the_scale_of_members(digits, victim, queries):
    gap, entropy = Gap().fit(digits, victim), Entropy().fit(digits, victim)
    first = Composite(members=("gap", "entropy")).join([gap, entropy], queries)
    ranks = [np.argsort(np.argsort(e.log_q(queries))) for e in (gap, entropy)]
    assert spearmanr(np.maximum(*ranks), first.log_q(queries)).statistic > 0.98


@pytest.mark.parametrize(
    "make",
    [
        lambda: TeacherEnsemble(teachers=50, sigma=10),
        lambda: TeacherEnsemble(teachers=50, sigma=0.5),
        lambda: TeacherEnsemble(teachers=1),
        lambda: TeacherEnsemble(votes="loud"),
        lambda: LinearHeads(teachers=50, sigma=10),
        lambda: LinearHeads(l2=0),
        lambda: LinearHeads(votes="loud"),
        lambda: NearestNeighbours(k=300, sigma=100),
        lambda: NearestNeighbours(features="smell"),
        lambda: Distilled(broaden=1.0),
        lambda: Distilled(rows=3),
        lambda: Composite(members=("gap",)),
        lambda: Composite(members=("gap", "composite")),
        lambda: Composite(mode="min"),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(InvalidInput):
        make()


def test_force_accepts_unusual_noise():
    assert TeacherEnsemble(teachers=50, sigma=10, force=True).noise == 10
    assert TeacherEnsemble(teachers=250).noise == 10
    assert NearestNeighbours().noise == 28


def test_what_a_victim_does_not_offer_is_asked_for(digits, victim):
    labels = restrict(victim, "labels")
    with pytest.raises(AccessDenied):
        Gap().fit(digits, labels)
    with pytest.raises(AccessDenied):
        LinearHeads(features="embeddings").fit(digits, labels)
    with pytest.raises(InvalidInput, match="pass victim"):
        Entropy().fit(digits)
    with pytest.raises(InvalidInput, match="neighbours"):
        NearestNeighbours(k=300).fit(digits, victim)
    assert LinearHeads(teachers=10).fit(digits, labels).facts["features"] == "inputs"
    assert LinearHeads(teachers=10).fit(digits, restrict(victim, "scores")).facts["features"] == "scores"


def test_other_data_than_the_victims_are_refused(digits, victim):
    for method in (Gap(), LinearHeads(), TeacherEnsemble(teachers=4)):
        with pytest.raises(InvalidInput):
            method.fit(load_data("iris"), victim)
        with pytest.raises(InvalidInput):
            method.fit(digits.subset([]), victim)
