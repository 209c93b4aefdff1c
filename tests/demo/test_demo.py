"""The demo on a small scale: thefts are found, innocent models are left alone, files can be used again."""

import io

import pytest
import torch
from rich.console import Console

from assay.adapters import open_model
from assay.data import Split
from assay.demo import Plan, run
from assay.demo.material import gather
from assay.demo.table import table
from assay.errors import InvalidInput
from assay.evidence import load_evidence
from assay.observers import Recorder
from assay.report import load_entries
from assay.result import Verdict

SMALL = Plan(queries=400, references=8, independents=3, walk_rows=200, descent_rows=30, epochs=25)
KINDS = ["labels", "scores", "blind-walk", "mingd", "trigger-set"]
THEFTS = {"source-copy", "distillation", "data-theft", "fine-tuning", "label-query", "logit-query"}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    log = Recorder()
    result = run(tmp_path_factory.mktemp("demo") / "out", seed=1, plan=SMALL, observers=[log])
    return result, log


def verdicts(result, truth):
    return [
        (e.suspect, e.evidence, e.record)
        for e in result.entries
        if e.truth == truth and isinstance(e.record, Verdict)
    ]


def test_the_copied_file_is_found(played):
    result, _ = played
    for kind in ("scores", "blind-walk", "trigger-set"):
        assert result.verdict("source-copy", kind).stolen
    assert {name for name, *_ in verdicts(result, "stolen")} == THEFTS


def test_innocent_models_are_left_alone(played):
    result, _ = played
    p = [v.p_value for *_, v in verdicts(result, "independent")]
    assert len(p) == 15
    assert min(p) > 1e-3
    assert max(p) > 0.3
    for kind in KINDS:
        calibration = result.verdict("source-copy", kind).calibration
        assert calibration is not None
        assert calibration.models == 3


def test_what_was_written_can_be_used_again(played):
    result, _ = played
    copy = open_model(result.folder / "suspects" / "source-copy" / "surrogate.safetensors")
    for kind in KINDS:
        evidence = load_evidence(result.folder / "owner" / "evidence" / kind)
        old = result.verdict("source-copy", kind)
        assert evidence.commitment == old.commitment
        again = evidence.verify(copy, alpha=SMALL.alpha, rng=1)
        assert (again.p_value, again.queries) == (old.p_value, old.queries)
    Split.load(result.folder / "owner" / "split")
    assert all(entry in result.entries for entry in load_entries([result.folder / "suspects"]))
    assert "source-copy" in result.report.read_text(encoding="utf-8")
    for name in ("report.md", "rows.csv", "rows.json", "owner/references.npz", "owner/victim.safetensors"):
        assert (result.folder / name).is_file()


def test_progress_is_told_to_the_end(played):
    _, log = played
    for task, total in (("thefts", 6), ("innocent models", 3), ("verdicts", 45), ("references", 8)):
        assert ("start", task, total) in log.events
        assert [e[2] for e in log.events if e[:2] == ("step", task)][-1] == total


def test_the_table_names_everybody(played):
    result, _ = played
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(result))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for words in (*THEFTS, *KINDS, "innocents accused", "mlp-128, other rows"):
        assert words in text


def test_nobody_shares_rows_who_should_not():
    material = gather(Plan(), 3)
    sets = [material.split.private, material.split.control, material.others, material.evaluation]
    keys = [{row.numpy().tobytes() for row in part.x} for part in sets]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 1797
    assert len(material.queries) == Plan().queries
    assert len(set(material.seeds.values())) == len(material.seeds)
    assert torch.equal(gather(Plan(), 3).split.coin, material.split.coin)
    assert not torch.equal(gather(Plan(), 4).split.coin, material.split.coin)


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "mine").write_text("", encoding="utf-8")
    with pytest.raises(InvalidInput, match="not empty"):
        run(tmp_path)


def test_an_unknown_verdict_is_refused(played):
    with pytest.raises(InvalidInput, match="no verdict"):
        played[0].verdict("nobody", "mingd")
