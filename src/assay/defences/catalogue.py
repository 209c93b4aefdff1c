"""Imports every defence, so that the registry knows them."""

from assay.defences.categories import Categories
from assay.defences.ensemble import Ensemble
from assay.defences.hidden_features import HiddenFeatures
from assay.defences.incomplete import Incomplete
from assay.defences.leaf_identity import LeafIdentity
from assay.defences.logit_bias import LogitBias
from assay.defences.noise import Noise
from assay.defences.rounding import Rounding
from assay.defences.top_k import TopK, TopOne

__all__ = [
    "Categories",
    "Ensemble",
    "HiddenFeatures",
    "Incomplete",
    "LeafIdentity",
    "LogitBias",
    "Noise",
    "Rounding",
    "TopK",
    "TopOne",
]
