import dataclasses

import numpy as np
import pytest
import torch

from assay.adapters import TorchModel, restrict
from assay.data import Dataset, commit_split, load_data
from assay.errors import AccessDenied, BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence import Evidence, load_evidence
from assay.evidence.dataset_inference import BlindWalk, DatasetInference, MinGD, References, train_references
from assay.ledger import Ledger, Recorded
from assay.model import Access
from assay.nets import Recipe, build, train
from assay.statistics import uniformity

RECIPE = Recipe(epochs=40, optimizer="adam", lr=3e-3, weight_decay=0.0, batch_size=32)
WALK = BlindWalk(walks=4, steps=30, scales=(0.05, 0.05, 0.1))


def fit(data, seed, architecture="mlp-96"):
    network = build(architecture, data.input_shape, data.num_classes, seed)
    train(network, data, RECIPE, rng=seed)
    return TorchModel(network, data.input_shape, data.num_classes, name=f"{architecture} {seed}")


@pytest.fixture(scope="module")
def world():
    """A pool whose private half trained a victim, and rows that trained independent models."""
    digits = load_data("digits")
    # A tenth of the labels is flipped: what a model can only memorise shows whether it did.
    generator = torch.Generator().manual_seed(0)
    y = digits.y.clone()
    flipped = torch.rand(len(y), generator=generator) < 0.1
    y[flipped] = (y[flipped] + 1 + torch.randint(9, (int(flipped.sum()),), generator=generator)) % 10
    digits = digits.relabelled(y).subset(torch.randperm(len(digits), generator=generator))
    pool, rest = digits.subset(range(1000)), digits.subset(range(1000, 1797))
    split = commit_split(pool, rng=11)
    queries = rest.concat(*[jittered(rest, k) for k in range(3)])
    victim = fit(split.private, 1)
    return {
        "pool": pool,
        "split": split,
        "victim": victim,
        "theft": fit(split.private, 2, "mlp-64-32"),
        "label": fit(queries.relabelled(victim.labels(queries.x)), 3),
        "independent": [fit(rest.subset(torch.randperm(len(rest))[:500]), 20 + k) for k in range(3)],
        "on_control": fit(split.control, 30),
        "references": train_references(pool, 12, architecture="mlp-96", recipe=RECIPE, rng=5),
    }


def jittered(data, seed):
    noise = 0.1 * torch.randn(data.x.shape, generator=torch.Generator().manual_seed(seed))
    return Dataset((data.x + noise).clamp(0, 1), data.y, data.classes, data.value_range, data.name)


def register(world, **options):
    options = {"keep": 400, **options}
    split = world["split"]
    return DatasetInference(**options).register(
        world["victim"], split.private, split.control, references=world["references"], rng=7
    )


@pytest.mark.parametrize("access", ["labels", "scores"])
@pytest.mark.parametrize("decide", ["betting", "permutation"])
def test_informative_rows_flag_copies_and_spare_independent_models(world, access, decide):
    evidence = register(world, access=access, decide=decide)
    for suspect in ("victim", "theft", "label"):
        verdict = evidence.verify(world[suspect])
        assert verdict.stolen, suspect
        assert verdict.effect.low > 0
    for model in world["independent"]:
        assert evidence.verify(model).p_value > 0.01


def test_direct_copies_need_few_labels(world):
    evidence = register(world, access="labels")
    assert evidence.verify(world["victim"]).queries <= 100
    assert evidence.verify(world["theft"]).queries <= 100
    verdict = evidence.verify(world["victim"])
    assert verdict.n["private"] + verdict.n["control"] == verdict.queries == verdict.details["rows_asked"]


def test_a_model_trained_on_the_control_rows_is_never_flagged(world):
    # Why such a model is no control: its effect is negative by construction.
    verdict = register(world, decide="permutation").verify(world["on_control"])
    assert verdict.effect.value < -0.1
    assert verdict.p_value > 0.9


def test_what_is_asked_does_not_depend_on_the_secret(world):
    # The same references and another split: rows, order and weights must not move.
    other = commit_split(world["pool"], rng=99)
    a = register(world)
    b = DatasetInference(keep=400).register(
        world["victim"], other.private, other.control, references=world["references"], rng=7
    )
    key = lambda e: sorted(map(bytes, e.tensors["x"].numpy().reshape(400, -1)))  # noqa: E731
    assert key(a) == key(b)
    for name in a.tensors:
        if name.endswith(("slope", "centre", "information")):
            assert torch.equal(a.tensors[name].sort().values, b.tensors[name].sort().values)
    assert not torch.equal(a.tensors["coin"], b.tensors["coin"])


