import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.nets import Recipe, build

SCHEDULES = ["triangle", "step", "cosine", "constant"]


@pytest.mark.parametrize("lr", [0.1, 0.01, 3.0, 0.07])
def test_triangle_is_exact_at_its_knots(lr):
    recipe = Recipe(lr=lr)
    assert [recipe.rate(p) for p in (0.0, 0.4, 0.8, 1.0)] == [0.0, lr, lr / 10, 0.0]
    assert recipe.rate(0.2) == pytest.approx(lr / 2)
    assert recipe.rate(0.6) == pytest.approx(lr * 0.55)
    assert recipe.rate(0.9) == pytest.approx(lr / 20)


def test_steps_come_at_30_60_and_80_percent():
    recipe = Recipe(lr=1.0, schedule="step")
    marks = [0.0, 0.299, 0.3, 0.599, 0.6, 0.799, 0.8, 1.0]
    expected = [1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008]
    assert [recipe.rate(p) for p in marks] == pytest.approx(expected)


def test_cosine_and_constant():
    cosine = Recipe(lr=0.2, schedule="cosine")
    assert [cosine.rate(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.1, 0.0])
    assert {Recipe(lr=0.2, schedule="constant").rate(p / 7) for p in range(8)} == {0.2}


@given(st.sampled_from(SCHEDULES), st.floats(0, 1), st.floats(1e-4, 10))
def test_rates_stay_between_zero_and_the_peak(schedule, progress, lr):
    assert 0 <= Recipe(lr=lr, schedule=schedule).rate(progress) <= lr * (1 + 1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": math.inf},
        {"lr": math.nan},
        {"momentum": 1.0},
        {"weight_decay": -1e-4},
        {"label_smoothing": 1.0},
        {"average": 1.0},
        {"patience": -1},
        {"optimizer": "lion"},
        {"schedule": "linear"},
        {"augment": "mixup"},
        {"precision": "fp16"},
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Recipe(**wrong)


def test_the_optimizer_is_what_the_recipe_says():
    network = build("mlp-4", (3,), 2)
    network.head.bias.requires_grad_(False)
    sgd = Recipe(momentum=0.8, weight_decay=0.01).make_optimizer(network)
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.8, 0.01)
    assert sum(len(g["params"]) for g in sgd.param_groups) == 3  # frozen ones are left out
    assert isinstance(Recipe(optimizer="adam").make_optimizer(network), torch.optim.Adam)


def test_augmentation_follows_its_name():
    assert Recipe().augmentation() is None
    both = Recipe(augment="crop-flip").augmentation()
    assert (both.crop, both.flip) == (True, True)
    assert (Recipe(augment="flip").augmentation().crop, Recipe(augment="crop").augmentation().flip) == (
        False,
        False,
    )


def test_forced_precision_wins():
    cpu = torch.device("cpu")
    assert Recipe(precision="bf16").use_bf16(images=False, device=cpu)
    assert not Recipe(precision="fp32").use_bf16(images=True, device=cpu)
    assert not Recipe().use_bf16(images=False, device=cpu)
