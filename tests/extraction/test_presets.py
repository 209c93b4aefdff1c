import pytest

from assay.errors import InvalidInput, UnknownName
from assay.extraction import DataTheft, Distillation, FineTuning, LabelQuery, LogitQuery
from assay.extraction.presets import preset_architecture, preset_recipe
from assay.nets import build
from assay.registry import create

TRAINED = [DataTheft, Distillation, FineTuning, LabelQuery, LogitQuery]


@pytest.mark.parametrize(
    ("attack", "epochs", "lr", "augment"),
    [
        (LabelQuery, 20, 0.1, "none"),
        (LogitQuery, 20, 0.1, "none"),
        (FineTuning, 5, 0.01, "none"),
        (Distillation, 50, 0.1, "crop-flip"),
        (DataTheft, 50, 0.1, "crop-flip"),
    ],
)
def test_published_settings(attack, epochs, lr, augment):
    recipe = attack(preset="paper").recipe
    assert (recipe.epochs, recipe.lr, recipe.augment) == (epochs, lr, augment)
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay) == (1000, 0.9, 5e-4)
    assert (recipe.optimizer, recipe.schedule) == ("sgd", "triangle")


@pytest.mark.parametrize("attack", TRAINED)
@pytest.mark.parametrize("preset", ["small", "paper"])
def test_given_numbers_replace_the_presets(attack, preset):
    plain = attack(preset=preset).recipe
    changed = attack(preset=preset, epochs=3, batch_size=7, lr=0.5).recipe
    assert (changed.epochs, changed.batch_size, changed.lr) == (3, 7, 0.5)
    assert changed.weight_decay == plain.weight_decay


@pytest.mark.parametrize(
    ("attack", "preset", "shape", "classes", "expected"),
    [
        ("label-query", "paper", (3, 32, 32), 10, "wrn-16-1"),
        ("logit-query", "paper", (3, 32, 32), 100, "wrn-16-2"),
        ("data-theft", "paper", (3, 32, 32), 10, "resnet-18"),
        ("label-query", "small", (1, 8, 8), 10, "cnn-16"),
        ("label-query", "small", (1, 28, 28), 10, "cnn-32"),
        ("label-query", "small", (3, 32, 32), 10, "wrn-16-1"),
        ("data-theft", "small", (1, 28, 28), 10, "vgg-8-16"),
        ("label-query", "small", (13,), 3, "mlp-256-128"),
        ("label-query", "paper", (13,), 3, "mlp-256-128"),
        ("data-theft", "small", (13,), 3, "mlp-128-128-128"),
        ("label-query", "small", (2, 100), 3, "mlp-256-128"),
        ("label-query", "small", (1, 3, 3), 3, "mlp-256-128"),
    ],
)
def test_automatic_architectures_fit_the_inputs(attack, preset, shape, classes, expected):
    name = preset_architecture(attack, preset, shape, classes)
    assert name == expected
    assert build(name, shape, classes).num_classes == classes


@pytest.mark.parametrize("options", [{"epochs": 0}, {"lr": -1.0}, {"batch_size": 0}, {"preset": "papr"}])
@pytest.mark.parametrize("attack", TRAINED)
def test_values_out_of_range_are_refused_when_the_attack_is_made(attack, options):
    with pytest.raises(InvalidInput):
        attack(**options)


def test_an_unknown_preset_offers_the_nearest():
    with pytest.raises(InvalidInput, match="did you mean 'paper'"):
        preset_recipe("label-query", "papr")


def test_an_unknown_architecture_costs_no_query(victim, pool):
    with pytest.raises(UnknownName, match="did you mean 'cnn'"):
        LabelQuery(architecture="cnnn-8").run(victim, pool)
    assert victim.rows == 0


def test_attacks_are_made_from_text():
    made = create(
        "label-query", "extraction", {"preset": "paper", "epochs": "3", "lr": "none", "architecture": "mlp-4"}
    )
    assert made == LabelQuery(preset="paper", epochs=3, architecture="mlp-4")
