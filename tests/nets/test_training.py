import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import Recipe, build, predict, train
from assay.observers import Observer, Recorder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = (data.images[order] / 16).astype(np.float32)[:, None]
    return Dataset.from_arrays(images, data.target[order], name="digits")


@pytest.fixture(scope="module")
def few(digits):
    return digits.subset(range(150))


@pytest.fixture(scope="module")
def held_out(digits):
    return digits.subset(range(1000, 1400))


def _accuracy(network, data):
    return float((predict(network, data.x).argmax(1) == data.y).float().mean())


def _same(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(v, w) for (a, v), (b, w) in pairs)


def _fit(few, recipe, name="cnn-4", seed=0, **options):
    network = build(name, few.input_shape, 10, seed)
    result = train(network, few, recipe, rng=seed, **options)
    return network, result


def test_bf16_and_fp32_agree_in_accuracy(digits, held_out):
    data = digits.subset(range(600))
    found = {}
    for precision in ("bf16", "fp32"):
        network, _ = _fit(data, Recipe(epochs=6, batch_size=32, precision=precision), "cnn-8")
        assert next(network.parameters()).dtype == torch.float32
        found[precision] = _accuracy(network, held_out)
    assert min(found.values()) > 0.9
    assert abs(found["bf16"] - found["fp32"]) < 0.03


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_seed_gives_the_same_weights(few, optimizer):
    recipe = Recipe(epochs=2, batch_size=32, optimizer=optimizer, lr=0.01, augment="crop-flip", average=0.9)
    one, _ = _fit(few, recipe, "wrn-10-1-30")
    torch.rand(1)  # wherever the global generator happens to stand
    two, _ = _fit(few, recipe, "wrn-10-1-30")
    other = build("wrn-10-1-30", few.input_shape, 10, 0)
    train(other, few, recipe, rng=1)
    assert _same(one, two)
    assert not _same(one, other)


def test_training_leaves_global_random_state_and_data_alone(few):
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002 - the global state is what must not change
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    x, y = few.x.clone(), few.y.clone()
    network, _ = _fit(few, Recipe(epochs=1, batch_size=32, augment="crop-flip"), "wrn-10-1-30")
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert torch.equal(few.x, x)
    assert torch.equal(few.y, y)
    assert not network.training


class _Interrupted(Exception):
    pass


class _Killer(Observer):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_step(self, task, done, metrics=None):
        if done == self.epoch:
            raise _Interrupted


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp-16", {}),
        ("mlp-16", {"optimizer": "adam", "lr": 0.01}),
        ("cnn-4", {"average": 0.9, "schedule": "cosine"}),
        ("cnn-4", {"precision": "bf16"}),
        ("wrn-10-1-30", {"augment": "crop-flip", "precision": "fp32", "average": 0.8}),
        ("mlp-16", {"patience": 1, "lr": 0.3, "epochs": 12, "batch_size": 16}),
        ("mlp-16", {"patience": 0, "average": 0.5, "lr": 0.3, "epochs": 12}),
    ],
)
@pytest.mark.parametrize("kills", [(1,), (2, 3)])
def test_a_resumed_training_ends_with_the_same_bits(few, held_out, tmp_path, name, options, kills):
    recipe = Recipe(**{"epochs": 4, "batch_size": 50, **options})
    watched = {"validation": held_out.subset(range(60))} if "patience" in options else {}
    whole, result = _fit(few, recipe, name, **watched)
    path = tmp_path / "checkpoint.safetensors"
    for epoch in kills:
        with pytest.raises(_Interrupted):
            _fit(few, recipe, name, checkpoint=path, observers=[_Killer(epoch)], **watched)
    # Another initial seed: everything must come from the checkpoint.
    resumed = build(name, few.input_shape, 10, 99)
    rest = train(resumed, few, recipe, rng=0, checkpoint=path, **watched)
    assert _same(whole, resumed)
    assert rest.epochs == result.epochs
    assert rest.loss == result.loss[kills[-1] :]
    # A finished training is finished.
    again = build(name, few.input_shape, 10, 98)
    assert train(again, few, recipe, rng=0, checkpoint=path, **watched).loss == ()
    assert _same(whole, again)


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("seed", {"rng": 1}),
        ("recipe", {"recipe": Recipe(epochs=2, lr=0.2)}),
        ("data", {"data": "other"}),
        ("targets", {"targets": torch.zeros(150, dtype=torch.int64)}),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(few, digits, tmp_path, word, change):
    path = tmp_path / "c"
    _fit(few, Recipe(epochs=1), "mlp-4", checkpoint=path)
    network = build("mlp-4", few.input_shape, 10)
    data = digits.subset(range(1, 151)) if "data" in change else few
    recipe = change.get("recipe", Recipe(epochs=1))
    with pytest.raises(InvalidInput, match=word):
        train(
            network,
            data,
            recipe,
            targets=change.get("targets"),
            rng=change.get("rng", 0),
            checkpoint=path,
        )


def test_a_damaged_checkpoint_or_one_of_another_network_is_refused(few, tmp_path):
    path = tmp_path / "c"
    _fit(few, Recipe(epochs=1), "mlp-4", checkpoint=path)
    with pytest.raises(InvalidInput, match="delete it to start afresh"):
        _fit(few, Recipe(epochs=1), "mlp-5", checkpoint=path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InvalidInput, match="delete it to start afresh"):
        _fit(few, Recipe(epochs=1), "mlp-4", checkpoint=path)
    path.write_bytes(b"\x80\x04junk")
    with pytest.raises(InvalidInput, match="delete it to start afresh"):
        _fit(few, Recipe(epochs=1), "mlp-4", checkpoint=path)


