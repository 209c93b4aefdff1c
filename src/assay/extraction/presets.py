"""How copies are trained: the published settings, and settings for a small machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from assay.errors import InvalidInput
from assay.nets import Recipe
from assay.registry import nearest

__all__ = ["Preset", "preset_architecture", "preset_recipe"]

Preset = Literal["small", "paper"]

# Maini et al. 2021, section 6 and the published code: batches of 1000, piecewise linear rate; images
# that come with labels are augmented, the query set is not. Fine-tuning is short and gentle.
_PAPER = Recipe(epochs=20, batch_size=1000, lr=0.1, momentum=0.9, weight_decay=5e-4, schedule="triangle")
_SMALL = Recipe(epochs=30, batch_size=64, lr=0.1, momentum=0.9, weight_decay=5e-4, schedule="triangle")
# (preset, attack): what differs from the preset's recipe.
_RECIPES: dict[str, tuple[Recipe, dict[str, dict[str, object]]]] = {
    "paper": (
        _PAPER,
        {
            "fine-tuning": {"epochs": 5, "lr": 0.01},
            "distillation": {"epochs": 50, "augment": "crop-flip"},
            "data-theft": {"epochs": 50, "augment": "crop-flip"},
            # Dziedzic et al. 2022, section 5 and the published code. Theirs divides the rate by 10 at
            # 30, 60 and 90 % of the epochs, ours by 5 at 30, 60 and 80 %.
            "copycat": {"epochs": 50, "batch_size": 64, "lr": 0.01, "schedule": "step"},
            "knockoff": {"epochs": 100, "batch_size": 64, "lr": 0.01, "schedule": "step"},
            "jacobian": {"epochs": 20, "batch_size": 64, "lr": 0.01, "schedule": "constant"},
        },
    ),
    "small": (_SMALL, {"fine-tuning": {"epochs": 5, "lr": 0.01}}),
}
_SMALLEST = 4  # two poolings need four pixels


def preset_recipe(
    attack: str,
    preset: Preset,
    *,
    basis: Recipe | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
) -> Recipe:
    """Return how ``attack`` trains its copy.

    Parameters
    ----------
    attack
        Registered name; names that no preset mentions train as query attacks do.
    preset
        ``"paper"`` or ``"small"``.
    basis
        A recipe in place of the preset's.
    epochs, batch_size, lr
        Replace the preset's numbers where given.

    Raises
    ------
    InvalidInput
        If the preset is unknown or a number is out of range.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference: Ownership Resolution in Machine
    Learning", ICLR 2021, section 6. Their SGD has plain momentum, ours Nesterov's.

    Examples
    --------
    >>> recipe = preset_recipe("fine-tuning", "paper")
    >>> recipe.epochs, recipe.lr, recipe.batch_size
    (5, 0.01, 1000)
    """
    if preset not in _RECIPES:
        raise InvalidInput(nearest(str(preset), list(_RECIPES), "preset"))
    usual, variants = _RECIPES[preset]
    chosen = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    numbers = {name: value for name, value in chosen.items() if value is not None}
    start = {**vars(usual), **variants.get(attack, {})} if basis is None else vars(basis)
    return Recipe(**{**start, **numbers})


def preset_architecture(attack: str, preset: Preset, input_shape: Sequence[int], num_classes: int) -> str:
    """Return the architecture that ``"auto"`` stands for.

    Data theft gets another family than the query attacks, because "another architecture
    on the same data" is what it is about.

    Parameters
    ----------
    attack
        Registered name.
    preset
        ``"paper"`` or ``"small"``.
    input_shape, num_classes
        Shape of one input and number of classes.

    Examples
    --------
    >>> preset_architecture("label-query", "small", (13,), 3)
    'mlp-256-128'
    >>> preset_architecture("label-query", "paper", (3, 32, 32), 10)
    'wrn-16-1'
    >>> preset_architecture("data-theft", "paper", (3, 32, 32), 10)
    'resnet-18'
    """
    different = attack == "data-theft"
    if len(input_shape) != 3 or min(input_shape[1:]) < _SMALLEST:  # noqa: PLR2004 - [channels, height, width]
        return "mlp-128-128-128" if different else "mlp-256-128"
    if preset == "paper":
        # Wider for CIFAR-100, as published; their PreAct-ResNet-18 is our ResNet-18.
        wide = "wrn-16-2" if num_classes > 10 else "wrn-16-1"  # noqa: PLR2004
        return "resnet-18" if different else wide
    if different:
        return "vgg-8-16"
    side = min(input_shape[1:])
    return "cnn-16" if side < 16 else "cnn-32" if side < 32 else "wrn-16-1"  # noqa: PLR2004 - pixels
