"""Imports every scheme, so that the registry knows them."""

from assay.evidence.dataset_inference import DatasetInference
from assay.evidence.watermarks import (
    Adi,
    BadNets,
    Content,
    DawnMarks,
    Entangled,
    Frontier,
    GradientMatching,
    Margin,
    Noise,
    Radioactive,
    TriggerSet,
    Unrelated,
)

__all__ = [
    "Adi",
    "BadNets",
    "Content",
    "DatasetInference",
    "DawnMarks",
    "Entangled",
    "Frontier",
    "GradientMatching",
    "Margin",
    "Noise",
    "Radioactive",
    "TriggerSet",
    "Unrelated",
]
