"""Imports every removal attack, so that the registry knows them."""

from assay.removal.channel_pruning import ChannelPruning
from assay.removal.distillation import Distillation
from assay.removal.fine_pruning import FinePruning
from assay.removal.fine_tuning import FineTuning
from assay.removal.magnitude_pruning import MagnitudePruning
from assay.removal.re_initialised_head import ReInitialisedHead
from assay.removal.weight_noise import WeightNoise
from assay.removal.weight_quantisation import WeightQuantisation

__all__ = [
    "ChannelPruning",
    "Distillation",
    "FinePruning",
    "FineTuning",
    "MagnitudePruning",
    "ReInitialisedHead",
    "WeightNoise",
    "WeightQuantisation",
]
