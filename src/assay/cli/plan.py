"""``assay plan``: how many rows, queries or triggers a verification needs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from assay.cli.console import facts, print_json, print_tables
from assay.cli.options import Common
from assay.errors import InvalidInput

__all__ = ["plan"]

_MOST_PAIRS = 200_000


def plan(
    *,
    common: Common,
    effect: Annotated[
        float | None, typer.Option(help="Difference of private and control scores, in standard deviations.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(metavar="N", help="Private rows at hand: the smallest effect they find.")
    ] = None,
    triggers: Annotated[bool, typer.Option("--triggers", help="Plan for a watermark instead.")] = False,
    true_rate: Annotated[float, typer.Option(help="Match rate of a stolen model.")] = 0.9,
    null_rate: Annotated[float, typer.Option(help="Match rate of an independent model.")] = 0.1,
    alpha: Annotated[
        float, typer.Option(envvar="ASSAY_ALPHA", help="Largest chance of accusing an independent model.")
    ] = 0.01,
    power: Annotated[float, typer.Option(help="Chance of finding a theft.")] = 0.95,
) -> None:
    """Say how many rows or triggers are needed.

    With --effect: rows a side, asked all at once or one by one until the evidence
    suffices. With --rows: the smallest effect that so many rows find. With --triggers:
    watermark triggers.
    """
    if (effect is not None) + (rows is not None) + triggers != 1:
        msg = "give one of --effect, --rows and --triggers, as in `assay plan --effect 0.1`"
        raise InvalidInput(msg)
    found: dict[str, Any] = {"alpha": alpha, "power": power}
    if triggers:
        from assay.statistics.match_rates import plan_ownership

        found |= {"true_rate": true_rate, "null_rate": null_rate}
        planned = plan_ownership(true_rate, null_rate, alpha, power)
        found |= planned.exact.to_dict()
        means = {
            "queries_one_by_one_if_stolen": planned.sprt_stolen,
            "queries_one_by_one_if_not": planned.sprt_independent,
        }
        found |= {name: mean for name, mean in means.items() if mean is not None}
        found["queries_t_test_half_power"] = planned.t_test
        title = "Triggers needed (exact binomial test)"
    elif rows is not None:
        from assay.statistics.power import detectable_effect

        found |= {"private": rows, "control": rows, "effect": detectable_effect(rows, alpha, power)}
        title = "Smallest effect found (one test on all rows)"
    else:
        assert effect is not None
        found |= _rows(effect, alpha, power, common.seed)
        title = "Rows needed"
    if common.json:
        print_json(found)
    elif not common.quiet:
        shown = {
            k.replace("_", " "): f"{v:,}" if isinstance(v, int) else f"{v:.4g}" for k, v in found.items()
        }
        print_tables(facts(title, shown))


def _rows(effect: float, alpha: float, power: float, seed: int) -> dict[str, Any]:
    from assay.statistics.eprocess import BettingProcess
    from assay.statistics.power import pairs_for_betting, rows_for_power

    fixed = rows_for_power(effect, alpha, power)
    found: dict[str, Any] = {
        "effect": effect,
        "private": fixed.private,
        "control": fixed.control,
        "queries_all_at_once": fixed.total,
    }
    # Betting needs a few times the rows of one test at worst; beyond this the simulation takes minutes.
    if 8 * fixed.private > _MOST_PAIRS:
        return found
    process = BettingProcess(alpha=alpha)
    for name, quantile in (("median", 0.5), ("enough", power)):
        pairs = pairs_for_betting(effect, quantile=quantile, process=process, limit=_MOST_PAIRS, rng=seed)
        found[f"queries_one_by_one_{name}"] = 2 * pairs
    return found
