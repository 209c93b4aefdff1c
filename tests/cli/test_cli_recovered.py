"""Recovered inputs from the attack to the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command import run
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from skops.io import dump

from assay.data import Dataset, load_data
from assay.extraction import ExtractionRecord
from assay.extraction.exact.linear_models import as_softmax

VICTIM = """
import numpy as np
from assay.data import load_data

ROWS = load_data("digits", limit=5).x.flatten(1).double().numpy()
WEIGHTS = np.random.default_rng(0).normal(size=(5, 10))

def scores(x):
    x = x.reshape(len(x), -1).astype(np.float64)
    z = np.exp(-0.05 * ((x[:, None] - ROWS) ** 2).sum(-1)) @ WEIGHTS
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
"""
LEAK = (
    *("extract", "--attack", "kernel-leakage", "--victim", "kernel_service:scores", "--uniform", "50"),
    *("--input-shape", "1,8,8", "--set", "gamma=0.05", "--set", "representers=5", "--set", "starts=0"),
)


def tiles(page):
    return re.findall(r'<img alt="([^"]*)" width="\d+" src="data:image/png;base64,', page)


@pytest.fixture(scope="module")
def theft(tmp_path_factory):
    """Five leaked digits, found among 60 rows of which five are the victim's."""
    folder = tmp_path_factory.mktemp("recovered")
    (folder / "kernel_service.py").write_text(VICTIM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        private, others = load_data("digits", limit=5), load_data("digits", limit=55, rng=1)
        private.concat(others).save("rows.npz")
        done = run(*LEAK, "--evaluation", "rows.npz", "--out", "theft")
    assert (done.code, done.err) == (0, "")
    assert "recovered inputs" in done.out
    return folder / "theft"


def test_the_page_shows_what_leaked_beside_the_nearest_true_rows(assay, theft):
    kept = load_file(theft / "inputs.safetensors")
    private = load_data("digits", limit=5).x.flatten(1).numpy()
    apart = np.linalg.norm(kept["found"][:, None] - private, axis=2)
    assert sorted(apart.argmin(1)) == [0, 1, 2, 3, 4]
    assert apart.min(1).max() < 1e-4
    assert np.array_equal(kept["nearest"], private[apart.argmin(1)])
    assert max(ExtractionRecord.load(theft / "extraction.json").exact.exposure.distances) < 1e-4
    assert assay("report", theft, "--out", "r.html").code == 0
    page = Path("r.html").read_text()
    labels = tiles(page)
    assert labels[::2] == ["1", "2", "3", "4", "5"]
    assert all(re.fullmatch(r"d = \de-\d\d|d = \d\.\de-\d\d", label) for label in labels[1::2])
    assert "n = 5 recovered inputs." in page
    assert "rows of the training set, computed from answers alone" in page
    assert "the nearest of 60 rows of rows" in page
    assert assay("report", theft, "--out", "all").code == 0
    drawn = re.findall(r"\]\((pictures/recovered-[\d-]+\.png)\)", Path("all/report.md").read_text())
    assert len(drawn) == len(set(drawn)) == 10
    assert all((Path("all") / file).read_bytes()[1:4] == b"PNG" for file in drawn)


def copy_of(theft, folder):
    folder.mkdir()
    for name in ("extraction.json", "inputs.safetensors"):
        (folder / name).write_bytes((theft / name).read_bytes())
    return folder


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: a | {"found": a["found"] + np.float32(1e-3)}, "digests differ"),
        (lambda a: {"found": a["found"]}, "must hold found and nearest"),
        (lambda a: a | {"found": a["found"][:2]}, "must be finite float32"),
        (lambda a: a | {"found": a["found"] * np.float32("nan")}, "must be finite float32"),
        (lambda a: a | {"found": a["found"].astype(np.float64)}, "must be finite float32"),
        (None, "holds no recovered inputs"),
    ],
)
def test_a_tampered_file_is_refused(assay, theft, tmp_path, change, sentence):
    folder = copy_of(theft, tmp_path / "changed")
    file = folder / "inputs.safetensors"
    if change is None:
        file.write_bytes(b"\x80\x04nonsense")
    else:
        save_file({k: np.ascontiguousarray(v) for k, v in change(load_file(file)).items()}, file)
    done = assay("report", folder, "--out", "r.html")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert sentence in done.err
    assert not Path("r.html").exists()


