"""What kernel regressions and softmax models show of their training data, as a page of pictures.

Run ``python studies/prediction_apis/pictures.py --out pictures``; half a minute on one core.
``pictures/index.html`` needs no other file; ``pictures/galleries`` has the same images for the page of
a study, which shows the galleries that lie beside its tables.
"""

from __future__ import annotations

import argparse
import html
from pathlib import Path

import numpy as np
import torch
from markdown import table
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from assay.adapters import SklearnModel, TorchModel
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.inversion import Inversion, differentiable, invert
from assay.extraction.exact.kernel_leakage import KernelLeakage
from assay.extraction.exact.kernel_net import KernelNet
from assay.report import Gallery
from assay.report.gallery import GALLERIES

GAMMA, REPRESENTERS = 0.01, 20
Rows = np.ndarray


def leaked(x: Rows, y: Rows) -> tuple[Gallery, list[object]]:
    """Return training rows beside the representers that were found, and how near they are."""
    rows = x[:REPRESENTERS]
    features = np.exp(-GAMMA * ((x[:, None] - rows) ** 2).sum(-1))
    fitted = LogisticRegression(max_iter=2000).fit(features, y)
    victim = TorchModel(KernelNet(rows, fitted.coef_, fitted.intercept_, GAMMA), (64,), 10)
    theft = KernelLeakage(starts=0).run(victim, truth=rows, uniform=2000)
    found = theft.found.parameters["representers"]
    apart = np.linalg.norm(found[:, None] - rows, axis=2)
    mine, theirs = linear_sum_assignment(apart)
    pictures = []
    for i, k in zip(mine, theirs, strict=True):
        pictures += [(f"row {k}", _image(rows[k])), (f"found, {apart[i, k]:.0e}", _image(found[i]))]
    caption = "Rows of the training set beside what the answers gave away, with the distance between both."
    worst = f"{apart[mine, theirs].max():.1e}"
    return Gallery("Kernel regression", caption, pictures), [
        "kernel-leakage",
        theft.record.cost.queries,
        worst,
    ]


def inverted(x: Rows, y: Rows) -> tuple[Gallery, list[object]]:
    """Return what inversion of victim and copy shows of each class, and how far they differ."""
    victim = LogisticRegression(max_iter=1000).fit(x, y)
    theft = Inversion(steps=500).run(SklearnModel(victim), domain=Domain.box(64))
    copy, images = (
        theft.found.parameters["images"],
        invert(differentiable(victim), Domain.box(64), 10, steps=500)[0],
    )
    pictures = []
    for k in range(10):
        pictures += [(f"{k}, victim", _image(images[k])), (f"{k}, copy", _image(copy[k]))]
    caption = "The input that each class is surest of, by the owner's model and by the copy."
    gap = f"{np.abs(images - copy).max():.1e}"
    return Gallery("Inversion of a softmax model", caption, pictures), [
        "inversion",
        theft.record.cost.queries,
        gap,
    ]


def page(galleries: list[Gallery]) -> str:
    """Return a page that shows the galleries."""
    parts = [
        "<!doctype html><meta charset=utf-8><title>What copies show</title>",
        "<body style='font-family:sans-serif'>",
    ]
    for gallery in galleries:
        parts.append(f"<h2>{html.escape(gallery.title)}</h2><p>{html.escape(gallery.caption)}</p>")
        parts += [
            f"<figure style='display:inline-block;margin:4px'><img width={tile.width} src='{tile.data_uri}'"
            f" alt=''><figcaption>{html.escape(tile.label)}</figcaption></figure>"
            for tile in gallery.tiles
        ]
    return "\n".join(parts)


def _image(row: Rows) -> Rows:
    return np.clip((row.reshape(1, 8, 8) + 1) / 2, 0.0, 1.0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=Path("pictures"))
    out = options.parse_args().out
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:1257]
    made = [leaked(x[order] / 8 - 1, y[order]), inverted(x[order] / 8 - 1, y[order])]
    galleries = [gallery for gallery, _ in made]
    for gallery, (name, *_) in made:
        gallery.save(out / GALLERIES / f"{name}.safetensors")
    (out / "index.html").write_text(page(galleries), encoding="utf-8")
    table(["attack", "queries", "largest difference"], [row for _, row in made])


if __name__ == "__main__":
    main()
