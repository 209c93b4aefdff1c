"""What answers give away: vote accounting in Rényi differential privacy.

Arrays in, arrays out; NumPy and SciPy only. The flow: votes -> `log_flip_probability` ->
`renyi` (or a `RenyiTable`) -> `compose` over queries -> `to_epsilon`.
"""

from __future__ import annotations

from assay.privacy.composition import compose, to_epsilon
from assay.privacy.gnmax import data_independent, log_flip_probability, renyi
from assay.privacy.orders import ORDERS, PUBLISHED_ORDERS
from assay.privacy.sums import epsilon_each, sum_of_epsilons
from assay.privacy.table import EpsilonTable, RenyiTable

__all__ = [
    "ORDERS",
    "PUBLISHED_ORDERS",
    "EpsilonTable",
    "RenyiTable",
    "compose",
    "data_independent",
    "epsilon_each",
    "log_flip_probability",
    "renyi",
    "sum_of_epsilons",
    "to_epsilon",
]
