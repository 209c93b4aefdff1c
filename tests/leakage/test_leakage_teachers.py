import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from assay.data import Dataset, load_data
from assay.errors import EvidenceTampered, InvalidInput
from assay.leakage import TeacherEnsemble, teachers
from assay.leakage.logistic import fit_logistic
from assay.leakage.parts import disjoint_parts
from assay.leakage.stacked import StackedNetworks, stack_weights
from assay.leakage.votes import tally
from assay.nets import Recipe, build
from assay.observers import Observer, Recorder


class Stop(Observer):
    def on_step(self, task, done, metrics=None):
        if task == "teachers" and done == 3:
            raise KeyboardInterrupt


def test_parts_are_disjoint_and_even(digits):
    parts = disjoint_parts(digits, 7, 0)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(digits)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert not np.array_equal(parts[0], disjoint_parts(digits, 7, 1)[0])


def test_parts_follow_the_rows_not_their_order(digits):
    order = np.random.default_rng(0).permutation(len(digits))
    plain, mixed = disjoint_parts(digits, 5, 0), disjoint_parts(digits.subset(order), 5, 0)
    for a, b in zip(plain, mixed, strict=True):
        assert set(a) == set(order[b])


def test_equal_rows_share_a_teacher(digits):
    twice = digits.subset(np.repeat(np.arange(100), 3))
    home = np.empty(len(twice), dtype=int)
    for place, part in enumerate(disjoint_parts(twice, 10, 0)):
        home[part] = place
    assert np.all(home.reshape(100, 3) == home.reshape(100, 3)[:, :1])
    with pytest.raises(InvalidInput, match="equal rows"):
        disjoint_parts(digits.subset(np.zeros(40, dtype=int)), 4)
    with pytest.raises(InvalidInput, match="teachers"):
        disjoint_parts(digits, 400)


@pytest.mark.parametrize(("name", "shape"), [("mlp-8", (5,)), ("cnn-2", (1, 8, 8)), ("wrn-10-1", (3, 8, 8))])
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_stacked_answers_are_those_of_each_network(name, shape, rows):
    networks = [build(name, shape, 3, rng).eval() for rng in range(4)]
    x = torch.rand(rows, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.stack([network(x) for network in networks])
    found = StackedNetworks(name, shape, 3, stack_weights(networks)).logits(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_stacked_weights_must_fit():
    weights = stack_weights([build("mlp-8", (5,), 3, rng) for rng in range(2)])
    with pytest.raises(EvidenceTampered):
        StackedNetworks("mlp-9", (5,), 3, weights)
    weights["head.bias"] = weights["head.bias"][:1]
    with pytest.raises(EvidenceTampered):
        StackedNetworks("mlp-8", (5,), 3, weights)


def test_interrupted_fit_goes_on(digits, brief, tmp_path, monkeypatch):
    method = TeacherEnsemble(teachers=6, architecture="mlp-8", recipe=brief)
    with pytest.raises(KeyboardInterrupt):
        method.fit(digits, checkpoint=tmp_path, observers=[Stop()])
    assert len(list(tmp_path.glob("teacher-*.safetensors"))) == 3
    calls, real = [], teachers.train
    monkeypatch.setattr(teachers, "train", lambda *a, **k: (calls.append(1), real(*a, **k)))
    log = Recorder()
    resumed = method.fit(digits, checkpoint=tmp_path, observers=[log])
    assert len(calls) == 3
    assert len([e for e in log.events if e[:2] == ("step", "teachers")]) == 6
    monkeypatch.undo()
    assert resumed.digest == method.fit(digits).digest
    with pytest.raises(InvalidInput, match="another training"):
        method.fit(digits, rng=1, checkpoint=tmp_path)
    (tmp_path / "teacher-0000.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(InvalidInput, match="cannot read"):
        method.fit(digits, checkpoint=tmp_path)


def test_accuracy_of_every_teacher_is_kept(digits, brief):
    ensemble = TeacherEnsemble(teachers=5, architecture="mlp-8", recipe=brief).fit(digits)
    facts = ensemble.facts
    assert len(facts["accuracy"]) == 5 == len(facts["rows"])
    assert facts["mean_accuracy"] == pytest.approx(np.mean(facts["accuracy"]))
    assert 0.4 < facts["mean_accuracy"] <= 1
    assert ensemble.sigma == pytest.approx(0.2)


def test_convolutional_teachers_agree_whatever_the_batch(digits):
    recipe = Recipe(epochs=2, batch_size=32, lr=0.05)
    ensemble = TeacherEnsemble(teachers=4, architecture="cnn-2", recipe=recipe, votes="soft").fit(digits)
    x = digits.x[:16]
    single = np.concatenate([ensemble.votes(row[None]) for row in x])
    np.testing.assert_allclose(single, ensemble.votes(x), atol=1e-4)


@pytest.mark.parametrize("l2", [1.0, 0.1])
def test_batched_regressions_are_scikit_learns(digits, l2):
    parts = disjoint_parts(digits.subset(np.arange(120)), 3, 0)
    features = digits.x.flatten(1)
    weight, bias = fit_logistic(features, digits.y, parts, 10, l2=l2, steps=1_000)
    for index, part in enumerate(parts):
        model = LogisticRegression(C=1 / l2, max_iter=5_000, tol=1e-8)
        model.fit(features[part].numpy(), digits.y[part].numpy())
        found = torch.softmax(features @ weight[index] + bias[index], 1).numpy()
        np.testing.assert_allclose(found[:, model.classes_], model.predict_proba(features.numpy()), atol=0.01)


def test_a_class_that_a_part_lacks_is_never_chosen():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    y = torch.cat([torch.zeros(20), torch.full((20,), 2.0)]).long()
    weight, bias = fit_logistic(x, y, [np.arange(10, 30)], 3, l2=1.0, steps=100)
    far = 100 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    logits = far @ weight[0] + bias[0]
    assert not (logits.argmax(1) == 1).any()
    assert torch.isfinite(torch.softmax(logits.double(), 1)).all()


def test_soft_votes_add_probabilities():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])).T[None]
    torch.testing.assert_close(
        tally(logits, soft=True), torch.tensor([[0.6, 1.1, 0.3]], dtype=torch.float64), rtol=1e-6, atol=1e-6
    )
    assert tally(logits, soft=False).tolist() == [[1.0, 1.0, 0.0]]


def test_tables_have_teachers_too():
    data = load_data("wine")
    ensemble = TeacherEnsemble(teachers=5, recipe=Recipe(epochs=3, optimizer="adam", lr=0.01)).fit(data)
    assert ensemble.facts["architecture"] == "mlp-64"
    assert ensemble.log_q(data.x[:3]).shape == (3,)


def test_data_are_left_alone(digits, brief):
    copy = Dataset(digits.x.clone(), digits.y.clone(), digits.classes, digits.value_range)
    state = torch.random.get_rng_state()
    TeacherEnsemble(teachers=3, architecture="mlp-4", recipe=brief).fit(digits)
    assert torch.equal(copy.x, digits.x)
    assert torch.equal(torch.random.get_rng_state(), state)
