from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.cli.output import new_file, new_folder
from assay.errors import InvalidInput

V = "{world}/victim.safetensors"
E = "{world}/evidence"
VERIFY = ["verify", "--evidence", E, "--suspect", V]
EXTRACT = ["extract", "--victim", V, "--pool", "digits@train:20", "--set", "epochs=1"]
REGISTER = ["register", "--victim", V, "--out", "new"]
EMBED = ["embed", "--data", "iris", "--out", "new", "--architecture", "mlp-8", "--epochs", "1"]

BAD = [
    (["frobnicate"], 2, "No such command"),
    (["data"], 2, "Missing command"),
    (["verify", "--evidence", E], 2, "--suspect"),
    ([*VERIFY, "--alhpa", "0.1"], 2, "--alpha"),
    ([*VERIFY, "--alpha", "0.9"], 2, "alpha must be in (0, 0.5]"),
    ([*VERIFY, "--alpha", "nan"], 2, "alpha must be in (0, 0.5]"),
    ([*VERIFY, "--seed", "-1"], 2, "--seed"),
    ([*VERIFY, "--price", "nan"], 2, "--price"),
    ([*VERIFY, "--price", "-1"], 2, "--price"),
    ([*VERIFY, "--device", "abacus"], 2, "abacus"),
    ([*VERIFY, "--access", "all"], 2, "unknown access"),
    ([*VERIFY, "--access", "embeddings"], 3, "needs labels"),
    ([*VERIFY, "--outputs", "logit"], 2, "did you mean 'logits'?"),
    ([*VERIFY, "--timeout", "0"], 2, "--timeout"),
    ([*VERIFY, "--input-shape", "1,a"], 2, "--input-shape"),
    ([*VERIFY, "--input-shape", "3,32,32"], 2, "shape"),
    ([*VERIFY, "--architecture", "mlp-9999"], 2, "does not fit"),
    ([*VERIFY, "--budget", "3", "--out", "new"], 3, "3 queries"),
    ([*VERIFY, "--budget", "3", "--journal", "new.jsonl"], 3, "3 queries"),
    ([*VERIFY, "--budget", "-3"], 2, "budget"),
    ([*VERIFY, "--suspect", V, "--journal", "new.jsonl"], 2, "--journal is for one suspect"),
    ([*VERIFY, "--journal", "text.txt"], 2, "journal"),
    ([*VERIFY, "--out", "full"], 2, "already exists"),
    ([*VERIFY, "--out", "text.txt", "--force"], 2, "is a file"),
    ([*VERIFY, "--out", "text.txt/below"], 2, "text.txt"),
    (["verify", "--evidence", "nowhere", "--suspect", V], 2, "not an evidence bundle"),
    (["verify", "--evidence", "tampered", "--suspect", V], 2, "changed after registration"),
    (["verify", "--evidence", E, "--suspect", "missing.onnx"], 2, "no model file"),
    (["verify", "--evidence", E, "--suspect", "model.pkl"], 2, "pickle"),
    (["verify", "--evidence", E, "--suspect", "evil.pt"], 2, "pickled"),
    (["verify", "--evidence", E, "--suspect", "broken.safetensors"], 2, "safetensors"),
    (["verify", "--evidence", E, "--suspect", "broken.onnx"], 2, "broken.onnx"),
    (["verify", "--evidence", E, "--suspect", "text.txt"], 2, "cannot tell"),
    (["verify", "--evidence", E, "--suspect", "no_such_module_here:f"], 2, "cannot import"),
    (["verify", "--evidence", E, "--suspect", V, "--suspect", "missing.onnx", "--out", "new"], 2, "missing"),
    ([*EXTRACT, "--attack", "knock-off"], 2, "unknown extraction"),
    ([*EXTRACT, "--set", "epochs"], 2, "NAME=VALUE"),
    ([*EXTRACT, "--set", "epochs=2"], 2, "set twice"),
    ([*EXTRACT, "--set", "epcohs=2"], 2, "did you mean 'epochs'?"),
    ([*EXTRACT, "--set", "lr=fast"], 2, "lr"),
    ([*EXTRACT, "--set", "lr=-1"], 2, "lr"),
    ([*EXTRACT, "--curve", "10"], 2, "evaluation"),
    ([*EXTRACT, "--curve", "ten"], 2, "100,500"),
    ([*EXTRACT, "--budget", "0", "--out", "new"], 2, "empty"),
    ([*EXTRACT, "--out", "full"], 2, "already exists"),
    ([*EXTRACT, "--access", "labels", "--attack", "logit-query", "--out", "new"], 3, "needs scores"),
    (["extract", "--victim", V, "--pool", "iris"], 2, "shape"),
    (["extract", "--victim", V, "--pool", "digist"], 2, "did you mean 'digits'?"),
    (["extract", "--victim", V, "--pool", "digits@tets"], 2, "did you mean 'test'?"),
    (["extract", "--victim", V, "--pool", "gone.npz"], 2, "no file"),
    (["extract", "--victim", V, "--pool", "objects.npz"], 2, "objects.npz"),
    (["extract", "--victim", V, "--pool", "nan.npz"], 2, "NaN"),
    (["split", "--data", "iris", "--out", "full"], 2, "choose another place"),
    (["split", "--data", "iris", "--out", "new", "--private-share", "1.5"], 2, "share"),
    (["split", "--data", "two.npz", "--out", "new"], 2, "rows"),
    (REGISTER, 2, "--split"),
    ([*REGISTER, "--private", "iris"], 2, "--control"),
    ([*REGISTER, "--split", "full"], 2, "split.json"),
    ([*REGISTER, "--private", "iris", "--control", "iris"], 2, ""),
    ([*REGISTER, "--split", "{world}/split", "--scheme", "trigger-set"], 2, "assay embed"),
    ([*REGISTER, "--split", "{world}/split", "--scheme", "magic"], 2, "unknown evidence"),
    ([*REGISTER, "--split", "{world}/split", "--set", "keep=1"], 2, "keep"),
    ([*REGISTER, "--split", "{world}/split", "--references", "text.txt"], 2, "text.txt"),
    ([*REGISTER[:-1], "full", "--split", "{world}/split"], 2, "already exists"),
    ([*EMBED, "--scheme", "dataset-inference"], 2, "assay register"),
    ([*EMBED, "--device", "cuda"], 2, "CPU"),
    ([*EMBED, "--recipe", "epocs=3"], 2, "did you mean 'epochs'?"),
    ([*EMBED, "--set", "triggers=1000"], 2, "triggers"),
    ([*EMBED, "--unrelated", "digits"], 2, "leave --unrelated out"),
    ([*EMBED, "--scheme", "badnets"], 2, "is a table"),
    (["train", "--data", "iris", "--out", "model.bin"], 2, ".safetensors"),
    (["train", "--data", "iris", "--out", "broken.safetensors"], 2, "already exists"),
    (["train", "--data", "iris", "--out", "new.safetensors", "--architecture", "wm-16-1"], 2, "wrn"),
    (["train", "--data", "iris", "--out", "new.safetensors", "--epochs", "0"], 2, "epochs"),
    (["plan"], 2, "--effect"),
    (["plan", "--effect", "0"], 2, "effect must be positive"),
    (["plan", "--effect", "1", "--triggers"], 2, "give one of"),
    (["plan", "--effect", "1", "--alpha", "2"], 2, "alpha"),
    (["plan", "--triggers", "--true-rate", "0.1", "--null-rate", "0.2"], 2, "true_rate"),
    (["verify-report", "text.txt", "--evidence", E, "--journal", "text.txt"], 2, "not JSON"),
    (["verify-report", "gone.json", "--evidence", E, "--journal", "text.txt"], 2, "gone.json"),
    (["verify-report", "list.json", "--evidence", E, "--journal", "text.txt"], 2, "Verdict"),
    (["verify-report", "list.json", "--evidence", E], 2, "--journal"),
]


