"""What `keys.py` prints: a row of Markdown for each key, and quantiles and intervals over all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assay.statistics import clopper_pearson

LEVELS = (0.05, 0.01)


def table(rows: Sequence[dict], unmarked: float) -> str:
    """Return a row of Markdown for each key; accuracy is against the mean of the controls."""
    head = ["key", "mark", "tried", "thieves", "triggers", "copies, own", "copy, other", "unmarked"]
    head += ["panel: most, bound", "accuracy", "cost, points", "p: copies, own", "other", "unmarked"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        match, p = row["match"], row["p"]
        own = [name for name in match if name.startswith("own")]
        lines.append(
            [
                f"{row['key']}",
                row["mark"],
                f"{max(tried['mark'] for tried in row['attempts'])}",
                f"{max(row['attempts'], key=lambda tried: tried['transfer'] - tried['clean'])['thieves']}",
                f"{row['triggers']}",
                ", ".join(f"{match[name]:.2f}" for name in own),
                f"{match['other 0']:.2f}",
                f"{match['unmarked']:.2f}",
                f"{max(row['panel']):.2f}, {row['bound']:.2f}",
                f"{row['accuracy']['marked']:.3f}",
                f"{100 * (unmarked - row['accuracy']['marked']):.1f}",
                ", ".join(f"{p[name]:.1g}" for name in own),
                f"{p['other 0']:.1g}",
                f"{p['unmarked']:.1g}",
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def summary(rows: Sequence[dict], unmarked: Sequence[float]) -> dict:
    """Return quantiles over copies and keys, powers, and the mean cost with its standard error."""
    marked = [row["accuracy"]["marked"] for row in rows]
    found: dict = {"keys": len(rows), "unmarked_accuracy": float(np.mean(unmarked))}
    costs = 100 * (np.mean(unmarked) - np.array(marked))
    spread = np.hypot(*(np.std(part, ddof=1) / len(part) ** 0.5 for part in (marked, unmarked)))
    found["cost"] = {"mean": costs.mean(), "error": 100 * spread, "least": costs.min(), "most": costs.max()}
    for kind in ("own", "other", "unmarked"):
        names = [(row, name) for row in rows for name in row["match"] if name.startswith(kind)]
        match = [row["match"][name] for row, name in names]
        found[kind] = {
            "models": len(match),
            "median": float(np.median(match)),
            "tenth": float(np.quantile(match, 0.1)),
            "least": min(match),
            **counted([row["p"][name] for row, name in names]),
        }
    return found


def counted(p: Sequence[float]) -> dict:
    """Return how many p-values are at most each level, with the interval of their share."""
    hits = {level: sum(value <= level for value in p) for level in LEVELS}
    shares = {level: clopper_pearson(hit, len(p)) for level, hit in hits.items()}
    return {"called": {str(k): [hits[k], shares[k].low, shares[k].high] for k in LEVELS}}


def words(found: dict) -> str:
    """Return the summary as a list."""
    cost = found["cost"]
    first = (
        f"{found['keys']} keys. Accuracy of unmarked models {found['unmarked_accuracy']:.4f}; the mark costs"
    )
    spread = f"standard error {cost['error']:.2f}; {cost['least']:.1f} to {cost['most']:.1f}"
    lines = [f"{first} {cost['mean']:.2f} points ({spread})."]
    for kind in ("own", "other", "unmarked", "false_claims"):
        if kind not in found:
            continue
        part = found[kind]
        powers = ", ".join(
            f"{hit} at {level} ({low:.2f} to {high:.2f})"
            for level, (hit, low, high) in part["called"].items()
        )
        rates = (
            f"match median {part['median']:.2f}, 10th percentile {part['tenth']:.2f}, "
            if "median" in part
            else ""
        )
        lines.append(f"{kind}, {part['models']}: {rates}called stolen {powers}.")
    return "\n".join(f"- {line}" for line in lines)
