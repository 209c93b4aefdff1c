"""How often innocent models are accused, counted so that a shared secret is not counted twice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.result import Interval
from assay.statistics import clopper_pearson, uniformity
from assay.study.columns import Row, Rows, grouped, steps_of
from assay.study.power_summary import clopper_pearson_band, p_value_of

__all__ = ["PANEL", "bounded_mean", "error_curve", "error_table"]

PANEL = ("victim", "evidence", "panel", "verification", "access", "alpha", "kind")
_OFTEN = 0.05


def error_table(panel: Rows, confidence: float = 0.95) -> list[Row]:
    """Count accusations of models that are independent of the secret.

    Verdicts that share a secret are no independent trials: an unlucky draw may accuse many
    models at once. Given the models, secrets are drawn independently, so that the share of
    models accused under each secret is one trial, and ``secret_low`` to ``secret_high``
    covers the rate at which a random secret accuses a model of this panel.

    Parameters
    ----------
    panel
        Rows of the table ``panel``.
    confidence
        Of the intervals, in (0, 1).

    Returns
    -------
    list of dict
        One row a victim, evidence, panel, verification, access, alpha and kind:
        ``verdicts``, ``false_positives``, ``rate`` with ``rate_low`` and ``rate_high``
        (Clopper-Pearson, as if all verdicts were independent); ``secrets``, ``models``
        (distinct ones), ``secrets_accusing`` (secrets under which any model was accused),
        ``secret_rate`` with ``secret_low`` and ``secret_high`` (`bounded_mean` over the
        secrets); ``share_5`` (share of p-values at most 0.05); ``ks_p`` and
        ``ks_p_secrets`` (one-sided Kolmogorov-Smirnov against p-values smaller than
        uniform ones: of all verdicts, and of one verdict a secret); ``steps``.

    Examples
    --------
    >>> rows = [
    ...     {"seed": 0, "secret": s, "model": m, "stolen": s == 0, "p_value": 0.001 if s == 0 else 0.6}
    ...     for s in range(10)
    ...     for m in range(5)
    ... ]
    >>> row = error_table(rows)[0]
    >>> row["false_positives"], row["secrets_accusing"], row["rate"], row["secret_rate"]
    (5, 1, 0.1, 0.1)
    >>> round(row["rate_high"], 2), round(row["secret_high"], 2)
    (0.22, 0.5)
    """
    found = []
    for key, rows in grouped(panel, PANEL).items():
        accused = sum(bool(row["stolen"]) for row in rows)
        rate = clopper_pearson(accused, len(rows), confidence)
        secrets = list(grouped(rows, ("seed", "secret")).values())
        shares = [sum(bool(row["stolen"]) for row in same) / len(same) for same in secrets]
        clustered = bounded_mean(shares, confidence)
        p = np.array([p_value_of(row) for row in rows])
        # One model a secret, a different one each time: these p-values are independent.
        first = [p_value_of(same[i % len(same)]) for i, same in enumerate(secrets)]
        found.append(
            {
                **dict(zip(PANEL, key, strict=True)),
                "verdicts": len(rows),
                "false_positives": accused,
                "rate": rate.value,
                "rate_low": rate.low,
                "rate_high": rate.high,
                "models": len({(r.get("seed"), r.get("architecture"), r.get("model")) for r in rows}),
                "secrets": len(secrets),
                "secrets_accusing": sum(share > 0 for share in shares),
                "secret_rate": clustered.value,
                "secret_low": clustered.low,
                "secret_high": clustered.high,
                "share_5": float(np.mean(p <= _OFTEN)),
                "ks_p": uniformity(p).p_value,
                "ks_p_secrets": uniformity(first).p_value,
                "steps": steps_of(rows),
            }
        )
    return found


def error_curve(
    p_values: ArrayLike, grid: ArrayLike | None = None, confidence: float = 0.95
) -> dict[str, Any]:
    """Return how often p-values of innocent models are at most a, for many a.

    Parameters
    ----------
    p_values
        Shape ``[n]``, in [0, 1].
    grid
        Levels a; by default 0 to 1, closer together near 0.
    confidence
        Of the pointwise Clopper-Pearson limits.

    Returns
    -------
    dict of str to numpy.ndarray
        ``level``, ``share``, ``low`` and ``high``, float64, shape ``[m]``.

    Examples
    --------
    >>> curve = error_curve([0.1, 0.2, 0.6, 0.9], grid=[0.0, 0.2, 1.0])
    >>> curve["share"].tolist()
    [0.0, 0.5, 1.0]
    """
    p = np.sort(np.asarray(p_values, dtype=np.float64).ravel())
    if p.size == 0 or not np.all((p >= 0) & (p <= 1)):
        msg = "an error-rate curve needs p-values in [0, 1], at least one"
        raise InvalidInput(msg)
    levels = np.linspace(0, 1, 201) ** 2 if grid is None else np.asarray(grid, dtype=np.float64)
    counts = np.searchsorted(p, levels, side="right")
    low, high = clopper_pearson_band(counts, p.size, confidence)
    return {"level": levels, "share": counts / p.size, "low": low, "high": high}


def bounded_mean(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of the mean of independent numbers in [0, 1], whatever their law.

    Chernoff's bound holds for the mean of any such numbers, so that all means m with
    ``n KL(average, m) <= log(2 / (1 - confidence))`` make an interval that covers in
    finite samples. If all numbers are 0 or 1 and equal it is Clopper-Pearson's.

    Parameters
    ----------
    values
        Shape ``[n]``, in [0, 1], at least one.
    confidence
        Coverage in (0, 1), at least.

    Returns
    -------
    Interval
        ``method == "chernoff-hoeffding"``.

    Raises
    ------
    InvalidInput
        If there are no values, or one lies outside [0, 1].

    References
    ----------
    Hoeffding 1963, "Probability inequalities for sums of bounded random variables",
    theorem 1.

    Examples
    --------
    >>> interval = bounded_mean([0.0] * 20)
    >>> interval.low, round(interval.high, 4)
    (0.0, 0.1684)
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 1 or rows.size == 0 or not np.all((rows >= 0) & (rows <= 1)):
        msg = "an interval of a bounded mean needs numbers in [0, 1], at least one"
        raise InvalidInput(msg)
    mean = min(1.0, float(rows.mean()))
    limit = math.log(2 / (1 - confidence)) / rows.size
    if mean in (0.0, 1.0):
        edge = -math.expm1(-limit)
        ends = (0.0, edge) if mean == 0 else (1 - edge, 1.0)
    else:
        ends = (_solve(mean, limit, 0.0), _solve(mean, limit, 1.0))
    return Interval(mean, *ends, confidence, "chernoff-hoeffding")


def _solve(mean: float, limit: float, end: float) -> float:
    """Return where the divergence from ``mean`` reaches ``limit``, between ``mean`` and ``end``."""
    from scipy.optimize import brentq

    last = abs(end - 1e-15)
    if _divergence(mean, last) <= limit:
        return end
    low, high = sorted((mean, last))
    return float(brentq(lambda m: _divergence(mean, m) - limit, low, high, xtol=1e-12))


def _divergence(a: float, b: float) -> float:
    return a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))
