"""Data: validated sets, committed splits, sources, augmentation."""

from assay.data.augment import Augment
from assay.data.catalogue import SourceInfo, available
from assay.data.dataset import Dataset
from assay.data.load import load_data
from assay.data.split import Split, commit_split, deduplicate, verify_commitment

__all__ = [
    "Augment",
    "Dataset",
    "SourceInfo",
    "Split",
    "available",
    "commit_split",
    "deduplicate",
    "load_data",
    "verify_commitment",
]