@pytest.mark.parametrize(
    "change",
    [{"shape": []}, {"shape": [0, 8]}, {"shape": [1, 8, 2**40]}, {"labels": ["a"] * 49}, {"high": "inf"}],
    ids=str,
)
def test_a_record_that_cannot_be_true_is_refused(assay, theft, tmp_path, change):
    folder = copy_of(theft, tmp_path / "changed")
    record = json.loads((folder / "extraction.json").read_text())
    record["exact"]["exposure"] |= change
    (folder / "extraction.json").write_text(json.dumps(record))
    done = assay("report", folder, "--out", "r.html")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "refused" in done.err


def test_names_of_classes_cannot_write_into_the_page(assay, theft, tmp_path):
    folder = copy_of(theft, tmp_path / "changed")
    record = json.loads((folder / "extraction.json").read_text())
    record["exact"]["exposure"] |= {"labels": ["<b>x"] * 5, "title": "<script>", "caption": "<i>"}
    (folder / "extraction.json").write_text(json.dumps(record))
    assert assay("report", folder, "--out", "r.html").code == 0
    page = Path("r.html").read_text()
    assert not any(word in page for word in ("<b>x", "<script>", "<i>"))
    assert "&lt;b&gt;x" in page


def test_a_record_without_its_inputs_says_so_and_one_that_never_had_any_is_silent(assay, theft, tmp_path):
    folder = copy_of(theft, tmp_path / "alone")
    (folder / "inputs.safetensors").unlink()
    assert assay("report", folder, "--out", "r.html").code == 0
    assert "not shown: the file of inputs is not beside the record" in Path("r.html").read_text()
    record = json.loads((folder / "extraction.json").read_text())
    del record["exact"]["exposure"]  # as versions before this wrote it
    (folder / "extraction.json").write_text(json.dumps(record))
    assert assay("report", folder, "--out", "old.html").code == 0
    assert "Recovered inputs" not in Path("old.html").read_text()
    assert "kernel-leakage" in Path("old.html").read_text()


def test_inverted_classes_of_flat_digits_are_drawn(assay):
    data = load_data("digits")
    x, y = data.x.flatten(1).numpy()[:600], data.y.numpy()[:600]
    dump(LogisticRegression(max_iter=500).fit(x, y), "clf.skops")
    words = ("extract", "--attack", "inversion", "--set", "steps=20", "--domain", "0,1", "--uniform", "0")
    assert assay(*words, "--victim", "clf.skops", "--out", "bare", "-q").code == 0
    assert assay("report", "bare", "--out", "bare.html").code == 0
    page = Path("bare.html").read_text()
    assert tiles(page) == [f"class {k}" for k in range(10)]
    assert "No true rows were at hand" in page
    Dataset.from_arrays(x[:100], y[:100], [f"digit {k}" for k in range(10)]).save("rows.npz")
    done = assay(*words, "--victim", "clf.skops", "--evaluation", "rows.npz", "--out", "theft", "-q")
    assert (done.code, done.err) == (0, "")
    kept = load_file("theft/inputs.safetensors")
    for k in range(10):
        assert (x[:100][y[:100] == k] == kept["nearest"][k]).all(1).any()
    assert assay("report", "theft", "--out", "r.html").code == 0
    assert tiles(Path("r.html").read_text())[::2] == [f"digit {k}" for k in range(10)]


def test_rows_of_a_table_become_a_table(assay):
    dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), "clf.skops")
    words = ("extract", "--attack", "inversion", "--victim", "clf.skops", "--set", "steps=50")
    assert assay(*words, "--domain", "0,8", "--evaluation", "iris", "--out", "theft", "-q").code == 0
    for name in ("r.html", "r.md"):
        assert assay("report", "theft", "--out", name).code == 0
        text = Path(name).read_text()
        assert not tiles(text)
        assert "x3" in text
        assert "versicolor" in text
        assert text.count("nearest, d") == 3


def test_other_attacks_leave_no_inputs(assay):
    w = np.random.default_rng(0).normal(0, 1, (3, 5))
    dump(as_softmax(w[:, :-1], w[:, -1]), "clf.skops")
    words = ("extract", "--attack", "equation-solving", "--victim", "clf.skops")
    assert assay(*words, "--out", "t", "-q").code == 0
    assert not Path("t/inputs.safetensors").exists()
    assert assay("report", "t", "--out", "r.html").code == 0
    assert "Recovered inputs" not in Path("r.html").read_text()
