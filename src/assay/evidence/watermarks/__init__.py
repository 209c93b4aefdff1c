"""Watermarks: evidence that is trained into a model."""

from assay.evidence.watermarks.adi import Adi
from assay.evidence.watermarks.badnets import BadNets
from assay.evidence.watermarks.content import Content
from assay.evidence.watermarks.dawn import DawnMarks
from assay.evidence.watermarks.embedded import Embedded, EmbeddingRecord
from assay.evidence.watermarks.entangled import Entangled
from assay.evidence.watermarks.entanglement.record import EntangledRecord
from assay.evidence.watermarks.frontier import Frontier
from assay.evidence.watermarks.gradient_matching import GradientMatching
from assay.evidence.watermarks.margin import Margin
from assay.evidence.watermarks.noise import Noise
from assay.evidence.watermarks.null_panel import NullPanel
from assay.evidence.watermarks.radioactive import Radioactive
from assay.evidence.watermarks.trigger_set import TriggerSet
from assay.evidence.watermarks.unrelated import Unrelated

__all__ = [
    "Adi",
    "BadNets",
    "Content",
    "DawnMarks",
    "Embedded",
    "EmbeddingRecord",
    "Entangled",
    "EntangledRecord",
    "Frontier",
    "GradientMatching",
    "Margin",
    "Noise",
    "NullPanel",
    "Radioactive",
    "TriggerSet",
    "Unrelated",
]
