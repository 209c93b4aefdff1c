from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.adapters import open_model
from assay.adapters.onnx_guard import refuse_external_data
from assay.errors import AccessDenied, InvalidInput, MissingDependency
from assay.model import Access

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the skip

from assay.adapters import OnnxModel  # noqa: E402 - after the skip

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(2, 3)).astype(np.float32)
X = torch.from_numpy(RNG.normal(size=(7, 2)).astype(np.float32))
LOGITS = X.numpy() @ WEIGHTS
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def make(nodes, outputs, *, dtype=np.float32, inputs=None, opsets=(), rows="n", initializers=None):
    kind = TensorProto.DOUBLE if dtype == np.float64 else TensorProto.FLOAT
    constants = (
        [numpy_helper.from_array(WEIGHTS.astype(dtype), "w")] if initializers is None else initializers
    )
    graph = helper.make_graph(nodes, "g", inputs or [value("x", kind, [rows, 2])], outputs, constants)
    sets = [helper.make_opsetid("", 17), *(helper.make_opsetid(*o) for o in opsets)]
    return helper.make_model(graph, opset_imports=sets, ir_version=9)


MATMUL = helper.make_node("MatMul", ["x", "w"], ["z"])
SOFTMAX = helper.make_node("Softmax", ["z"], ["p"], axis=1)
ARGMAX = helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0)
Z = value("z", TensorProto.FLOAT, ["n", 3])
P = value("p", TensorProto.FLOAT, ["n", 3])
LABEL = value("label", TensorProto.INT64, ["n"])


@pytest.fixture
def save(tmp_path):
    def write(model, name="net.onnx"):
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return write


CASES = {
    "logits": ([MATMUL], [Z]),
    "probabilities": ([MATMUL, SOFTMAX], [P]),
    "both": ([MATMUL, SOFTMAX, ARGMAX], [LABEL, P]),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_probabilities_and_labels(save, case):
    model = open_model(save(make(*CASES[case])), batch_size=3)
    assert np.allclose(model.scores(X), PROBABILITIES, atol=1e-6)
    assert model.labels(X).tolist() == LOGITS.argmax(1).tolist()
    assert (model.input_shape, model.num_classes, model.access) == ((2,), 3, Access.SCORES)
    assert len(model.digest) == 64
    with pytest.raises(AccessDenied):
        model.embeddings(X)
    with pytest.raises(AccessDenied):
        model.module  # noqa: B018 - reading it is the point


def test_labels_only(save):
    path = save(make([MATMUL, ARGMAX], [LABEL]))
    with pytest.raises(InvalidInput, match="pass num_classes"):
        open_model(path)
    model = open_model(path, num_classes=3)
    assert model.access is Access.LABELS
    assert model.labels(X).tolist() == LOGITS.argmax(1).tolist()
    with pytest.raises(InvalidInput, match="outside its 2 classes"):
        open_model(path, num_classes=2).labels(X)


@pytest.mark.parametrize(
    "keys", [{"classlabels_int64s": [2, 5, 9]}, {"classlabels_strings": ["a", "b", "c"]}]
)
def test_zipmap_of_converted_sklearn_models(save, keys):
    text = "classlabels_strings" in keys
    zipmap = helper.make_node("ZipMap", ["p"], ["maps"], domain="ai.onnx.ml", **keys)
    key_type = TensorProto.STRING if text else TensorProto.INT64
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(key_type, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    # The label output speaks in keys 2, 5, 9; labels must come back as positions.
    lookup = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.array([2, 5, 9]), "names")]
    nodes = [MATMUL, SOFTMAX, ARGMAX, helper.make_node("Gather", ["names", "label"], ["named"]), zipmap]
    outputs = [value("named", TensorProto.INT64, ["n"]), helper.make_value_info("maps", kind)]
    path = save(make(nodes, outputs, opsets=[("ai.onnx.ml", 3)], initializers=lookup))
    model = open_model(path)
    assert np.allclose(model.scores(X), PROBABILITIES, atol=1e-6)
    assert model.labels(X).tolist() == LOGITS.argmax(1).tolist()


def test_fixed_batch_is_padded(save):
    model = OnnxModel(save(make([MATMUL], [value("z", TensorProto.FLOAT, [4, 3])], rows=4)))
    assert model.batch_size == 4
    assert np.allclose(model.scores(X), PROBABILITIES, atol=1e-6)


def test_double_precision(save):
    model = OnnxModel(save(make([MATMUL], [value("z", TensorProto.DOUBLE, ["n", 3])], dtype=np.float64)))
    exact = X.double().numpy() @ WEIGHTS.astype(np.float64)
    scores = np.exp(exact) / np.exp(exact).sum(1, keepdims=True)
    assert np.allclose(model.scores(X.double()), scores, atol=1e-14)


