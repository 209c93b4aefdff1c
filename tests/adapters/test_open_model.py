from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import assay.adapters
from assay.adapters import open_model, restrict
from assay.defences import Incomplete
from assay.errors import AccessDenied, InvalidInput
from assay.ledger import Ledger
from assay.model import Access
from assay.nets import build
from assay.registry import registered


def test_an_open_model_passes_through():
    model = open_model(build("mlp-4", (3,), 2), name="suspect")
    assert open_model(model) is model
    view = open_model(model, access=Access.LABELS)
    assert (view.access, view.name) == (Access.LABELS, "suspect")
    # A view's `module` refuses to be read, which must not hide that it is a model.
    assert open_model(view) is view
    with pytest.raises(AccessDenied):
        open_model(view, access="scores")
    assert restrict(view, "labels") is view


def test_a_view_answers_incomplete_rows_as_the_model_does():
    whole = Incomplete().wear(open_model(build("mlp-4", (3,), 4)))
    x = torch.tensor([[0.5, torch.nan, 1.0]])
    with Ledger(restrict(whole, "labels"), Access.LABELS) as oracle:
        assert torch.equal(oracle.labels(x), whole.labels(x))


@pytest.mark.parametrize("spec", ["model", "model.h5", "model.txt", "", "folder/", "a b:c"])
def test_unknown_forms_list_the_known_ones(spec):
    with pytest.raises(InvalidInput, match=r"\.safetensors.*\.onnx.*http://.*module:function"):
        open_model(spec)


@pytest.mark.parametrize("spec", [None, 3, [1], torch.zeros(2)])
def test_unknown_objects(spec):
    with pytest.raises(InvalidInput, match=r"\.safetensors.*module:function"):
        open_model(spec)


def test_missing_files_and_unknown_access():
    with pytest.raises(InvalidInput, match=r"no model file absent\.onnx"):
        open_model("absent.onnx")
    with pytest.raises(InvalidInput, match="unknown access"):
        open_model(build("mlp-4", (3,), 2), access="all")
    with pytest.raises(InvalidInput, match="URL"):
        open_model("ftp://host/model.onnx")


def test_every_adapter_is_listed_with_one_line():
    entries = {entry.name: entry.summary for entry in registered("adapter")}
    assert entries.keys() >= {
        "torch", "safetensors", "state-dict", "exported", "onnx", "sklearn", "callable", "http",
    }  # fmt: skip
    assert all(entries.values())


def test_optional_packages_load_late():
    code = (
        "import sys, assay.adapters; "
        "print([m for m in ('onnxruntime', 'skops', 'httpx', 'sklearn', 'pydantic') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_lazy_names_exist():
    for name in assay.adapters.__all__:
        assert getattr(assay.adapters, name) is not None
    with pytest.raises(AttributeError):
        assay.adapters.nothing  # noqa: B018 - reading it is the point
