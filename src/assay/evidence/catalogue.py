"""Imports every scheme, so that the registry knows them."""

from assay.evidence.dataset_inference import DatasetInference
from assay.evidence.watermarks import TriggerSet

__all__ = ["DatasetInference", "TriggerSet"]
