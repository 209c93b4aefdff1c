"""What a thief's service puts before and behind the copy."""

import pytest
import torch
from torch import nn

from assay.adapters import TorchModel, open_model
from assay.data import Dataset
from assay.errors import InvalidInput
from assay.nets import build, predict
from assay.nets.input_layers import INPUT_LAYERS
from assay.removal import FineTuning, InputPreprocessing, QueryFilter, Stacked
from assay.removal.query_filter import filter_auroc, outlier_scores


@pytest.mark.parametrize("kind", INPUT_LAYERS)
def test_the_washed_model_is_the_copy_asked_differently(kind, model, held_out):
    washed = InputPreprocessing(kind=kind).run(model, held_out).model
    changed = INPUT_LAYERS[kind]()(held_out.x)
    assert torch.equal(washed.scores(held_out.x), model.scores(changed))
    assert torch.equal(washed.module.head.weight, model.module.head.weight)


def test_a_fine_trigger_goes_and_a_coarse_one_stays():
    """A network that reads one pixel, and one that reads the mean of all."""

    class Reads(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = nn.Parameter(weight)

        def forward(self, x):
            seen = (x * self.weight).flatten(1).sum(1)
            return torch.stack([seen, torch.full_like(seen, 0.5)], 1)

    pixel = torch.zeros(1, 9, 9)
    pixel[0, 4, 4] = 1
    x = torch.zeros(1, 1, 9, 9)
    fine = TorchModel(Reads(pixel), (1, 9, 9), 2)
    coarse = TorchModel(Reads(torch.full((1, 9, 9), 1 / 81)), (1, 9, 9), 2)
    dot, light = x + pixel, x + 0.8
    for kind in ("mean", "median", "gaussian"):
        attack = InputPreprocessing(kind=kind, strength=1.0 if kind == "gaussian" else None)
        assert (int(fine.labels(dot)), int(coarse.labels(light))) == (0, 0)
        assert int(attack.run(fine).model.labels(dot)) == 1
        assert int(attack.run(coarse).model.labels(light)) == 0


def test_the_range_is_that_of_the_data(few):
    wide = Dataset(few.x * 4 - 2, few.y, few.classes, (-2.0, 2.0))
    model = TorchModel(build("cnn-4", (1, 8, 8), 10, 0).eval())
    washed = InputPreprocessing(kind="levels", strength=2).run(model, wide).model
    assert torch.equal(washed.scores(wide.x), model.scores(torch.where(wide.x > 0, 2.0, -2.0)))


def test_tables_have_noise_and_levels_only():
    table = Dataset(torch.rand(8, 5), torch.arange(8) % 2, ("a", "b"))
    model = TorchModel(build("mlp-4", (5,), 2).eval())
    for kind in ("noise", "levels"):
        assert InputPreprocessing(kind=kind).run(model, table).model.scores(table.x).shape == (8, 2)
    with pytest.raises(InvalidInput, match="images"):
        InputPreprocessing(kind="median").run(model, table)


def test_layers_stack_and_are_tuned_through(model, thief, held_out, tmp_path):
    attack = Stacked(
        attacks="input-preprocessing:kind=median;input-preprocessing:kind=levels,strength=32;fine-tuning:lr=0.05"
    )
    done = attack.run(model, thief, evaluation=held_out)
    assert done.model.module.architecture == "levels+median+cnn-8"
    blurred = InputPreprocessing(kind="median").run(model, thief, evaluation=held_out).record
    assert done.record.accuracy.value > blurred.accuracy.value
    done.save(tmp_path)
    assert open_model(tmp_path / "model.safetensors").digest == done.record.washed


@pytest.mark.parametrize("score", ["lof", "forest"])
def test_a_filter_keeps_ordinary_answers_and_finds_what_is_foreign(score, model, thief, held_out):
    done = QueryFilter(score=score, share=0.05).run(model, thief, evaluation=held_out)
    assert 0.005 < done.record.measured["evaded"] < 0.15
    washed = done.model.module
    evaded = outlier_scores(washed, held_out.x) > washed.head.threshold
    assert torch.equal(done.model.labels(held_out.x)[~evaded], model.labels(held_out.x)[~evaded])
    assert float((done.model.labels(held_out.x) == model.labels(held_out.x))[evaded].double().mean()) < 0.5
    black_and_white = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    assert filter_auroc(washed, held_out.x, black_and_white) > 0.8
    # Inputs of the same kind cannot be told apart.
    assert abs(filter_auroc(washed, held_out.x[:300], held_out.x[300:]) - 0.5) < 0.1


def test_triggers_that_are_given_are_measured(model, thief, held_out, tmp_path):
    x = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    Dataset(x, torch.zeros(60, dtype=torch.int64), ("a", "b"), name="triggers").save(tmp_path / "t.npz")
    attack = QueryFilter(triggers=str(tmp_path / "t.npz"))
    measured = attack.run(model, thief, evaluation=held_out).record.measured
    assert set(measured) == {"evaded", "evaded_triggers", "auroc"}
    assert measured["evaded_triggers"] > measured["evaded"]


def test_the_second_best_class_answers(model, thief):
    attack = QueryFilter(evasion="second", share=0.3)
    done = attack.run(model, thief)
    evaded = outlier_scores(done.model.module, thief.x) > done.model.module.head.threshold
    assert 20 < int(evaded.sum()) < 300
    second = predict(model.module, thief.x).topk(2).indices[:, 1]
    assert torch.equal(done.model.labels(thief.x)[evaded], second[evaded])


def test_a_filter_replaces_the_one_before_it(model, thief):
    once = QueryFilter(score="forest", size=10).run(model, thief)
    twice = QueryFilter(score="lof", size=30).run(once.model, thief)
    assert twice.model.module.architecture == "lof-30+cnn-8"
    head, plain = twice.model.module.head, model.module.head
    assert torch.equal(head.weight, plain.weight)
    assert outlier_scores(once.model.module, thief.x).shape == (400,)


def test_what_cannot_be_filtered_is_refused(model, few, thief):
    with pytest.raises(InvalidInput, match="no filter"):
        outlier_scores(model.module, few.x)
    with pytest.raises(InvalidInput, match="as many rows"):
        QueryFilter(size=13).run(model, few)
    washed = QueryFilter().run(model, thief).model.module
    with pytest.raises(InvalidInput, match="at least one of each"):
        filter_auroc(washed, few.x, few.x[:0])
    convolutional = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(InvalidInput, match="linear"):
        QueryFilter().run(TorchModel(convolutional.eval(), (1, 8, 8), 10), few)
    assert FineTuning(epochs=1).run(TorchModel(washed), few).model.module.architecture.startswith("lof-")
