"""Training with entangled marks against plain training at equal task steps.

Run ``python benchmarks/marked_training.py``; about a minute on one core, no data needed. "Plain" takes
as many optimizer steps as the marked training, on ordinary rows alone (the compute-matched control);
"epochs" takes only the epochs that were asked for.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from assay.data.dataset import Dataset
from assay.evidence.watermarks.entanglement.families import draw_families
from assay.evidence.watermarks.entanglement.marked_batches import (
    Entangling,
    MarkedBatches,
    OrdinaryBatches,
)
from assay.evidence.watermarks.entanglement.schedule import Schedule
from assay.nets import Interlude, Recipe, build, train

TARGET = 1.3
SHAPE = (1, 28, 28)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=3840)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--ratio", type=float, default=1.0)
    given = options.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(given.rows, *SHAPE, generator=generator)
    data = Dataset(x, torch.arange(given.rows) % 10, tuple("0123456789"))
    rng = np.random.default_rng(0)
    drawn = [family.images(100, SHAPE, (0.0, 1.0), rng) for family in draw_families(10, SHAPE, rng)]
    marks, targets = torch.cat(drawn), torch.arange(10).repeat_interleave(100)
    recipe, plan = Recipe(epochs=2, precision="fp32"), Schedule(given.ratio)

    def marked(weight: float) -> Interlude:
        return MarkedBatches(data, marks, targets, plan, recipe.batch_size, Entangling(weight))

    ways: dict[str, Callable[[], Interlude | None]] = {
        "epochs": lambda: None,
        "plain": lambda: OrdinaryBatches(data, plan, recipe.batch_size),
        "marked": lambda: marked(0.5),
        "not entangled": lambda: marked(0.0),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):  # in turn, so that a busy machine hurts all alike
        for name, way in ways.items():
            network = build("cnn-16", SHAPE, 10)
            started = time.process_time()
            train(network, data, recipe, interlude=way())
            times[name].append(time.process_time() - started)
    best = {name: min(found) for name, found in times.items()}
    for name, seconds in best.items():
        print(f"{name:14} {seconds:7.2f} s {seconds / best['plain']:6.2f} x plain")
    ratio = best["marked"] / best["plain"]
    print(f"target {TARGET:g}x at equal steps: {'met' if ratio <= TARGET else 'missed'}, {ratio:.2f}x")
    print(json.dumps(best))


if __name__ == "__main__":
    main()
