from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from assay.adapters import TorchModel, open_model, restrict, save_model
from assay.adapters.torch_model import weights_digest
from assay.errors import AccessDenied, InvalidInput, UnknownName
from assay.model import Access
from assay.nets import build

SHAPE = (1, 8, 8)


@pytest.fixture
def net():
    return build("cnn-4", SHAPE, 3, rng=1)


@pytest.fixture
def x():
    return torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(0))


def expected(net, x):
    mode = net.training
    net.eval()
    with torch.no_grad():
        result = torch.softmax(net(x), 1)
    net.train(mode)
    return result


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (Path(self.marker),))


def test_scores_labels_embeddings(net, x):
    model = TorchModel(net, batch_size=3)
    assert torch.allclose(model.scores(x), expected(net, x), atol=1e-6)
    assert model.labels(x).tolist() == expected(net, x).argmax(1).tolist()
    net.eval()
    assert torch.allclose(model.embeddings(x), net.embed(x), atol=1e-6)
    assert model.module is net
    assert model.embeddings(x[:0]).shape == (0, net.head.in_features)
    assert (model.labels(x[:0]).shape, model.scores(x[:0]).shape) == ((0,), (0, 3))


def test_network_is_left_as_found(net, x):
    net.train()
    net.body[1].eval()
    flags = [part.training for part in net.modules()]
    before = weights_digest(net)
    model = TorchModel(net)
    model.scores(x)
    model.embeddings(x)
    assert [part.training for part in net.modules()] == flags
    assert weights_digest(net) == before == model.digest
    assert not model.scores(x).requires_grad


def test_answers_feed_autograd(net, x):
    targets = TorchModel(net).scores(x)
    student = build("cnn-4", SHAPE, 3)
    (student(x) * targets).sum().backward()
    assert student.head.weight.grad is not None


def test_digest_sees_values_names_and_shapes():
    base = {"a": torch.zeros(2, 2), "b": torch.ones(1)}

    def digest(state):
        module = nn.Module()
        for key, value in state.items():
            module.register_buffer(key, value)
        return weights_digest(module)

    changed = [
        {"a": torch.zeros(2, 2), "b": torch.ones(1) * 2},
        {"a": torch.zeros(4), "b": torch.ones(1)},
        {"c": torch.zeros(2, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 2), "b": torch.ones(1, dtype=torch.float64)},
        {"a": torch.zeros(2, 2), "b": torch.tensor(1.0)},
    ]
    assert len({digest(base), *map(digest, changed)}) == 6
    assert digest(base) == digest(dict(reversed(base.items())))
    assert digest({"empty": torch.zeros(0)}) != digest({})


def test_half_precision_and_double_weights(x):
    for dtype in (torch.bfloat16, torch.float64):
        model = TorchModel(build("mlp-4", SHAPE, 3).to(dtype))
        scores = model.scores(x)
        assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_plain_modules_need_shape_and_classes(x):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(InvalidInput, match="pass input_shape and num_classes"):
        TorchModel(plain)
    model = TorchModel(plain, SHAPE, 3)
    assert model.access == Access.WEIGHTS
    with pytest.raises(AccessDenied):
        model.embeddings(x)
    with pytest.raises(AccessDenied):
        TorchModel(plain, SHAPE, 3, access=Access.EMBEDDINGS)


@pytest.mark.parametrize(
    "bad",
    [torch.zeros(2, 8, 8), torch.zeros(2, 1, 8, 8).int(), torch.full((1, 1, 8, 8), torch.inf), [[0.0]], None],
)
def test_bad_inputs(net, bad):
    model = TorchModel(net)
    for ask in (model.labels, model.scores, model.embeddings):
        with pytest.raises(InvalidInput):
            ask(bad)


