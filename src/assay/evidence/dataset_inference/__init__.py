"""Dataset inference: evidence that costs nothing but a secret split of the training data."""

from assay.evidence.dataset_inference.blind_walk import BlindWalk, WalkEmbedding
from assay.evidence.dataset_inference.mingd import MarginEmbedding, MinGD
from assay.evidence.dataset_inference.references import References, train_references
from assay.evidence.dataset_inference.scheme import DatasetInference

__all__ = [
    "BlindWalk",
    "DatasetInference",
    "MarginEmbedding",
    "MinGD",
    "References",
    "WalkEmbedding",
    "train_references",
]
