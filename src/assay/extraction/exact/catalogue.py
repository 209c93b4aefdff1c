"""Imports every exact attack, so that the registry knows them."""

from assay.extraction.exact.algebraic_mlp import AlgebraicMLP
from assay.extraction.exact.auto import Auto
from assay.extraction.exact.bin_search import BinSearch
from assay.extraction.exact.boundary import Boundary
from assay.extraction.exact.equation_solving import EquationSolving
from assay.extraction.exact.inversion import Inversion
from assay.extraction.exact.kernel_leakage import KernelLeakage
from assay.extraction.exact.lm_head import LMHead
from assay.extraction.exact.lowd_meek import LowdMeek
from assay.extraction.exact.mlp_equations import MLPEquations
from assay.extraction.exact.path_finding import PathFinding
from assay.extraction.exact.relu import ReLU
from assay.extraction.exact.retraining import AdaptiveRetraining

__all__ = [
    "AdaptiveRetraining",
    "AlgebraicMLP",
    "Auto",
    "BinSearch",
    "Boundary",
    "EquationSolving",
    "Inversion",
    "KernelLeakage",
    "LMHead",
    "LowdMeek",
    "MLPEquations",
    "PathFinding",
    "ReLU",
]