def test_bad_networks(x):
    class Tuple(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(InvalidInput, match="one float tensor"):
        TorchModel(Tuple(), SHAPE, 3).labels(x)
    with pytest.raises(InvalidInput, match="expected \\[7, 4\\]"):
        TorchModel(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), SHAPE, 4).labels(x)
    broken = build("mlp-4", SHAPE, 3)
    with torch.no_grad():
        broken.head.bias.fill_(torch.nan)
        broken.body[1].bias.fill_(torch.nan)
    for ask in (TorchModel(broken).labels, TorchModel(broken).scores, TorchModel(broken).embeddings):
        with pytest.raises(InvalidInput, match="NaN"):
            ask(x)
    with pytest.raises(InvalidInput, match=r"torch\.nn\.Module"):
        TorchModel("net")
    for bad in ({"batch_size": 0}, {"num_classes": 1}, {"input_shape": (0,)}, {"input_shape": (1.5,)}):
        with pytest.raises(InvalidInput):
            TorchModel(build("mlp-4", SHAPE, 3), **bad)


def test_restriction(net, x):
    model = TorchModel(net)
    view = model.restricted("scores")
    assert torch.equal(view.scores(x), model.scores(x))
    assert torch.equal(view.labels(x), model.labels(x))
    assert (view.name, view.digest, view.input_shape, view.num_classes) == ("net", model.digest, SHAPE, 3)
    for refused in (lambda: view.embeddings(x), lambda: view.module):
        with pytest.raises(AccessDenied):
            refused()
    with pytest.raises(AccessDenied):
        restrict(view, Access.WEIGHTS)
    with pytest.raises(InvalidInput):
        restrict(model, Access.NONE)
    with pytest.raises(InvalidInput, match="unknown access"):
        restrict(model, "everything")
    features = restrict(model, Access.EMBEDDINGS)
    assert features.embeddings(x).shape == (7, 16)
    with pytest.raises(AccessDenied):
        features.labels(x)
    assert restrict(model, model.access) is model


def test_safetensors_round_trip(net, x, tmp_path):
    path = save_model(net, tmp_path / "deep" / "net.safetensors", {"note": "a"}, classes=("a", "b", "c"))
    model = open_model(str(path))
    assert (model.name, model.num_classes, model.input_shape) == ("net", 3, SHAPE)
    assert model.digest == weights_digest(net)
    assert torch.equal(model.scores(x), TorchModel(net).scores(x))
    again = save_model(model, tmp_path / "again.safetensors")
    assert open_model(again).digest == model.digest
    with pytest.raises(InvalidInput, match="reserved"):
        save_model(net, tmp_path / "x.safetensors", {"classes": "1"})
    with pytest.raises(InvalidInput, match="text to text"):
        save_model(net, tmp_path / "x.safetensors", {"epochs": 1})
    with pytest.raises(AccessDenied):
        save_model(restrict(model, "labels"), tmp_path / "x.safetensors")


def test_tied_weights_can_be_saved(tmp_path):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    path = save_model(net, tmp_path / "tied.safetensors")
    with pytest.raises(InvalidInput, match="does not name its architecture"):
        open_model(path)


def test_keys_must_fit(net, tmp_path):
    state = {k: v.clone() for k, v in net.state_dict().items()}
    cases = {
        "lacks head.bias": {k: v for k, v in state.items() if k != "head.bias"},
        "unexpected extra": {**state, "extra": torch.zeros(1)},
        r"head\.bias \[4\] instead of \[3\]": {**state, "head.bias": torch.zeros(4)},
    }
    for message, tensors in cases.items():
        save_file(tensors, tmp_path / "net.safetensors")
        with pytest.raises(InvalidInput, match=message):
            open_model(tmp_path / "net.safetensors", architecture="cnn-4", input_shape=SHAPE, num_classes=3)


