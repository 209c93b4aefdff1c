"""Bundles on disk: whole or absent, every change noticed, nothing pickled."""

from __future__ import annotations

import json

import pytest
import torch

from assay.errors import EvidenceTampered, InvalidInput
from assay.evidence.bundle import commit, read_bundle, tensor_digests, write_bundle

TENSORS = {"x": torch.arange(6.0).view(2, 3), "y": torch.tensor([1, 0])}


def body():
    return {"schema": 1, "scheme": "some-scheme", "facts": {"a": [1, 2]}, "tensors": tensor_digests(TENSORS)}


@pytest.fixture
def bundle(tmp_path):
    write_bundle(tmp_path / "b", body(), TENSORS)
    return tmp_path / "b"


def test_round_trip(bundle):
    again, tensors = read_bundle(bundle)
    assert again == body()
    assert all(torch.equal(tensors[k], v) for k, v in TENSORS.items())
    assert sorted(p.name for p in bundle.iterdir()) == ["evidence.safetensors", "manifest.json"]


def test_commitment_is_of_content_not_of_order():
    assert commit(body()) == commit(dict(reversed(body().items())))
    assert commit(body()) != commit({**body(), "facts": {"a": [1, 3]}})


def test_digests_see_dtype_shape_name_and_bytes():
    x = torch.zeros(4)
    same = tensor_digests({"x": x.clone()})
    assert tensor_digests({"x": x}) == same
    for other in (torch.zeros(2, 2), torch.zeros(4, dtype=torch.int32), torch.tensor([0, 0, 0, 1.0])):
        assert tensor_digests({"x": other}) != same
    assert tensor_digests({"y": x})["y"] != same["x"]
    wide = torch.arange(8.0).view(2, 4)
    assert tensor_digests({"x": wide[:, ::2]}) == tensor_digests({"x": wide[:, ::2].contiguous()})


def test_no_overwriting(bundle):
    with pytest.raises(InvalidInput, match="already exists"):
        write_bundle(bundle, body(), TENSORS)


def test_an_empty_folder_and_a_leftover_are_used(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "b.partial" / "junk").write_text("left by a kill")
    write_bundle(tmp_path / "b", body(), TENSORS)
    assert read_bundle(tmp_path / "b")[0] == body()
    assert not (tmp_path / "b.partial").exists()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match="already exists"):
        write_bundle(tmp_path / "file", body(), TENSORS)
    with pytest.raises(InvalidInput, match="cannot write"):
        write_bundle(tmp_path / "file" / "below", body(), TENSORS)


@pytest.mark.parametrize("place", [0, 9, 60, -1])
def test_changed_tensor_file(bundle, place):
    file = bundle / "evidence.safetensors"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(EvidenceTampered, match="does not match its digest"):
        read_bundle(bundle)


def rewrite(bundle, change, *, recommit=False):
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    if recommit:
        inner = {k: v for k, v in manifest.items() if k not in ("files", "commitment")}
        manifest["commitment"] = commit(inner)
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["facts"].update(a=[1, 3]),
        lambda m: m.update(extra=1),
        lambda m: m.update(commitment="0" * 64),
        lambda m: m.pop("commitment"),
        lambda m: m.pop("facts"),
        lambda m: m.pop("files"),
        lambda m: m.update(files={}),
        lambda m: m.update(files=["evidence.safetensors"]),
        lambda m: m["files"].update(other="0" * 64),
        lambda m: m["files"].update({"evidence.safetensors": "0" * 64}),
        lambda m: m["tensors"].update(x="0" * 64),
        lambda m: m.update(scheme="../elsewhere"),
    ],
)
def test_changed_manifest(bundle, change):
    rewrite(bundle, change)
    with pytest.raises(EvidenceTampered):
        read_bundle(bundle)


def test_a_new_manifest_cannot_bless_new_tensors(bundle, tmp_path):
    other = {"x": TENSORS["x"] + 1, "y": TENSORS["y"]}
    write_bundle(tmp_path / "other", {**body(), "tensors": tensor_digests(other)}, other)
    (bundle / "evidence.safetensors").write_bytes((tmp_path / "other/evidence.safetensors").read_bytes())
    files = json.loads((tmp_path / "other/manifest.json").read_text())["files"]
    rewrite(bundle, lambda m: m.update(files=files))
    with pytest.raises(EvidenceTampered, match="committed ones"):
        read_bundle(bundle)


def test_a_consistent_forgery_has_another_commitment(bundle):
    before = commit(read_bundle(bundle)[0])
    rewrite(bundle, lambda m: m["facts"].update(a=[9]), recommit=True)
    assert commit(read_bundle(bundle)[0]) != before


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_other_schema_versions(bundle, schema):
    rewrite(bundle, lambda m: m.update(schema=schema), recommit=True)
    with pytest.raises(InvalidInput, match="reads schema 1"):
        read_bundle(bundle)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"scheme": "../x"}', "\udcff"])
def test_no_json_object(bundle, text):
    (bundle / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(EvidenceTampered):
        read_bundle(bundle)


def test_missing_files(bundle, tmp_path):
    (bundle / "evidence.safetensors").unlink()
    with pytest.raises(EvidenceTampered, match="lacks"):
        read_bundle(bundle)
    with pytest.raises(InvalidInput, match="no manifest"):
        read_bundle(tmp_path)


def test_a_pickle_in_place_of_the_tensors(bundle):
    import hashlib
    import pickle

    blob = pickle.dumps({"x": 1})
    (bundle / "evidence.safetensors").write_bytes(blob)
    digest = hashlib.sha256(blob).hexdigest()
    rewrite(bundle, lambda m: m["files"].update({"evidence.safetensors": digest}))
    with pytest.raises(EvidenceTampered, match="not a safetensors file"):
        read_bundle(bundle)


def test_an_enormous_manifest_is_not_read(bundle, monkeypatch):
    monkeypatch.setattr("assay.manifest._LARGEST_MANIFEST", 10)
    with pytest.raises(InvalidInput, match="larger than any manifest"):
        read_bundle(bundle)
