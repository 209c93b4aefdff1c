from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.adapters import CallableModel, open_model
from assay.errors import AccessDenied, InvalidInput
from assay.model import Access

WEIGHTS = np.array([[1.0, -1.0, 0.5], [0.0, 2.0, -0.5]], dtype=np.float32)
X = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32))
LOGITS = X.numpy() @ WEIGHTS


def logits(x):
    assert isinstance(x, np.ndarray)
    return x @ WEIGHTS


def tensors(x: Tensor):
    assert isinstance(x, Tensor)
    return torch.softmax(x @ torch.from_numpy(WEIGHTS), 1)


def labels(x):
    return logits(x).argmax(1)


def test_scores_from_arrays_and_tensors():
    expected = torch.softmax(torch.from_numpy(LOGITS), 1)
    for function in (logits, tensors, lambda x: logits(x).tolist()):
        model = open_model(function, input_shape=(2,), batch_size=3)
        assert torch.allclose(model.scores(X).float(), expected, atol=1e-6)
        assert model.labels(X).tolist() == LOGITS.argmax(1).tolist()
        assert (model.num_classes, model.access) == (3, Access.SCORES)
    model = CallableModel(lambda x: torch.softmax(x, 1), (2,), takes="tensor")
    assert torch.allclose(model.scores(X), torch.softmax(X, 1))


def test_labels():
    with pytest.raises(InvalidInput, match="pass num_classes"):
        open_model(labels, input_shape=(2,))
    model = open_model(labels, input_shape=(2,), num_classes=3)
    assert model.access is Access.LABELS
    assert model.labels(X).tolist() == LOGITS.argmax(1).tolist()
    floats = CallableModel(lambda x: labels(x).astype(float)[:, None], (2,), 3, outputs="labels")
    assert floats.labels(X).tolist() == LOGITS.argmax(1).tolist()


def test_stated_access_saves_the_probe():
    calls = []

    def count(x):
        calls.append(len(x))
        return logits(x)

    model = CallableModel(count, (2,), 3, access=Access.SCORES)
    assert calls == []
    model.scores(X)
    assert calls == [7]
    assert CallableModel(count, (2,), access=Access.LABELS).access is Access.LABELS
    with pytest.raises(AccessDenied):
        CallableModel(count, (2,), access=Access.WEIGHTS)
    with pytest.raises(InvalidInput, match="labels where scores"):
        CallableModel(labels, (2,), 3, access=Access.SCORES).scores(X)


def test_the_function_cannot_change_the_callers_data():
    def inplace(x):
        x += 1
        return logits(x)

    before = X.clone()
    open_model(inplace, input_shape=(2,)).labels(X)
    assert torch.equal(X, before)


ANSWERS = {
    "wrong rows": lambda x: np.zeros((len(x) + 1, 3)),
    "wrong classes": lambda x: np.full((len(x), 4), 0.25),
    "three axes": lambda x: np.zeros((len(x), 3, 1)),
    "a number": lambda x: 3,
    "nothing": lambda x: None,
    "text": lambda x: ["a"] * len(x),
    "flags": lambda x: np.ones(len(x), dtype=bool),
    "complex": lambda x: torch.zeros(len(x), 3, dtype=torch.complex64),
    "ragged": lambda x: [[1.0], [1.0, 2.0]],
    "nan": lambda x: np.full((len(x), 3), np.nan),
    "integer matrix": lambda x: np.zeros((len(x), 3), dtype=int),
    "negative class": lambda x: np.full(len(x), -1),
    "an exception": lambda x: 1 / 0,
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_wrong_answers(answer):
    with pytest.raises(InvalidInput):
        CallableModel(ANSWERS[answer], (2,), 3).labels(X)


def test_import_specs(tmp_path, monkeypatch):
    (tmp_path / "own_model.py").write_text(
        "import torch\ndef predict(x: torch.Tensor):\n    return x.sum(1).long() * 0\nconstant = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = open_model("own_model:predict", input_shape=(2,), num_classes=2)
    assert (model.name, model.digest) == ("own_model:predict", "callable:own_model:predict")
    assert model.labels(X).tolist() == [0] * 7
    for spec, message in {
        "own_model:constant": "must be a function",
        "own_model:absent": "has no 'absent'",
        "absent_module:f": "cannot import",
    }.items():
        with pytest.raises(InvalidInput, match=message):
            open_model(spec, input_shape=(2,), num_classes=2)


def test_bad_options():
    with pytest.raises(InvalidInput, match="pass input_shape"):
        open_model(labels)
    with pytest.raises(InvalidInput, match="takes must be"):
        CallableModel(labels, (2,), 3, takes="list")
    for shape in ((), (0,), (2.5,), "ab"):
        with pytest.raises(InvalidInput):
            CallableModel(labels, shape, 3)