def test_forged_metadata(net, tmp_path, monkeypatch):
    state = {k: v.clone() for k, v in net.state_dict().items()}
    path = tmp_path / "forged.safetensors"
    good = {"architecture": "cnn-4", "input_shape": "[1, 8, 8]", "num_classes": "3"}
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    cases = [
        ({"architecture": "evil_module:net"}, "asks to import"),
        ({"architecture": "nosuch-4"}, "unknown architecture"),
        ({"architecture": "cnn-x"}, "whole numbers"),
        ({"architecture": "mlp-2000000000-2000000000"}, "does not fit"),  # would take 16 exabytes
        ({"num_classes": "many"}, "malformed"),
        ({"num_classes": "1"}, "at least 2"),
        ({"input_shape": "{"}, "malformed"),
        ({"input_shape": "[1, -8, 8]"}, "fit|shape"),
        ({"input_shape": "7"}, "fit|shape"),
        ({"input_shape": '["a"]'}, "fit|shape"),
    ]
    for change, message in cases:
        save_file(state, path, {**good, **change})
        with pytest.raises((InvalidInput, UnknownName), match=message):
            open_model(path)
    assert "evil_module" not in sys.modules


def test_damaged_files(tmp_path):
    for suffix in (".safetensors", ".pt", ".pth", ".pt2", ".onnx", ".skops"):
        for content in (b"", b"\x00" * 100, b"PK\x03\x04" + b"\xff" * 60, b"\x80\x02."):
            path = tmp_path / f"damaged{suffix}"
            path.write_bytes(content)
            with pytest.raises(InvalidInput):
                open_model(path, architecture="mlp-4", input_shape=(2,), num_classes=2)


@pytest.mark.parametrize("wrap", [None, "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dictionaries(net, x, tmp_path, wrap, prefix):
    state = {prefix + k: v for k, v in net.state_dict().items()}
    path = tmp_path / "net.pt"
    torch.save(state if wrap is None else {wrap: state, "epoch": 3}, path)
    model = open_model(path, architecture="cnn-4", input_shape=SHAPE, num_classes=3)
    assert torch.equal(model.scores(x), TorchModel(net).scores(x))


def test_no_pickle_is_executed(tmp_path):
    marker = tmp_path / "executed"
    evil = pickle.dumps(Payload(str(marker)))
    for suffix in (".pkl", ".pickle", ".joblib", ".ckpt", ".bin"):
        (tmp_path / f"evil{suffix}").write_bytes(evil)
        with pytest.raises(InvalidInput, match="convert it"):
            open_model(tmp_path / f"evil{suffix}")
    (tmp_path / "raw.pt").write_bytes(evil)
    torch.save({"w": torch.zeros(1), "p": Payload(str(marker))}, tmp_path / "zip.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    for name in ("raw.pt", "zip.pt", "module.pth"):
        with pytest.raises(InvalidInput, match="convert it"):
            open_model(tmp_path / name, architecture="mlp-4", input_shape=(2,), num_classes=2)
    assert not marker.exists()
    pickle.loads(evil)  # the control: the payload would have worked
    assert marker.exists()


def test_own_architectures(tmp_path, monkeypatch, x):
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\n"
        "def fixed(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
        "def named(width=1, *, input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[1] * 8, num_classes))\n"
        "def positional(shape, k): return nn.Sequential(nn.Flatten(), nn.Linear(64, k))\n"
        "def nothing(): return 3\n"
        "text = 'a'\n"
    )
    (tmp_path / "broken_nets.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    path = save_model(net, tmp_path / "own.safetensors")
    for function in ("fixed", "named", "positional"):
        model = open_model(path, architecture=f"own_nets:{function}", input_shape=SHAPE, num_classes=3)
        assert torch.equal(model.labels(x), TorchModel(net, SHAPE, 3).labels(x))
    for spec, message in {
        "own_nets:nothing": "must return a torch",
        "own_nets:text": "must be a function",
        "own_nets:absent": "has no 'absent'",
        "no_such_module:f": "cannot import",
        "broken_nets:f": "cannot import",
    }.items():
        with pytest.raises(InvalidInput, match=message):
            open_model(path, architecture=spec, input_shape=SHAPE, num_classes=3)
    for spec in ("own_nets:named", "own_nets:positional", "own_nets:fixed"):
        with pytest.raises(InvalidInput, match="pass input_shape and num_classes"):
            open_model(path, architecture=spec)


def test_another_device_copies_the_network(net, x):
    model = TorchModel(net, device="meta")
    assert model.module is not net
    assert all(p.device.type == "cpu" for p in net.parameters())