def test_soft_labels_are_learned_and_one_hot_ones_equal_hard_ones(digits, few, held_out):
    recipe = Recipe(epochs=3, batch_size=50)
    hard, hard_result = _fit(few, recipe, "mlp-16")
    soft, soft_result = _fit(
        few, recipe, "mlp-16", targets=nn.functional.one_hot(few.y, 10).to(torch.float32)
    )
    assert soft_result.loss == pytest.approx(hard_result.loss, rel=1e-4)
    assert torch.allclose(hard.head.weight, soft.head.weight, atol=1e-4)
    teacher, _ = _fit(digits.subset(range(600)), Recipe(epochs=15, batch_size=32), "mlp-64")
    target = predict(teacher, few.x).softmax(1)
    student, result = _fit(few, Recipe(epochs=60, batch_size=32), "mlp-64", targets=target)
    assert result.loss[-1] < 0.05 * result.loss[0]  # the divergence can reach zero
    assert _accuracy(student, held_out) > 0.8


def test_other_hard_labels_replace_the_data_sets_own(few):
    network, _ = _fit(few, Recipe(epochs=20), "mlp-16", targets=torch.full((150,), 3))
    assert bool((predict(network, few.x).argmax(1) == 3).all())


def test_label_smoothing_keeps_the_network_unsure(few):
    sure, _ = _fit(few, Recipe(epochs=40, batch_size=32), "mlp-32")
    unsure, _ = _fit(few, Recipe(epochs=40, batch_size=32, label_smoothing=0.3), "mlp-32")
    confidence = [float(predict(n, few.x).softmax(1).amax(1).mean()) for n in (sure, unsure)]
    assert confidence[0] > 0.9
    assert confidence[1] < 0.85


def test_early_stopping_returns_the_best_weights(few, held_out):
    recipe = Recipe(epochs=40, batch_size=16, lr=0.5, schedule="constant", patience=2)
    network, result = _fit(few, recipe, "mlp-16", validation=held_out)
    assert result.epochs < 40
    assert result.epochs == len(result.validation)
    best = int(np.argmax(result.validation))
    assert result.epochs == best + 1 + 3  # patience epochs without a better one, and the one too many
    assert _accuracy(network, held_out) == pytest.approx(max(result.validation))


def test_without_patience_the_last_weights_are_returned(few, held_out):
    with_validation, result = _fit(few, Recipe(epochs=5), "mlp-16", validation=held_out)
    without, _ = _fit(few, Recipe(epochs=5), "mlp-16")
    assert len(result.validation) == 5
    assert _same(with_validation, without)


def test_the_weight_average_lies_between_and_keeps_the_input_scale(few):
    shifted = Dataset(few.x * 0.1 + 0.8, few.y, few.classes, name="shifted")
    averaged, _ = _fit(shifted, Recipe(epochs=3, average=0.99), "cnn-4")
    plain, _ = _fit(shifted, Recipe(epochs=3), "cnn-4")
    assert torch.equal(averaged.normalize.mean, plain.normalize.mean)
    assert torch.equal(averaged.normalize.std, plain.normalize.std)
    start = build("cnn-4", few.input_shape, 10, 0)
    distance = [float((n.head.weight - start.head.weight).detach().norm()) for n in (averaged, plain)]
    assert 0 < distance[0] < distance[1]


def test_normalisation_is_fitted_unless_forbidden(few):
    fitted, _ = _fit(few, Recipe(epochs=1), "mlp-4")
    kept, _ = _fit(few, Recipe(epochs=1), "mlp-4", fit_normalization=False)
    assert float(fitted.normalize.mean) == pytest.approx(float(few.x.mean()), abs=1e-6)
    assert float(kept.normalize.mean) == 0


def test_divergence_is_a_sentence_not_a_broken_model(few):
    with pytest.raises(InvalidInput, match="lower the learning rate"):
        _fit(few, Recipe(epochs=5, lr=1e30, schedule="constant"), "mlp-16")


def test_a_last_batch_of_one_row_is_no_trouble_for_batch_normalisation(digits):
    network, result = _fit(digits.subset(range(33)), Recipe(epochs=1, batch_size=32), "resnet-10-4")
    assert np.isfinite(result.loss[0])
    assert bool(torch.isfinite(predict(network, digits.x[:2])).all())


def test_observers_hear_of_every_epoch(few, held_out):
    log = Recorder()
    _, result = _fit(few, Recipe(epochs=2), "mlp-4", observers=[log], validation=held_out, task="copy")
    assert [e[0] for e in log.events] == ["start", "step", "step", "end"]
    assert {e[1] for e in log.events} == {"copy"}
    assert log.events[2][3] == {"loss": result.loss[1], "validation": result.validation[1]}


def test_bad_requests_are_refused(few):
    network = build("mlp-4", few.input_shape, 10)
    with pytest.raises(InvalidInput, match="it is empty"):
        train(network, few.subset([]), Recipe(epochs=1))
    with pytest.raises(InvalidInput, match="validation set"):
        train(network, few, Recipe(epochs=1, patience=1))
    with pytest.raises(InvalidInput, match="3 targets for 150 rows"):
        train(network, few, Recipe(epochs=1), targets=torch.zeros(3, dtype=torch.int64))


def test_prediction_ignores_batch_size_and_restores_the_mode(few):
    network, _ = _fit(few, Recipe(epochs=1), "mlp-16")
    network.train()
    whole = predict(network, few.x)
    assert network.training
    assert torch.allclose(whole, predict(network, few.x, batch_size=7), atol=1e-6)
    assert whole.dtype == torch.float32
    assert not whole.requires_grad
