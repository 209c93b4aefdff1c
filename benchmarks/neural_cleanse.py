"""Reversing the triggers of ten classes: one batch against one class after the other.

Run ``python benchmarks/neural_cleanse.py``; about a minute on one core, no data needed. Equal
steps, rows and starts, so that both find the same stamps. (ART's implementation runs on Keras
models only and goes class by class as the serial column does.)
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from assay.data import load_data
from assay.nets import Recipe, build, train
from assay.removal.trigger_reversal import TriggerReversal

TARGET = 3.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    data = load_data("digits")
    results = {}
    for name, batch in (("mlp-64", 8), ("mlp-64", 32), ("cnn-8", 8), ("cnn-8", 32)):
        network = build(name, data.input_shape, 10, 0)
        train(network, data, Recipe(epochs=3, lr=0.05, precision="fp32"))
        # A penalty that never settles: every class runs all steps on both sides.
        search = TriggerReversal(steps=given.steps, minibatches=10, batch_size=batch)
        search.run(network, data, targets=[0])  # warm up
        started = time.process_time()
        together = search.run(network, data)
        batched = time.process_time() - started
        started = time.process_time()
        alone = [search.run(network, data, targets=[target]) for target in range(10)]
        serial = time.process_time() - started
        gap = max(
            float((one.norms[0] - together.norms[i]).abs() / one.norms[0]) for i, one in enumerate(alone)
        )
        results[f"{name}, {batch} rows"] = {"serial s": serial, "batched s": batched, "gap": gap}
        print(f"{name}, {batch} rows a class: {serial:.2f} s serial, {batched:.2f} s batched, "
              f"{serial / batched:.1f}x; masks differ by at most {gap:.1e}")  # fmt: skip
    worst = min(row["serial s"] / row["batched s"] for row in results.values())
    print(f"target {TARGET:g}x: {'met' if worst >= TARGET else 'missed'}, {worst:.1f}x at least")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
