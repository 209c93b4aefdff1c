"""Imports every removal attack, so that the registry knows them."""

from assay.removal.adversarial_training import AdversarialTraining
from assay.removal.channel_pruning import ChannelPruning
from assay.removal.disentangling import Disentangling
from assay.removal.distillation import Distillation
from assay.removal.feature_shuffling import FeatureShuffling
from assay.removal.fine_pruning import FinePruning
from assay.removal.fine_tuning import FineTuning
from assay.removal.input_preprocessing import InputPreprocessing
from assay.removal.knockoff_transfer import KnockoffTransfer
from assay.removal.label_noising import LabelNoising
from assay.removal.magnitude_pruning import MagnitudePruning
from assay.removal.neural_cleanse import NeuralCleanse
from assay.removal.overwriting import Overwriting
from assay.removal.query_filter import QueryFilter
from assay.removal.re_initialised_head import ReInitialisedHead
from assay.removal.regularisation import Regularisation
from assay.removal.stacked import Stacked
from assay.removal.transfer_learning import TransferLearning
from assay.removal.weight_noise import WeightNoise
from assay.removal.weight_quantisation import WeightQuantisation
from assay.removal.wrong_relabelling import WrongRelabelling

__all__ = [
    "AdversarialTraining",
    "ChannelPruning",
    "Disentangling",
    "Distillation",
    "FeatureShuffling",
    "FinePruning",
    "FineTuning",
    "InputPreprocessing",
    "KnockoffTransfer",
    "LabelNoising",
    "MagnitudePruning",
    "NeuralCleanse",
    "Overwriting",
    "QueryFilter",
    "ReInitialisedHead",
    "Regularisation",
    "Stacked",
    "TransferLearning",
    "WeightNoise",
    "WeightQuantisation",
    "WrongRelabelling",
]
