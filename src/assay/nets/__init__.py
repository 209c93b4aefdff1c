"""Networks and the one training loop."""

from assay.nets.build import build
from assay.nets.convolutional import cnn, vgg
from assay.nets.interlude import Bench, Interlude
from assay.nets.mlp import mlp
from assay.nets.network import Network, Normalize, initialise
from assay.nets.recipe import Recipe
from assay.nets.residual import resnet, wrn
from assay.nets.training import TrainingResult, predict, train

__all__ = [
    "Bench",
    "Interlude",
    "Network",
    "Normalize",
    "Recipe",
    "TrainingResult",
    "build",
    "cnn",
    "initialise",
    "mlp",
    "predict",
    "resnet",
    "train",
    "vgg",
    "wrn",
]
