"""A study of iris flowers that takes a second."""

from __future__ import annotations

from assay.study.file import parse_study
from assay.study.grid import plan_study

LITTLE = """\
[study]
title = "Iris"
alpha = 0.05

[data.iris]
source = "iris"
parts = { pool = 80, queries = 30, outside = 20, evaluation = 20 }

[recipe]
short = { epochs = 2, batch_size = 16 }

[victim.a]
data = "iris"
architecture = "mlp-8"
recipe = "short"

[evidence.kept]
scheme = "dataset-inference"
options = { keep = 40, decide = "permutation", resamples = 99 }
references = { count = 2 }

[extraction.copy]
attack = "source-copy"

[extraction.labels]
attack = "label-query"
options = { architecture = "mlp-8", training = "short" }

[extraction.twice]
chain = ["labels", "labels"]

[removal.noise]
removal = "weight-noise"

[verification.labels]
access = "labels"

[panel.others]
secrets = 2

[[panel.others.models]]
architecture = "mlp-4"
recipe = "short"
count = 2

[grid]
removals = ["none", "noise"]

[preset.two]
study.seeds = 2

[preset.two.panel.others]
models = [{ architecture = "mlp-4", count = 1 }]
"""
PATH = "little.toml"


def changed(*changes, extra=""):
    """Return the text with replacements, each of which must be possible."""
    text = LITTLE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text + extra


def study_of(*changes, extra="", preset=None):
    return parse_study(changed(*changes, extra=extra), PATH, preset)


def plan_of(*changes, extra="", preset=None):
    return plan_study(study_of(*changes, extra=extra, preset=preset))


def rows_of(finished):
    """Return the rows without what differs from run to run."""
    return {
        name: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
        for name, rows in finished.tables.tables.items()
    }
