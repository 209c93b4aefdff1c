"""From rows asked one batch after another and the secret to a p-value.

Either every answer becomes a bet, and asking stops when the wealth suffices, or all
rows are asked and permuted once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.evidence.dataset_inference.secret import Secret
from assay.observers import Observer, Observers
from assay.result import TestResult
from assay.statistics import CoinBetting, cohen_d, permutation_test, welch_test
from assay.statistics.coin_betting import CoinBettingProcess

__all__ = ["NULL", "Decider", "Outcome"]

NULL = "the suspect's answers are independent of which rows of the pool were drawn to be private"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The deciding test, its companions, and the scores of the rows asked.

    ``wealth`` is the path of the log wealth, empty without betting.
    """

    result: TestResult
    companions: tuple[TestResult, ...]
    private: list[float]
    control: list[float]
    wealth: list[float]

    @property
    def asked(self) -> int:
        """Rows asked."""
        return len(self.private) + len(self.control)


@dataclass(frozen=True)
class Decider:
    """How rows are asked and tested.

    Parameters
    ----------
    betting
        Bet and stop early, or ask all and permute.
    alpha
        Level at which betting stops.
    batch
        Rows asked at a time when betting.
    resamples, rng
        Of the permutation test.
    """

    betting: bool
    alpha: float
    batch: int
    resamples: int
    rng: int

    def run(
        self,
        secret: Secret,
        score: Callable[[slice], Floats],
        room: Callable[[], int],
        observers: Sequence[Observer] = (),
    ) -> Outcome:
        """Ask rows in order until the evidence suffices, or rows or budget end.

        Parameters
        ----------
        secret
            Coins of the rows, in the order in which they are asked.
        score
            Asks the suspect about a range of rows and returns a score for each, larger
            for what looks private. It must not know the coins.
        room
            How many more rows the budget covers now.
        observers
            Told after every batch.
        """
        rows = len(secret.coin)
        watch = Observers(observers)
        watch.on_start("verify", rows)
        process = CoinBetting().start(secret.totals)
        parts: list[Floats] = [np.empty(0)]
        asked = 0
        while asked < rows and (covered := room()) > 0:
            step = slice(asked, min(rows, asked + min(self.batch if self.betting else rows, covered)))
            parts.append(score(step))
            asked = step.stop
            if self.betting:
                process.update(parts[-1], secret.coin[step], secret.strata[step])
            watch.on_step("verify", asked, {"p": process.p_value})
            if self.betting and process.p_value <= self.alpha:
                break
        scores, seen = np.concatenate(parts), secret.prefix(asked)
        permuted = self._permute(scores, seen)
        result = _bet(process, scores, seen) if self.betting else permuted
        watch.on_end("verify", {"p": result.p_value})
        private, control = scores[seen.coin], scores[~seen.coin]
        welch = welch_test(private, control)
        return Outcome(
            result=result,
            companions=(permuted, welch) if self.betting else (welch,),
            private=private.tolist(),
            control=control.tolist(),
            wealth=process.path,
        )

    def _permute(self, scores: Floats, secret: Secret) -> TestResult:
        coin, strata = secret.coin, secret.strata
        return permutation_test(
            scores[coin],
            scores[~coin],
            strata_private=strata[coin],
            strata_control=strata[~coin],
            resamples=self.resamples,
            rng=self.rng,
        )


def _bet(process: CoinBettingProcess, scores: Floats, secret: Secret) -> TestResult:
    private, control = scores[secret.coin], scores[~secret.coin]
    constant = len(scores) == 0 or float(np.ptp(scores)) == 0
    return TestResult(
        test="coin-betting",
        null=NULL,
        statistic=process.log_wealth,
        p_value=process.p_value,
        n={"private": len(private), "control": len(control)},
        effect=None if constant or min(len(private), len(control)) < 2 else cohen_d(private, control),  # noqa: PLR2004
        exact=True,
        reason="every row has the same score" if constant else "",
    )
