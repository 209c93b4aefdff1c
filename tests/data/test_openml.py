from __future__ import annotations

from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets

from assay.data import load_data
from assay.errors import InvalidInput, UnknownName


@pytest.fixture
def served(monkeypatch):
    """Replace the download by a real small set in the form in which scikit-learn returns it."""
    real = sklearn.datasets.load_iris()
    bunch = SimpleNamespace(
        data=real.data,
        target=np.array(real.target_names)[real.target].astype(object),
        feature_names=real.feature_names,
        categories={},
    )
    calls = []

    def fetch(name, **options):
        calls.append((name, options))
        return bunch

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return SimpleNamespace(bunch=bunch, calls=calls)


def test_a_table_is_the_same_as_the_embedded_one(served):
    data = load_data("openml:iris")
    assert data.x.equal(load_data("iris").x)
    assert data.classes == ("setosa", "versicolor", "virginica")
    name, options = served.calls[0]
    assert (name, options["version"], options["as_frame"], options["parser"]) == (
        "iris",
        1,
        False,
        "liac-arff",
    )


def test_options_reach_the_download(served, tmp_path):
    load_data(f"openml:iris:version=3,cache={tmp_path}")
    assert served.calls[0][1]["version"] == 3
    assert served.calls[0][1]["data_home"] == str(tmp_path)
    with pytest.raises(UnknownName, match="version"):
        load_data("openml:iris:versoin=3")


def test_categories_become_columns(served):
    served.bunch.data = np.column_stack([served.bunch.data[:, 0], np.arange(150) % 3])
    served.bunch.feature_names = ["length", "colour"]
    served.bunch.categories = {"colour": ["red", "green", "blue"]}
    data = load_data("openml:iris")
    assert data.input_shape == (4,)
    assert data.x[1, 1:].tolist() == [0, 1, 0]
    served.bunch.data[1, 1] = np.nan
    with pytest.raises(InvalidInput, match="1 rows miss values"):
        load_data("openml:iris")
    assert len(load_data("openml:iris:missing=drop")) == 149
    assert load_data("openml:iris:missing=category").x[1, 1:].tolist() == [0, 0, 0]


def test_rows_of_bytes_become_images(served):
    served.bunch.data = np.random.default_rng(0).integers(0, 256, (150, 12)).astype(float)
    data = load_data("openml:tiny:shape=3x2x2")
    assert data.x.shape == (150, 3, 2, 2)
    assert np.array_equal(np.rint(data.x[5].flatten().numpy() * 255), served.bunch.data[5])
    for bad in ("3x2", "3x3x3", "x"):
        with pytest.raises(InvalidInput, match="no images of shape"):
            load_data(f"openml:tiny:shape={bad}")
    served.bunch.data[0, 0] = 0.5
    with pytest.raises(InvalidInput, match="does not hold bytes"):
        load_data("openml:tiny:shape=3x2x2")


def test_what_is_no_classification_is_refused(served):
    target = served.bunch.target
    served.bunch.target = np.linspace(0, 1, 150)
    with pytest.raises(InvalidInput, match="regression"):
        load_data("openml:iris")
    served.bunch.target = target[:, None]
    with pytest.raises(InvalidInput, match="one class column"):
        load_data("openml:iris")
    served.bunch.target = np.full(150, None, dtype=object)
    with pytest.raises(InvalidInput, match="every row"):
        load_data("openml:iris:missing=drop")


def test_without_a_connection_the_message_says_so(monkeypatch):
    def fetch(*_, **__):
        reason = "no route"
        raise URLError(reason)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    with pytest.raises(InvalidInput, match="check the name and the connection"):
        load_data("openml:iris")
    with pytest.raises(InvalidInput, match="needs name"):
        load_data("openml")
