"""Imports every defence, so that the registry knows them."""

from assay.defences.categories import Categories
from assay.defences.coverage_noise import CoverageNoise
from assay.defences.dawn import Dawn
from assay.defences.ensemble import Ensemble
from assay.defences.hidden_features import HiddenFeatures
from assay.defences.incomplete import Incomplete
from assay.defences.leaf_identity import LeafIdentity
from assay.defences.logit_bias import LogitBias
from assay.defences.mad import MaximumAngle
from assay.defences.noise import Noise
from assay.defences.per_account import PerAccount
from assay.defences.reverse_sigmoid import ReverseSigmoid
from assay.defences.rounding import Rounding
from assay.defences.top_k import TopK, TopOne

__all__ = [
    "Categories",
    "CoverageNoise",
    "Dawn",
    "Ensemble",
    "HiddenFeatures",
    "Incomplete",
    "LeafIdentity",
    "LogitBias",
    "MaximumAngle",
    "Noise",
    "PerAccount",
    "ReverseSigmoid",
    "Rounding",
    "TopK",
    "TopOne",
]
