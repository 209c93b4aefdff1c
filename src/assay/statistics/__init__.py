"""The tests: arrays in, results out.

Nothing here knows of models, data sets or queries. A row is one independent image; every
p-value says which null hypothesis it belongs to and whether its level is exact. SciPy is
loaded by the functions that need it.
"""

from __future__ import annotations

from assay.statistics.binomial import binomial_test, clopper_pearson, upper_rate, wilson
from assay.statistics.bootstrap import bootstrap_mean
from assay.statistics.calibration import false_positive_rate, prediction_t_test, rank_p_value, uniformity
from assay.statistics.coin_betting import CoinBetting
from assay.statistics.combine import average_e, bonferroni_combine, e_to_p, p_to_e, product_e, twice_mean
from assay.statistics.effect import cohen_d, mean_difference
from assay.statistics.eprocess import BettingProcess, BettingState, EProcessResult, pair_indices, pair_rows
from assay.statistics.harmonic import harmonic_mean_aggregate
from assay.statistics.linear_theory import (
    OwnershipRates,
    margin_gap,
    membership_accuracy,
    ownership_accuracy,
    ownership_rates,
    simulate_gap,
    simulate_membership,
)
from assay.statistics.match_rates import OwnershipPlan, match_t_test, plan_ownership, t_test_queries
from assay.statistics.multiplicity import benjamini_hochberg, holm
from assay.statistics.permutation import permutation_p_values, permutation_test
from assay.statistics.power import (
    PowerPlan,
    TriggerPlan,
    detectable_effect,
    pairs_for_betting,
    power_of,
    rows_for_power,
    trigger_queries,
)
from assay.statistics.sequential_permutation import group_sequential, spending
from assay.statistics.sprt import RatioTest, RatioTestOutcome, RatioTestPlan
from assay.statistics.welch import welch_p_values, welch_test

__all__ = [
    "BettingProcess",
    "BettingState",
    "CoinBetting",
    "EProcessResult",
    "OwnershipPlan",
    "OwnershipRates",
    "PowerPlan",
    "RatioTest",
    "RatioTestOutcome",
    "RatioTestPlan",
    "TriggerPlan",
    "average_e",
    "benjamini_hochberg",
    "binomial_test",
    "bonferroni_combine",
    "bootstrap_mean",
    "clopper_pearson",
    "cohen_d",
    "detectable_effect",
    "e_to_p",
    "false_positive_rate",
    "group_sequential",
    "harmonic_mean_aggregate",
    "holm",
    "margin_gap",
    "match_t_test",
    "mean_difference",
    "membership_accuracy",
    "ownership_accuracy",
    "ownership_rates",
    "p_to_e",
    "pair_indices",
    "pair_rows",
    "pairs_for_betting",
    "permutation_p_values",
    "permutation_test",
    "plan_ownership",
    "power_of",
    "prediction_t_test",
    "product_e",
    "rank_p_value",
    "rows_for_power",
    "simulate_gap",
    "simulate_membership",
    "spending",
    "t_test_queries",
    "trigger_queries",
    "twice_mean",
    "uniformity",
    "upper_rate",
    "welch_p_values",
    "welch_test",
    "wilson",
]
