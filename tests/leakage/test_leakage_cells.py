import numpy as np
import pytest
import torch

from assay.data import Dataset, load_data
from assay.errors import EvidenceTampered, InvalidInput, MissingDependency
from assay.leakage import NearestNeighbours, load_estimator
from assay.leakage.cells import Cells, fit_centres


@pytest.fixture(scope="module")
def data():
    torch.set_num_threads(1)
    found = load_data("digits")
    found = found.subset(np.random.default_rng(0).permutation(len(found)))
    # Pixels are sixteenths, so that many rows would be equally near.
    noise = torch.rand(found.x.shape, generator=torch.Generator().manual_seed(0))
    return Dataset(0.98 * found.x + 0.02 * noise, found.y, found.classes)


def test_centres_are_as_many_as_rows_allow_and_repeat_with_the_seed(data):
    rows = data.x.flatten(1)
    found = fit_centres(rows, 12, rng=3)
    assert found.shape == (12, 64)
    assert torch.equal(found, fit_centres(rows, 12, rng=3))
    assert len(fit_centres(rows, None)) == len(rows) // 39
    with pytest.raises(InvalidInput, match="too many"):
        fit_centres(rows, 1000)


def test_without_faiss_the_exact_search_is_still_there(data, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    NearestNeighbours(k=30, features="inputs").fit(data)
    with pytest.raises(MissingDependency, match="ann"):
        NearestNeighbours(k=30, features="inputs", index="cells").fit(data)


def test_all_cells_find_the_very_nearest_and_few_find_nearly_all(data):
    pytest.importorskip("faiss", reason="faiss is not installed: assay-ml[ann]")
    private, queries = data.subset(range(1200)), data.x[1200:1400]
    exact = NearestNeighbours(k=25, features="inputs").fit(private)
    all_ = NearestNeighbours(k=25, features="inputs", index="cells", cells=20, probes=20).fit(private)
    few = NearestNeighbours(k=25, features="inputs", index="cells", cells=20, probes=5).fit(private)
    assert all_.facts["recall"] == pytest.approx(1.0, abs=1e-3)
    assert 0.7 < few.facts["recall"] < 1.0
    assert np.allclose(exact.log_q(queries), all_.log_q(queries))
    assert np.corrcoef(exact.log_q(queries), few.log_q(queries))[0, 1] > 0.95
    assert np.array_equal(few.log_q(queries), np.concatenate([few.log_q(q[None]) for q in queries]))


def test_cells_with_too_few_rows_fall_back_to_all_rows():
    pytest.importorskip("faiss", reason="faiss is not installed: assay-ml[ann]")
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.rand(195, 2, generator=generator), torch.rand(5, 2, generator=generator) + 9.0]) / 10
    data = Dataset(x, torch.arange(200) % 2, ("a", "b"))
    exact = NearestNeighbours(k=20, features="inputs").fit(data)
    near = NearestNeighbours(k=20, features="inputs", index="cells", cells=5, probes=1).fit(data)
    far = torch.tensor([[0.95, 0.95]])
    assert np.array_equal(near.votes(far), exact.votes(far))


def test_cells_survive_their_folder_and_damage_is_seen(data, tmp_path):
    pytest.importorskip("faiss", reason="faiss is not installed: assay-ml[ann]")
    fitted = NearestNeighbours(k=25, features="inputs", index="cells", cells=10, probes=3).fit(data)
    opened = load_estimator(fitted.save(tmp_path / "cells"))
    assert opened.digest == fitted.digest
    assert np.array_equal(opened.log_q(data.x[:50]), fitted.log_q(data.x[:50]))
    broken = fitted.fitted.tensors | {"centres": torch.zeros(10, 3)}
    with pytest.raises(EvidenceTampered, match="cells"):
        fitted.method.restore(type(fitted.fitted)(**(vars(fitted.fitted) | {"tensors": broken})))


def test_nearest_rows_are_found_by_distance():
    pytest.importorskip("faiss", reason="faiss is not installed: assay-ml[ann]")
    rows = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    cells = Cells(rows, torch.tensor([[0.5], [10.5]]), probes=1)
    assert cells.nearest(torch.tensor([[0.9], [10.1]]), 3).tolist() == [[1, 0, -1], [2, 3, -1]]


@pytest.mark.parametrize("wrong", [{"index": "tree"}, {"index": "cells", "probes": 0}])
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(InvalidInput, match="index must be"):
        NearestNeighbours(**wrong)
