"""Folders with a manifest: whole or absent, every change noticed, in the words of their kind."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from assay.errors import EvidenceTampered, InvalidInput
from assay.manifest import FolderKind, body_digest, read_folder, tensor_digests, write_folder

BOX = FolderKind(
    name="open box",
    short="box",
    schema=3,
    tensors="box.safetensors",
    maker="maker",
    digest="seal",
    since="it was closed",
    covered="the sealed ones",
    alone=False,
)
TENSORS = {"x": torch.arange(6.0).view(2, 3)[:, ::2], "y": torch.tensor([1, 0])}
BODY = {"schema": 3, "maker": "some-maker", "tensors": tensor_digests(TENSORS)}


def below(folder):
    folder.mkdir()
    (folder / "note").write_text("inside")


@pytest.fixture
def box(tmp_path):
    return write_folder(BOX, tmp_path / "box", BODY, TENSORS, {"part": below})


def rewrite(box, change):
    manifest = json.loads((box / "manifest.json").read_text())
    change(manifest)
    (box / "manifest.json").write_text(json.dumps(manifest))


def test_round_trip_with_digests_of_every_file(box):
    body, tensors = read_folder(BOX, box)
    assert body == BODY
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    manifest = json.loads((box / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["box.safetensors", "part/note"]
    assert manifest["seal"] == body_digest(BODY)
    assert not box.with_name("box.partial").exists()


def test_a_writer_that_fails_leaves_no_folder(tmp_path):
    def full(path):
        raise OSError(28, "No space left on device", str(path))

    with pytest.raises(InvalidInput, match="cannot write the open box"):
        write_folder(BOX, tmp_path / "box", BODY, TENSORS, {"part": full})
    assert not (tmp_path / "box").exists()


def test_refusals_speak_of_the_kind(box, tmp_path):
    with pytest.raises(InvalidInput, match="choose another folder for the open box"):
        write_folder(BOX, box, BODY, TENSORS)
    with pytest.raises(InvalidInput, match=r"is not an open box: it has no manifest\.json"):
        read_folder(BOX, tmp_path)
    with pytest.raises(InvalidInput, match=r"box .* has schema 3; this release reads schema 4"):
        read_folder(dataclasses.replace(BOX, schema=4), box)
    with pytest.raises(EvidenceTampered, match="names no owner"):
        read_folder(dataclasses.replace(BOX, maker="owner"), box)
    with pytest.raises(EvidenceTampered, match=r"must list exactly box\.safetensors"):
        read_folder(dataclasses.replace(BOX, alone=True), box)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.update(more=1), "does not match its seal; it was changed after it was closed"),
        (lambda m: m.pop("seal"), "does not match its seal"),
        (lambda m: m.pop("files"), r"does not list box\.safetensors"),
        (lambda m: m["files"].pop("box.safetensors"), r"does not list box\.safetensors"),
        (lambda m: m["files"].update({"part/note": "0"}), "part/note in .* does not match its digest"),
        (lambda m: m["files"].update({"gone": "0"}), "box .* lacks gone"),
        (lambda m: m["files"].update({"../outside": "0"}), "lists a file outside its folder"),
    ],
)
def test_changed_manifests(box, change, sentence):
    rewrite(box, change)
    with pytest.raises(EvidenceTampered, match=sentence):
        read_folder(BOX, box)


def test_changed_files_are_noticed(box):
    (box / "part" / "note").write_text("other")
    with pytest.raises(EvidenceTampered, match=r"part/note in .* changed after it was closed"):
        read_folder(BOX, box)


def test_other_tensors_under_the_same_seal(box, tmp_path):
    other = write_folder(BOX, tmp_path / "other", BODY, {"x": TENSORS["x"] + 1, "y": TENSORS["y"]})
    with pytest.raises(EvidenceTampered, match="do not match the sealed ones"):
        read_folder(BOX, other)