@pytest.fixture
def littered(tmp_path, world):
    """A folder with all that may be mistaken for input."""
    (tmp_path / "text.txt").write_text("not a journal, a verdict or a model\n")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({}))
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Path("x")))
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 40)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("here first")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object), y=np.array([0]))
    np.savez(tmp_path / "nan.npz", x=np.full((4, 1, 8, 8), np.nan, np.float32), y=np.arange(4))
    np.savez(tmp_path / "two.npz", x=np.eye(2, dtype=np.float32), y=np.arange(2))
    (tmp_path / "tampered").mkdir()
    (tmp_path / "tampered/evidence.safetensors").write_bytes(
        (world / "evidence/evidence.safetensors").read_bytes()
    )
    manifest = json.loads((world / "evidence/manifest.json").read_text())
    manifest["facts"]["pool_rows"] += 1
    (tmp_path / "tampered/manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def contents(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(("words", "code", "hint"), BAD, ids=[" ".join(w)[-60:] for w, _, _ in BAD])
def test_bad_input_is_one_sentence_and_leaves_nothing(assay, world, littered, words, code, hint):
    before, world_before = contents(littered), sorted(world.rglob("*"))
    done = assay(*(word.format(world=world) for word in words))
    assert done.code == code, done.err
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert hint in done.err
    assert "Traceback" not in done.err
    assert contents(littered) == before
    assert sorted(world.rglob("*")) == world_before


class OddError(Exception):
    def __str__(self):
        return "the \x1b[31mbug\nitself"


def test_ctrl_c_is_130_and_leaves_nothing(assay, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.nets.train", interrupted)
    done = assay("train", "--data", "iris", "--out", "deep/er/m.safetensors")
    assert (done.code, done.err.count("\n")) == (130, 1)
    assert "interrupted" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_one_sentence_unless_the_traceback_is_wanted(assay, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise OddError

    monkeypatch.setattr("assay.nets.train", broken)
    command = ["train", "--data", "iris", "--out", "m.safetensors"]
    done = assay(*command)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "\x1b" not in done.err
    assert "--debug" in done.err
    done = assay(*command, "--debug")
    assert done.code == 1
    assert "Traceback" in done.err


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    code = "import sys; from assay.cli import main; sys.argv = ['assay', 'list']; main()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == b""


@pytest.mark.slow  # real seconds decide where the signal arrives; on a loaded machine it can get lost
def test_a_signal_from_the_terminal_ends_a_real_process(tmp_path):
    code = (
        "import os, signal, sys, threading; from assay.cli import main; import assay.nets\n"
        # Once more if the first one hits an import, which may swallow it.
        "for wait in (0.5, 20, 40):\n"
        "    timer = threading.Timer(wait, lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "    timer.daemon = True; timer.start()\n"
        "sys.argv = 'assay train --data digits --out m.safetensors --epochs 10000'.split(); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, cwd=tmp_path, check=False
    )
    assert done.returncode in (130, -signal.SIGINT)
    assert b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def fail_halfway(place):
    with place as partial:
        half = partial / "x" if partial.is_dir() else partial
        half.write_text("half")
        raise OddError


def test_files_and_folders_appear_whole_or_not_at_all(tmp_path):
    for place in (new_file(tmp_path / "a/b/file.txt"), new_folder(tmp_path / "a/b/folder")):
        with pytest.raises(OddError):
            fail_halfway(place)
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "a/folder") as partial:
        (partial / "x").write_text("whole")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["folder"]
    with (
        pytest.raises(InvalidInput, match="choose another place"),
        new_folder(tmp_path / "a/folder", force=None),
    ):
        pass
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.partial").mkdir()
    (tmp_path / "empty.partial/stale").write_text("of a run that was killed")
    with new_folder(tmp_path / "empty") as partial:
        (partial / "x").write_text("whole")
    assert (tmp_path / "empty/x").read_text() == "whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "empty"]
    assert not (tmp_path / "empty/stale").exists()


def test_a_hostile_name_cannot_write_to_the_terminal(assay, world):
    done = assay("verify", "--evidence", world / "evidence", "--suspect", "\x1b]0;title\x07[red]gone.onnx")
    assert done.code == 2
    assert "\x1b" not in done.err
