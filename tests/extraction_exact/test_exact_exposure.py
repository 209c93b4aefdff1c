"""Recovered inputs: what is kept of them, beside which true rows, and within which bounds."""

import math

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from assay.adapters import SklearnModel, TorchModel
from assay.data import Dataset
from assay.errors import InvalidInput
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.exposure import ExposedInputs, Exposure, Leak, expose
from assay.extraction.exact.inversion import Inversion
from assay.extraction.exact.kernel_leakage import KernelLeakage
from assay.extraction.exact.kernel_net import KernelNet

RNG = np.random.default_rng(0)
LEAK = Leak("rows", "Rows", "Found.")


def test_the_nearest_row_is_found_across_chunks():
    rows, true = RNG.normal(size=(5, 6)), RNG.normal(size=(9000, 6))
    kept = expose(LEAK, rows, (2, 3), Domain.box(6), truth=true)
    apart = np.linalg.norm(rows[:, None] - true, axis=2)
    assert np.allclose(kept.about.distances, apart.min(1), rtol=1e-12)
    assert np.array_equal(kept.nearest, true[apart.argmin(1)].astype(np.float32))
    assert kept.about.source == "9000 true rows"


def test_rows_of_another_class_do_not_count():
    leak = Leak("images", "Classes", "Found.", by_class=True)
    data = Dataset.from_arrays(np.array([[0.0], [0.5], [1.0]]), np.array([0, 1, 1]), ["a", "b"])
    kept = expose(leak, np.array([[0.9], [0.1]]), (1,), Domain.box(1), evaluation=data)
    assert kept.nearest.ravel().tolist() == [0.0, 0.5]
    assert kept.about.labels == ("a", "b")
    without = expose(leak, np.zeros((2, 1)), (1,), Domain.box(1), evaluation=data.subset([0]))
    assert (without.nearest, without.about.source) == (None, "")


def test_what_is_kept_is_bounded():
    many = expose(LEAK, RNG.normal(size=(500, 3)), (3,), Domain.box(3))
    assert (many.about.total, len(many.found), len(many.about.labels)) == (500, 48, 48)
    rows = RNG.normal(size=(3, 2))
    rows[1, 0] = math.nan
    assert expose(LEAK, rows, (2,), Domain.box(2)).about.labels == ("1", "3")
    assert expose(LEAK, np.full((2, 2), 1e300), (2,), Domain.box(2)) is None
    assert expose(LEAK, np.zeros((2, 2**22 + 1)), (2**22 + 1,), Domain.box(2)) is None


def test_files_are_read_back_and_checked(tmp_path):
    kept = expose(LEAK, RNG.normal(size=(4, 3)), (3,), Domain.box(3), truth=RNG.normal(size=(7, 3)))
    kept.save(tmp_path / "inputs.safetensors")
    about = Exposure.from_json(kept.about.to_json())
    again = ExposedInputs.load(tmp_path / "inputs.safetensors", about)
    assert np.array_equal(again.found, kept.found)
    assert np.array_equal(again.nearest, kept.nearest)
    other = expose(LEAK, RNG.normal(size=(4, 3)), (3,), Domain.box(3), truth=RNG.normal(size=(7, 3)))
    with pytest.raises(InvalidInput, match="digests differ"):
        ExposedInputs.load(tmp_path / "inputs.safetensors", other.about)
    with (tmp_path / "large.safetensors").open("wb") as file:
        file.truncate(2**26)
    with pytest.raises(InvalidInput, match="larger than any"):
        ExposedInputs.load(tmp_path / "large.safetensors", kept.about)
    with pytest.raises(InvalidInput, match="no recovered inputs"):
        ExposedInputs.load(tmp_path / "none.safetensors", kept.about)


def test_attacks_say_which_parameters_are_inputs(tmp_path):
    net = KernelNet(RNG.uniform(-1, 1, (2, 8)), RNG.normal(size=(4, 2)), np.zeros(4), 0.1)
    theft = KernelLeakage(gamma=0.1, representers=2).run(TorchModel(net, (8,), 4), truth=net)
    assert theft.worth.parameter_error < 1e-6
    assert max(theft.worth.exposure.distances) < 1e-6
    assert "computed from answers alone" in theft.worth.exposure.caption
    theft.save(tmp_path)
    found = ExposedInputs.load(tmp_path / "inputs.safetensors", theft.worth.exposure)
    assert np.array_equal(found.found, theft.found.parameters["representers"].astype(np.float32))
    # The owner's network is no list of rows.
    assert KernelLeakage().true_inputs(object()) is None
    victim = SklearnModel(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)))
    inverted = Inversion(steps=10).run(victim, domain=Domain.box(4, 0.0, 8.0))
    assert inverted.worth.exposure.labels == ("class 0", "class 1", "class 2")
    assert (inverted.worth.exposure.low, inverted.worth.exposure.high) == (0.0, 8.0)