def test_single_column_needs_a_word(save):
    column = [numpy_helper.from_array(WEIGHTS[:, :1].copy(), "w")]
    path = save(make([MATMUL], [value("z", TensorProto.FLOAT, ["n", 1])], initializers=column))
    with pytest.raises(InvalidInput, match="one float a row"):
        OnnxModel(path)
    model = OnnxModel(path, outputs="logits")
    positive = 1 / (1 + np.exp(-LOGITS[:, 0]))
    assert np.allclose(model.scores(X), np.stack([1 - positive, positive], 1), atol=1e-6)
    with pytest.raises(InvalidInput, match="not probabilities"):
        OnnxModel(path, outputs="probabilities").scores(X)
    with pytest.raises(InvalidInput, match="not whole numbers"):
        OnnxModel(path, outputs="labels", num_classes=2).labels(X)
    with pytest.raises(InvalidInput, match="outputs must be one of"):
        OnnxModel(path, outputs="scores")


def test_several_scores_need_a_name(save):
    path = save(make([MATMUL, SOFTMAX], [Z, P]))
    with pytest.raises(InvalidInput, match="more than one output"):
        OnnxModel(path)
    assert np.allclose(OnnxModel(path, output="p").scores(X), PROBABILITIES, atol=1e-6)
    with pytest.raises(InvalidInput, match="no output 'q'"):
        OnnxModel(path, output="q")


def test_other_inputs_are_refused(save):
    integers = make([helper.make_node("Cast", ["x"], ["z"], to=1)], [value("z", 1, ["n", 2])],
                    inputs=[value("x", TensorProto.INT64, ["n", 2])])  # fmt: skip
    two = make([helper.make_node("Add", ["x", "y"], ["z"])], [value("z", 1, ["n", 2])],
               inputs=[value("x", 1, ["n", 2]), value("y", 1, ["n", 2])])  # fmt: skip
    for model in (integers, two):
        with pytest.raises(InvalidInput, match="must take one float tensor"):
            OnnxModel(save(model))
    open_shape = make([helper.make_node("Identity", ["x"], ["z"])], [value("z", 1, ["n", "k"])],
                      inputs=[value("x", 1, ["n", "k"])])  # fmt: skip
    with pytest.raises(InvalidInput, match="pass input_shape"):
        OnnxModel(save(open_shape))
    assert OnnxModel(save(open_shape), (4,)).num_classes == 4
    with pytest.raises(InvalidInput, match="takes inputs of shape"):
        OnnxModel(save(make(*CASES["logits"])), (3,))
    with pytest.raises(InvalidInput, match="num_classes is 5"):
        OnnxModel(save(make(*CASES["logits"])), num_classes=5)
    with pytest.raises(InvalidInput, match="threads"):
        OnnxModel(save(make(*CASES["logits"])), threads=0)


def external(location):
    tensor = numpy_helper.from_array(WEIGHTS, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


@pytest.mark.parametrize("location", ["w.bin", "/etc/passwd", "../w.bin", "*/_ORT_MEM_ADDR_/*"])
def test_external_files_are_refused_wherever_they_hide(save, location):
    tensor = external(location)
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [value("w", 1, [2, 3])])
    nested = helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)
    function = helper.make_function("own", "f", ["a"], ["w"], [constant], [helper.make_opsetid("", 17)])
    with_function = make([MATMUL], [Z])
    with_function.functions.append(function)
    sparse = make([MATMUL], [Z])
    sparse.graph.sparse_initializer.add().values.CopyFrom(tensor)
    models = [
        make([MATMUL], [Z], initializers=[tensor]),
        make([constant, MATMUL], [Z], initializers=[]),
        make([nested, MATMUL], [Z], initializers=[]),
        with_function,
        sparse,
    ]
    for model in models:
        with pytest.raises(InvalidInput, match="tensors in other files"):
            open_model(save(model))
    refuse_external_data(make([MATMUL], [Z]).SerializeToString(), "control")


def test_malformed_protocol_buffers():
    deep = b""
    for _ in range(200):
        # attribute 6 (graph) -> node 1 -> attribute 5, over and over
        for field in (6, 5, 1):
            size, head = len(deep), bytes([field << 3 | 2])
            length = b""
            while size > 127:
                length += bytes([size & 127 | 128])
                size >>= 7
            deep = head + length + bytes([size]) + deep
    for data in (b"\x3a\x7f", b"\x3b", b"\xff" * 12, b"\x38\x01", deep[: len(deep)]):
        with pytest.raises(InvalidInput, match="no ONNX model"):
            refuse_external_data(b"\x3a" + varint(len(data)) + data if data is deep else data, "f")


def varint(number):
    result = b""
    while number > 127:
        result += bytes([number & 127 | 128])
        number >>= 7
    return result + bytes([number])


def test_missing_runtime_names_the_extra(save, monkeypatch):
    path = save(make(*CASES["logits"]))
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"assay-ml\[onnx\]"):
        open_model(path)
