from __future__ import annotations

import pytest

from assay.cli.inputs import settings
from assay.errors import InvalidInput
from assay.evidence import load_evidence
from assay.removal import RemovalRecord


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b" two lines\n\n", " two lines\n"),  # nothing is trimmed but the end of the last line
        ("schlüssel".encode(), "schlüssel"),
        (b"@plain", "@plain"),  # a file is not followed further
    ],
)
def test_a_value_is_read_from_a_file(tmp_path, content, value):
    (tmp_path / "key").write_bytes(content)
    assert settings([f"key=@{tmp_path / 'key'}", "rate=0.1"]) == {"key": value, "rate": "0.1"}


def test_two_signs_are_one_and_signs_inside_are_nothing():
    assert settings(["a=@@x", "b=@@@x", "c=mnist@train", "d=@@"]) == {
        "a": "@x",
        "b": "@@x",
        "c": "mnist@train",
        "d": "@",
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "empty"), (b"\n", "empty"), (b"\xff\xfe1234", "UTF-8"), (b"x" * (2**20 + 1), "megabyte")],
)
def test_files_that_hold_no_value_are_refused_and_not_quoted(tmp_path, content, sentence):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InvalidInput, match=sentence) as caught:
        settings([f"key=@{tmp_path / 'key'}"])
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "", "a\0b", "~nobody-of-that-name/key", "."])
def test_what_cannot_be_read_is_one_sentence(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"key is to be read from .* cannot be read"):
        settings([f"key=@{name}"])


def test_the_verbs_read_files(assay, world, tmp_path):
    (tmp_path / "share.txt").write_text("0.25\n")
    command = ["remove", "--model", world / "victim.safetensors", "--attack", "magnitude-pruning", "--json"]
    done = assay(*command, "--set", "share=@share.txt")
    assert (done.code, RemovalRecord.from_dict(done.json).parameters["share"]) == (0, 0.25)
    refused = assay(*command, "--set", "share=@shore.txt")
    assert (refused.code, refused.out) == (2, "")
    assert len(refused.err.strip().splitlines()) == 1
    assert "shore.txt" in refused.err


def test_a_key_need_not_be_typed(assay, world, tmp_path):
    (tmp_path / "dawn.key").write_text("ab" * 16 + "\n")
    command = [
        *("register", "--scheme", "dawn", "--victim", world / "victim.safetensors"),
        *("--private", "digits@train:200", "--control", "digits@test:50", "--set", "rate=0.1", "--json"),
    ]
    done = assay(*command, "--set", "key=@dawn.key", "--out", "made")
    assert done.code == 0, done.err
    found = load_evidence(tmp_path / "made")
    assert found.scheme.key == "ab" * 16
