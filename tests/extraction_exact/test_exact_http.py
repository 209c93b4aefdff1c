"""Exact attacks over a loopback connection, on services that do not show everything."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from assay.adapters import SklearnModel, open_model
from assay.cli.app import app
from assay.defences import Rounding, TopK
from assay.errors import InvalidInput
from assay.extraction.exact.auto import Auto

sys.path.insert(0, str(Path(__file__).parents[1] / "adapters"))
from oip_server import OipServer

X, Y = load_iris(return_X_y=True)
X = 2 * (X - X.min(0)) / np.ptp(X, axis=0) - 1
VICTIM = SklearnModel(LogisticRegression(max_iter=500).fit(X, Y))
DEFENCES = {"rounding": Rounding(digits=2), "top-k": TopK(k=2)}


def served(defence):
    """Return a server of the victim behind a defence, in float64."""
    shown = defence.wear(VICTIM)

    def predict(x):
        scores = shown.scores(torch.from_numpy(x)).numpy()
        shape, data = list(scores.shape), scores.ravel().tolist()
        return [{"name": "p", "datatype": "FP64", "shape": shape, "data": data}]

    outputs = [{"name": "p", "datatype": "FP64", "shape": [-1, 3]}]
    return OipServer(predict, (4,), outputs, datatype="FP64")


@pytest.mark.parametrize("name", DEFENCES)
def test_auto_recovers_a_service_that_rounds_or_hides_scores(name):
    with served(DEFENCES[name]) as server:
        victim = open_model(server.url, outputs="partial", batch_size=4096)
        assert not victim.complete_scores
        theft = Auto().run(victim)
    assert theft.worth.details["attack"] == "equation-solving"
    uniform = torch.from_numpy(np.random.default_rng(9).uniform(-1, 1, (2000, 4)))
    wrong = float((theft.surrogate.labels(uniform) != VICTIM.labels(uniform)).double().mean())
    assert wrong <= (5e-3 if name == "rounding" else 0.0)


@pytest.mark.parametrize("defence", [Rounding(digits=1), TopK(k=2), TopK(k=1)], ids=repr)
def test_the_client_asks_what_such_numbers_are(defence):
    with served(defence) as server:
        victim = open_model(server.url)
        with pytest.raises(InvalidInput, match="partial"):
            victim.scores(torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (60, 4))))


def test_the_command_line_extracts_from_such_a_service(tmp_path):
    with served(DEFENCES["top-k"]) as server:
        arguments = ["extract", "--attack", "auto", "--victim", server.url, "--outputs", "partial"]
        result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "theft")])
    assert result.exit_code == 0, result.output
    assert "equation-solving" in result.output
