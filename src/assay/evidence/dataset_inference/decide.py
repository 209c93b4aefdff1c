"""From one score per row and the secret to a p-value: betting row by row, or one permutation test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.evidence.dataset_inference.secret import Secret
from assay.result import TestResult
from assay.statistics import CoinBetting, cohen_d, permutation_test, welch_test
from assay.statistics.coin_betting import CoinBettingProcess

__all__ = ["NULL", "betting_result", "companions", "permutation_result", "start_betting"]

NULL = "the suspect's answers are independent of which rows of the pool were drawn to be private"

Floats = NDArray[np.float64]


def start_betting(secret: Secret) -> CoinBettingProcess:
    """Return a betting process at the odds of the pool."""
    return CoinBetting().start(secret.totals)


def betting_result(process: CoinBettingProcess, scores: Floats, secret: Secret) -> TestResult:
    """Return the outcome of betting on the rows revealed so far."""
    coin = secret.coin[: len(scores)]
    private, control = scores[coin], scores[~coin]
    constant = len(scores) > 0 and float(np.ptp(scores)) == 0
    return TestResult(
        test="coin-betting",
        null=NULL,
        statistic=process.log_wealth,
        p_value=process.p_value,
        n={"private": len(private), "control": len(control)},
        effect=cohen_d(private, control) if min(len(private), len(control)) > 1 and not constant else None,
        exact=True,
        reason="every row has the same score" if constant else "",
    )


def permutation_result(scores: Floats, secret: Secret, resamples: int, rng: int) -> TestResult:
    """Return the permutation test of private against control rows, within strata."""
    coin, strata = secret.coin[: len(scores)], secret.strata[: len(scores)]
    return permutation_test(
        scores[coin],
        scores[~coin],
        strata_private=strata[coin],
        strata_control=strata[~coin],
        resamples=resamples,
        rng=rng,
    )


def companions(scores: Floats, secret: Secret, resamples: int, rng: int) -> tuple[TestResult, ...]:
    """Return the tests that are reported beside the deciding one."""
    coin = secret.coin[: len(scores)]
    return (
        permutation_result(scores, secret, resamples, rng),
        welch_test(scores[coin], scores[~coin]),
    )
