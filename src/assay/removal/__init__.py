"""Removal: attacks that wash evidence out of a copied model.

Names load on first use, so that importing the package costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.removal.adversarial_training import AdversarialTraining as AdversarialTraining
    from assay.removal.base import Removal as Removal
    from assay.removal.base import RemovalRecord as RemovalRecord
    from assay.removal.base import Removed as Removed
    from assay.removal.channel_pruning import ChannelPruning as ChannelPruning
    from assay.removal.disentangling import Disentangling as Disentangling
    from assay.removal.distillation import Distillation as Distillation
    from assay.removal.feature_shuffling import FeatureShuffling as FeatureShuffling
    from assay.removal.fine_pruning import FinePruning as FinePruning
    from assay.removal.fine_tuning import FineTuning as FineTuning
    from assay.removal.input_preprocessing import InputPreprocessing as InputPreprocessing
    from assay.removal.knockoff_transfer import KnockoffTransfer as KnockoffTransfer
    from assay.removal.label_noising import LabelNoising as LabelNoising
    from assay.removal.magnitude_pruning import MagnitudePruning as MagnitudePruning
    from assay.removal.neural_cleanse import NeuralCleanse as NeuralCleanse
    from assay.removal.overwriting import Overwriting as Overwriting
    from assay.removal.query_filter import QueryFilter as QueryFilter
    from assay.removal.re_initialised_head import ReInitialisedHead as ReInitialisedHead
    from assay.removal.regularisation import Regularisation as Regularisation
    from assay.removal.stacked import Stacked as Stacked
    from assay.removal.transfer_learning import TransferLearning as TransferLearning
    from assay.removal.weight_noise import WeightNoise as WeightNoise
    from assay.removal.weight_quantisation import WeightQuantisation as WeightQuantisation
    from assay.removal.wrong_relabelling import WrongRelabelling as WrongRelabelling

_HOMES = {
    "AdversarialTraining": "adversarial_training",
    "ChannelPruning": "channel_pruning",
    "Disentangling": "disentangling",
    "Distillation": "distillation",
    "FeatureShuffling": "feature_shuffling",
    "FinePruning": "fine_pruning",
    "FineTuning": "fine_tuning",
    "InputPreprocessing": "input_preprocessing",
    "KnockoffTransfer": "knockoff_transfer",
    "LabelNoising": "label_noising",
    "MagnitudePruning": "magnitude_pruning",
    "NeuralCleanse": "neural_cleanse",
    "Overwriting": "overwriting",
    "QueryFilter": "query_filter",
    "ReInitialisedHead": "re_initialised_head",
    "Regularisation": "regularisation",
    "Removal": "base",
    "RemovalRecord": "base",
    "Removed": "base",
    "Stacked": "stacked",
    "TransferLearning": "transfer_learning",
    "WeightNoise": "weight_noise",
    "WeightQuantisation": "weight_quantisation",
    "WrongRelabelling": "wrong_relabelling",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