@pytest.mark.parametrize("decide", ["betting", "permutation"])
def test_p_values_of_independent_models_are_super_uniform_over_splits(world, decide):
    evidence = register(world, decide=decide, resamples=499, keep=200)
    p = [
        decoy.verify(model).p_value
        for index, model in enumerate(world["independent"])
        for decoy in evidence.decoys(70, rng=index)
    ]
    assert uniformity(p).p_value > 0.001
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * (0.05 / len(p)) ** 0.5


def test_even_the_victim_is_independent_of_a_split_drawn_afresh(world):
    evidence = register(world, decide="permutation", resamples=499, keep=200)
    p = [decoy.verify(world["victim"]).p_value for decoy in evidence.decoys(100, rng=3)]
    assert uniformity(p).p_value > 0.001


def test_dose_response(world):
    split, rest = world["split"], world["pool"]
    private = split.private
    outside = load_data("digits").subset(range(1400, 1797))
    evidence = register(world, decide="permutation")
    effects = []
    for share in (0.0, 0.5, 1.0):
        data = private.subset(range(int(share * len(private))))
        # The same number of rows, topped up from outside the pool.
        filler = outside.subset(torch.arange(len(private) - len(data)) % len(outside))
        effects.append(evidence.verify(fit(data.concat(filler), 40)).effect.value)
    assert effects == sorted(effects)
    assert effects[2] > effects[0] + 0.2
    assert len(rest) == 1000


@pytest.mark.parametrize(
    ("embedding", "options"),
    [
        ("blind-walk", {"walk": WALK, "keep": 150}),
        ("mingd", {"descent": MinGD(steps=60, targets=3), "keep": 80}),
    ],
)
def test_classic_embeddings_with_references(world, embedding, options):
    evidence = register(world, embedding=embedding, **options)
    assert evidence.facts["fitted_on"] == "references"
    assert evidence.verify(world["theft"]).stolen
    assert evidence.verify(world["independent"][0]).p_value > 0.01


def test_blind_walk_fitted_on_the_victim_says_so(world):
    split = world["split"]
    scheme = DatasetInference(embedding="blind-walk", references=0, walk=WALK, keep=500)
    # Random rows say little: only a victim that knows its rows by heart is found this way.
    learnt = build("mlp-256", (1, 8, 8), 10, 1)
    train(learnt, split.private, dataclasses.replace(RECIPE, epochs=80), rng=1)
    victim = TorchModel(learnt)
    evidence = scheme.register(victim, split.private, split.control, rng=3)
    verdict = evidence.verify(victim)
    assert verdict.stolen
    assert [a.holds for a in verdict.assumptions] == [None, None]
    assert evidence.verify(world["independent"][1]).p_value > 0.01
    # The rows that fitted the scorer are in no pool that coins are drawn from.
    assert sum(rows for rows, _ in evidence.facts["totals"]) == 1000 - len(evidence.tensors["x"])


def test_blind_walk_can_bet_and_stop_early(world):
    evidence = register(world, embedding="blind-walk", walk=WALK, keep=150, decide="betting")
    verdict = evidence.verify(world["victim"])
    assert verdict.stolen
    assert verdict.details["rows_asked"] < 150


def test_published_aggregate_only_on_request_and_never_decides(world):
    options = {"embedding": "blind-walk", "walk": WALK, "keep": 100}
    plain = register(world, **options).verify(world["theft"])
    assert "published_aggregate" not in plain.details
    compat = register(world, **options, paper_compat=True).verify(world["theft"])
    assert "not a p-value" in compat.details["published_aggregate"]["note"]
    assert compat.p_value == plain.p_value


def test_same_seed_same_verdict_and_round_trip(world, tmp_path):
    evidence = register(world, embedding="blind-walk", walk=WALK, keep=100)
    first = evidence.verify(world["label"], rng=4)
    evidence.save(tmp_path / "e")
    again = load_evidence(tmp_path / "e")
    assert again.scheme == evidence.scheme
    assert again.commitment == evidence.commitment
    second = again.verify(world["label"], rng=4)
    assert (second.p_value, second.samples) == (first.p_value, first.samples)


def test_journal_replays_a_verdict_without_the_suspect(world, tmp_path):
    evidence = register(world, access="labels")
    journal = tmp_path / "answers.jsonl"
    first = evidence.verify(restrict(world["label"], Access.LABELS), journal=journal)
    again = evidence.verify(restrict(Recorded(journal), Access.LABELS), journal=journal)
    assert (again.p_value, again.queries, again.samples) == (first.p_value, first.queries, first.samples)
    assert again.cost.replayed == first.queries
    assert again.cost.round_trips == 0


