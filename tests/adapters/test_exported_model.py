from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.adapters import ExportedModel, open_model
from assay.adapters.exported_guard import safe_program
from assay.errors import InvalidInput
from assay.model import Access
from assay.nets import build

SHAPE = (1, 8, 8)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (Path(self.marker),))


def export(net, rows, dynamic=None):
    program = torch.export.export(net, (torch.zeros(rows, *SHAPE),), dynamic_shapes=dynamic)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def net():
    return build("cnn-4", SHAPE, 3, rng=1).eval()


@pytest.fixture(scope="module")
def dynamic(net):
    return export(net, 2, ({0: torch.export.Dim("batch")},))


@pytest.fixture(scope="module")
def fixed(net):
    return export(net, 4)


@pytest.fixture(scope="module")
def x():
    return torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(0))


def rewrite(data, change):
    """Return the archive with its entries, by name without the root folder, changed in place."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        root = names[0].split("/")[0]
        entries = {n.removeprefix(root + "/"): archive.read(n) for n in names}
    change(entries)
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{root}/{name}", content)
    return result.getvalue()


def edit(path, change):
    """Return a change of one JSON entry."""

    def apply(entries):
        value = json.loads(entries[path])
        change(value)
        entries[path] = json.dumps(value).encode()

    return apply


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_answers_match_the_network(request, net, x, tmp_path, kind):
    path = tmp_path / "net.pt2"
    path.write_bytes(request.getfixturevalue(kind))
    model = open_model(path)
    with torch.no_grad():
        expected = torch.softmax(net(x), 1)
    assert torch.allclose(model.scores(x), expected, atol=1e-6)
    assert model.labels(x[:1]).tolist() == expected[:1].argmax(1).tolist()
    assert (model.input_shape, model.num_classes, model.access) == (SHAPE, 3, Access.SCORES)
    assert model.batch_size == (4 if kind == "fixed" else 128)


def test_caller_and_graph_must_agree(dynamic, tmp_path):
    path = tmp_path / "net.pt2"
    path.write_bytes(dynamic)
    with pytest.raises(InvalidInput, match="takes inputs of shape"):
        ExportedModel(path, (3, 8, 8))
    with pytest.raises(InvalidInput, match="num_classes is 5"):
        ExportedModel(path, num_classes=5)
    with pytest.raises(InvalidInput, match="cannot read"):
        ExportedModel(tmp_path / "absent.pt2")


def test_one_input_only(tmp_path):
    class Two(nn.Module):
        def forward(self, a, b):
            return a + b

    torch.export.save(
        torch.export.export(Two(), (torch.zeros(2, 3), torch.zeros(2, 3))), tmp_path / "two.pt2"
    )
    with pytest.raises(InvalidInput, match="exactly one tensor"):
        ExportedModel(tmp_path / "two.pt2")


def node(value):
    return value["graph_module"]["graph"]["nodes"][0]


def with_target(target):
    return edit("models/model.json", lambda v: node(v).update(target=target))


def with_size(text):
    def change(value):
        for meta in value["graph_module"]["graph"]["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = text

    return edit("models/model.json", change)


def with_spec(text):
    def change(value):
        value["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text

    return edit("models/model.json", change)


def pickled_weight(entries):
    table = json.loads(entries["data/weights/model_weights_config.json"])
    next(iter(table["config"].values()))["use_pickle"] = True
    entries["data/weights/model_weights_config.json"] = json.dumps(table).encode()


def truthy_weight(entries):
    table = json.loads(entries["data/weights/model_weights_config.json"])
    next(iter(table["config"].values()))["use_pickle"] = 1
    entries["data/weights/model_weights_config.json"] = json.dumps(table).encode()


def opaque_constant(entries):
    row = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    entries["data/constants/model_constants_config.json"] = json.dumps({"config": {"c": row}}).encode()
    entries["data/constants/opaque_obj_0"] = b"\x80\x02."


LEAF = {"type": None, "context": None, "children_spec": []}
FORGERIES = {
    "code as argument": edit(
        "models/model.json",
        lambda v: v["graph_module"]["module_call_graph"][0]["signature"].update(
            forward_arg_names=["x: print(1)"]
        ),
    ),
    "operating system": with_target("torch.os.system"),
    "prefix only": with_target("torchx.os.system"),
    "operator module": with_target("_operator.methodcaller"),
    "read a file": with_target("torch.ops.aten.from_file.default"),
    "write a file": with_target("torch.ops.aten.save.default"),
    "higher order": with_target("torch.ops.higher_order.cond"),
    "trailing newline": with_target("torch.ops.aten.relu.default\n"),
    "evaluated size": with_size("__import__('os').system('true')"),
    "evaluated attribute": with_size("Symbol('s0').__class__"),
    "evaluated name": with_size("Symbol('__import__')"),
    "evaluated call": with_size("eval(s0)"),
    "huge power": with_size("9**9**9"),
    "imported container": with_spec(json.dumps([1, {**LEAF, "type": "collections.defaultdict"}])),
    "code as keyword": with_spec(
        json.dumps([1, {**LEAF, "type": "builtins.dict", "context": '["a=print(1)"]'}])
    ),
    "no container": with_spec("[]"),
    "code as name": edit(
        "models/model.json", lambda v: node(v)["outputs"][0]["as_tensor"].update(name="a\nprint(1)")
    ),
    "code as key": edit("models/model.json", lambda v: v["graph_module"]["graph"].update({"a(b)": 1})),
    "pickled weight": pickled_weight,
    "truthy flag": truthy_weight,
    "opaque constant": opaque_constant,
    "compiled code": lambda e: e.update({"data/aotinductor/model/x.so": b"\x7fELF"}),
    "second model": lambda e: e.update({"models/other.json": e["models/model.json"]}),
    "legacy weights": lambda e: e.update({"data/weights/model.pt": b"\x80\x02."}),
    "old format": lambda e: e.pop("archive_format"),
    "no JSON": lambda e: e.update({"models/model.json": b"{"}),
    "no object": lambda e: e.update({"models/model.json": b"[]"}),
    "no graph": lambda e: e.update({"models/model.json": b"{}"}),
    "no table": lambda e: e.update({"data/weights/model_weights_config.json": b"{}"}),
    "no row": lambda e: e.update({"data/weights/model_weights_config.json": b'{"config": {"a": 1}}'}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_programs_never_reach_torch(dynamic, forgery):
    with pytest.raises(InvalidInput):
        safe_program(rewrite(dynamic, FORGERIES[forgery]), "forged.pt2")
    safe_program(rewrite(dynamic, lambda entries: None), "control.pt2")


def test_duplicate_and_compressed_entries(dynamic):
    twice = io.BytesIO(dynamic)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"")
    with pytest.raises(InvalidInput, match="two entries"):
        safe_program(twice.getvalue(), "f")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/archive_format", b"0" * 1000)
    with pytest.raises(InvalidInput, match="compressed"):
        safe_program(packed.getvalue(), "f")


def test_a_pickle_in_the_sample_inputs_is_not_executed(dynamic, tmp_path):
    marker = tmp_path / "executed"
    buffer = io.BytesIO()
    torch.save((Payload(str(marker)),), buffer)
    path = tmp_path / "evil.pt2"
    path.write_bytes(rewrite(dynamic, lambda e: e.update({"data/sample_inputs/model.pt": buffer.getvalue()})))
    assert open_model(path).num_classes == 3
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(str(marker))))  # the control: the payload would have worked
    assert marker.exists()


def test_guards_and_metadata_are_left_out(dynamic):
    code = ["__import__('os').system('true')"]
    forged = rewrite(
        dynamic,
        edit(
            "models/model.json",
            lambda v: (v.update(guards_code=code), node(v).update(metadata={"custom": "(("})),
        ),
    )
    with zipfile.ZipFile(io.BytesIO(safe_program(forged, "f"))) as archive:
        program = json.loads(archive.read("model/models/model.json"))
        assert archive.read("model/data/sample_inputs/model.pt") == b""
    assert program["guards_code"] == []
    assert node(program)["metadata"] == {}


def test_a_broken_graph_is_a_sentence(dynamic, tmp_path):
    path = tmp_path / "broken.pt2"
    path.write_bytes(rewrite(dynamic, with_target("torch.ops.aten.nosuch.default")))
    with pytest.raises(InvalidInput, match="cannot load"):
        open_model(path)
    path.write_bytes(rewrite(dynamic, lambda e: e.update({"data/weights/weight_0": b"123"})))
    with pytest.raises(InvalidInput, match="cannot load"):
        open_model(path)
