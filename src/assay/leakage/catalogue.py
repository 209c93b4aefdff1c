"""Imports every estimator of this room, so that each registers its name."""

from assay.leakage.composite import Composite
from assay.leakage.distilled import Distilled
from assay.leakage.entropy import Entropy
from assay.leakage.gap import Gap
from assay.leakage.heads import LinearHeads
from assay.leakage.pknn import NearestNeighbours
from assay.leakage.teachers import TeacherEnsemble

__all__ = ["Composite", "Distilled", "Entropy", "Gap", "LinearHeads", "NearestNeighbours", "TeacherEnsemble"]
