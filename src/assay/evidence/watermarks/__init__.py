"""Watermarks: evidence that is trained into a model."""

from assay.evidence.watermarks.embedded import Embedded, EmbeddingRecord
from assay.evidence.watermarks.null_panel import NullPanel
from assay.evidence.watermarks.trigger_set import TriggerSet

__all__ = ["Embedded", "EmbeddingRecord", "NullPanel", "TriggerSet"]
