"""Exact attacks on ONNX files, as converters write them of scikit-learn's logistic regression."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from assay.adapters import open_model
from assay.data import load_data

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the skip

X, Y = load_iris(return_X_y=True)
WORDS = ("extract", "--domain", "0,8", "--uniform", "500", "--json")


def converted(labels):
    """A classifier of 32 bits whose scores are maps from class to probability."""
    fitted = LogisticRegression(max_iter=500).fit(X, labels)
    two = len(fitted.classes_) == 2
    weights, bias = fitted.coef_, fitted.intercept_
    if two:
        weights, bias = np.vstack([-weights, weights]), np.append(-bias, bias)
    classes = fitted.classes_.tolist()
    nodes = [
        helper.make_node(
            *("LinearClassifier", ["x"], ["label", "raw"]),
            domain="ai.onnx.ml",
            classlabels_ints=classes,
            coefficients=weights.ravel().tolist(),
            intercepts=bias.tolist(),
            multi_class=int(not two),
            post_transform="LOGISTIC" if two else "SOFTMAX",
        ),
        helper.make_node("Normalizer", ["raw"], ["p"], domain="ai.onnx.ml", norm="L1"),
        helper.make_node("ZipMap", ["p"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=classes),
    ]
    one = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        helper.make_value_info("maps", helper.make_sequence_type_proto(one)),
    ]
    return fitted, graph(nodes, outputs, TensorProto.FLOAT, [])


def plain(fitted=None):
    """The same model in matrices of 64 bits."""
    fitted = fitted or LogisticRegression(max_iter=500).fit(X, Y)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Add", ["s", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(fitted.coef_.T), "w"),
        numpy_helper.from_array(fitted.intercept_, "b"),
    ]
    outputs = [helper.make_tensor_value_info("p", TensorProto.DOUBLE, ["n", len(fitted.coef_)])]
    return fitted, graph(nodes, outputs, TensorProto.DOUBLE, constants, fitted.n_features_in_)


def graph(nodes, outputs, kind, constants, features=X.shape[1]):
    inputs = [helper.make_tensor_value_info("x", kind, ["n", features])]
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, constants), opset_imports=sets, ir_version=9
    )
    return made.SerializeToString()


@pytest.mark.parametrize("attack", ["equation-solving", "auto"])
@pytest.mark.parametrize(("kind", "close"), [("maps", 1e-4), ("two", 1e-3), ("plain", 1e-10)])
def test_a_logistic_regression_is_recovered_from_its_onnx_file(assay, tmp_path, kind, close, attack):
    fitted, data = plain() if kind == "plain" else converted(Y if kind == "maps" else (Y > 0).astype(int))
    (tmp_path / "clf.onnx").write_bytes(data)
    done = assay(*WORDS, "--attack", attack, "--victim", "clf.onnx", "--out", "theft")
    assert (done.code, done.err) == (0, "")
    assert done.json["exact"]["r_unif"]["value"] == 0.0
    # The copy is compared with the model that was converted, which the attack never saw.
    rows = np.random.default_rng(0).uniform(0, 8, (200, 4))
    copy = open_model("theft/surrogate.skops").scores(torch.from_numpy(rows)).numpy()
    assert np.abs(copy - fitted.predict_proba(rows)).max() < close
    assert ("float32" in done.json["exact"]["flags"]) == (kind != "plain")


def test_the_classes_of_a_flat_onnx_file_are_drawn_beside_images(assay, tmp_path):
    data = load_data("digits", limit=300)
    fitted = LogisticRegression(max_iter=100).fit(data.x.flatten(1).double().numpy(), data.y.numpy())
    (tmp_path / "clf.onnx").write_bytes(plain(fitted)[1])
    words = ("extract", "--attack", "inversion", "--victim", "clf.onnx", "--set", "steps=20")
    done = assay(*words, "--evaluation", "digits", "--out", "theft", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["exact"]["exposure"]["shape"] == [1, 8, 8]
    assert done.json["fidelity"]["value"] == 1.0
    assert assay("report", "theft", "--out", "r.html").code == 0
    assert Path("r.html").read_text().count("data:image/png;base64,") == 20
    refused = assay(*words, "--evaluation", "iris")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_further_exact_attacks_take_onnx_files(assay, tmp_path):
    (tmp_path / "clf.onnx").write_bytes(plain()[1])
    inverted = assay(*WORDS, "--attack", "inversion", "--victim", "clf.onnx", "--set", "steps=20")
    assert inverted.code == 0, inverted.err
    assert inverted.json["exact"]["exposure"]["total"] == 3
    labels = assay(*WORDS, "--attack", "boundary", "--victim", "clf.onnx", "--access", "labels")
    assert labels.code == 0, labels.err
    assert labels.json["exact"]["r_unif"]["value"] == 0.0