def test_labels_suffice_and_scores_are_taken_only_when_granted(world):
    evidence = register(world)
    verdict = evidence.verify(restrict(world["victim"], Access.LABELS))
    assert verdict.details["access"] == "label"
    assert evidence.verify(world["victim"]).details["access"] == "score"
    with pytest.raises(AccessDenied, match="scores"):
        register(world, access="scores").verify(restrict(world["victim"], Access.LABELS))
    with pytest.raises(AccessDenied, match="weights"):
        register(world, embedding="mingd", keep=20).verify(restrict(world["victim"], Access.SCORES))


def test_budget_is_kept_and_a_useless_one_refused(world):
    evidence = register(world, access="labels")
    verdict = evidence.verify(world["independent"][0], budget=50)
    assert verdict.queries == 50
    assert verdict.decision == "inconclusive"
    with pytest.raises(BudgetExceeded, match="at least 8"):
        evidence.verify(world["victim"], budget=7)
    walks = register(world, embedding="blind-walk", walk=WALK, keep=100)
    assert walks.verify(world["victim"], budget=2000).queries <= 2000
    with pytest.raises(BudgetExceeded, match="rows"):
        walks.verify(world["victim"], budget=100)


class _Constant:
    """A suspect that always says 0."""

    name, digest, access = "constant", "constant", Access.LABELS
    input_shape, num_classes = (1, 8, 8), 10

    def labels(self, x):
        return torch.zeros(len(x), dtype=torch.int64)


def test_a_constant_suspect_is_inconclusive(world):
    assert register(world).verify(_Constant()).p_value > 0.01
    assert register(world, decide="permutation").verify(_Constant()).p_value > 0.01


def test_suspects_of_another_shape_or_with_other_classes_are_refused(world):
    evidence = register(world)
    with pytest.raises(InvalidInput, match="shape"):
        evidence.verify(TorchModel(build("mlp-4", (64,), 10), (64,), 10))
    with pytest.raises(InvalidInput, match="classes"):
        evidence.verify(TorchModel(build("mlp-4", (1, 8, 8), 9), (1, 8, 8), 9))


def test_coins_that_do_not_fit_their_pool_are_tampering(world):
    evidence = register(world)
    coins = torch.ones_like(evidence.tensors["coin"])
    forged = Evidence(
        evidence.scheme, {**evidence.tensors, "coin": coins}, {**evidence.facts, "totals": [[5, 5]]}
    )
    with pytest.raises(EvidenceTampered):
        forged.verify(world["victim"])


def test_references_save_load_align_and_refuse_unknown_rows(world, tmp_path):
    references = world["references"]
    references.save(tmp_path / "r.npz")
    loaded = References.load(tmp_path / "r.npz")
    assert np.array_equal(loaded.members, references.members)
    probe = world["pool"].x[:5]
    assert len(loaded.networks) == 2
    assert torch.equal(loaded.networks[0](probe), references.networks[0](probe))
    order = torch.randperm(len(world["pool"]))
    moved = loaded.aligned(world["pool"].subset(order))
    assert np.array_equal(moved.margin, references.margin[:, order.numpy()])
    with pytest.raises(InvalidInput, match="unknown"):
        loaded.aligned(load_data("digits").subset(range(5)))
    # Complementary halves: every row has six references of either kind.
    assert (references.members.sum(0) == 6).all()
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(InvalidInput):
        References.load(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    "options",
    [
        {"keep": 4},
        {"references": 1},
        {"batch": 0},
        {"embedding": "psychic"},
        {"resamples": 5},
        {"references": 0},
    ],
)
def test_options_out_of_range(options):
    with pytest.raises(InvalidInput, match=next(iter(options))):
        DatasetInference(**options)


def test_verification_leaves_the_suspect_untouched(world):
    model = world["victim"]
    model.module.zero_grad(set_to_none=True)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    state = torch.get_rng_state()
    register(world, embedding="mingd", descent=MinGD(steps=20, targets=2), keep=20).verify(model)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in model.module.state_dict().items())
    assert all(p.grad is None for p in model.module.parameters())
    assert not model.module.training


def test_every_row_is_metered(world):
    asked = 0

    class Spy(_Constant):
        def labels(self, x):
            nonlocal asked
            asked += len(x)
            return super().labels(x)

    verdict = register(world, access="labels").verify(Spy(), budget=120)
    assert asked == verdict.queries == 120
    assert isinstance(Ledger(Spy(), Access.LABELS), Ledger)
