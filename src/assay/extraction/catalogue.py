"""Imports every attack, so that the registry knows them."""

from assay.extraction.copycat import CopyCat
from assay.extraction.data_theft import DataTheft
from assay.extraction.distillation import Distillation
from assay.extraction.fine_tuning import FineTuning
from assay.extraction.jacobian import Jacobian
from assay.extraction.knockoff import Knockoff
from assay.extraction.label_query import LabelQuery
from assay.extraction.logit_query import LogitQuery
from assay.extraction.source import SourceCopy

__all__ = [
    "CopyCat",
    "DataTheft",
    "Distillation",
    "FineTuning",
    "Jacobian",
    "Knockoff",
    "LabelQuery",
    "LogitQuery",
    "SourceCopy",
]
