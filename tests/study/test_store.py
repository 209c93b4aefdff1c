import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from trivial_steps import numbers_and_sums

from assay.errors import InvalidInput
from assay.study.execute import Task, execute
from assay.study.step import Step
from assay.study.store import CorruptArtifact, Manifest, Store

KEY = "ab" + "0" * 62


def manifest(key=KEY, **facts):
    return Manifest(key, "trivial-number", 1, {"value": 1}, {}, 0, "a number", "", {}, facts)


def filled(tmp_path, text="content"):
    folder = tmp_path / "out"
    (folder / "below").mkdir(parents=True)
    (folder / "one.txt").write_text(text)
    (folder / "below" / "two.txt").write_text(text * 2)
    return folder


@pytest.fixture(params=["folder", "memory"])
def any_store(request, tmp_path):
    url = str(tmp_path / "artifacts") if request.param == "folder" else f"memory://{tmp_path.name}"
    return Store(url, cache=tmp_path / "cache")


def test_what_is_committed_is_found_again(any_store, tmp_path):
    assert any_store.find(KEY) is None
    assert list(any_store.keys()) == []
    made = any_store.commit(manifest(sum=3), filled(tmp_path))
    assert not (tmp_path / "out").exists()
    again = Store(any_store.url, cache=tmp_path / "other")
    assert again.find(KEY) == made
    assert again.find(KEY).facts == {"sum": 3}
    assert list(again.keys()) == [KEY]
    folder, opened = again.open(KEY)
    assert opened == made
    assert (folder / "one.txt").read_text() == "content"
    assert (folder / "below" / "two.txt").read_text() == "contentcontent"
    assert again.open(KEY)[0] == folder


def test_a_second_commit_replaces_the_first(any_store, tmp_path):
    first = any_store.commit(manifest(), filled(tmp_path, "first"))
    any_store.open(KEY)
    second = any_store.commit(manifest(), filled(tmp_path, "second"))
    assert first.attempt != second.attempt
    folder, found = any_store.open(KEY)
    assert found == second
    assert (folder / "one.txt").read_text() == "second"


def test_discarded_artifacts_are_gone(any_store, tmp_path):
    any_store.commit(manifest(), filled(tmp_path))
    any_store.open(KEY)
    any_store.discard(KEY)
    any_store.discard(KEY)
    assert any_store.find(KEY) is None
    with pytest.raises(CorruptArtifact, match="is gone"):
        any_store.open(KEY)


def test_a_removed_copy_of_a_remote_file_is_fetched_again(tmp_path):
    store = Store(f"memory://{tmp_path.name}", cache=tmp_path / "cache")
    store.commit(manifest(), filled(tmp_path))
    folder, _ = store.open(KEY)
    (folder / "one.txt").unlink()
    (folder / "below" / "two.txt").unlink()
    (folder / "below").rmdir()
    folder.rmdir()
    assert (store.open(KEY)[0] / "one.txt").read_text() == "content"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ("3", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"seal": "x"}', "cannot be read"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_nonsense_for_a_manifest(store, tmp_path, text, reason):
    store.commit(manifest(), filled(tmp_path))
    path = Path(store._place(KEY)) / "manifest.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CorruptArtifact, match=reason):
        store.find(KEY)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_manifest(store, tmp_path, part):
    store.commit(manifest(), filled(tmp_path))
    path = Path(store._place(KEY)) / "manifest.json"
    text = path.read_text()
    path.write_text(text[: int(len(text) * part)])
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        store.find(KEY)


@pytest.mark.parametrize("field", ["facts", "config", "seed", "seconds", "files"])
def test_a_manifest_that_was_changed(store, tmp_path, field):
    store.commit(manifest(accuracy=0.5), filled(tmp_path))
    path = Path(store._place(KEY)) / "manifest.json"
    data = json.loads(path.read_text())
    data[field] = {"seed": 9, "seconds": 9.0, "files": {}}.get(field, {"accuracy": 0.9})
    path.write_text(json.dumps(data))
    with pytest.raises(CorruptArtifact, match="was changed"):
        store.find(KEY)


def test_a_manifest_of_another_key_is_refused(store, tmp_path):
    store.commit(manifest(), filled(tmp_path))
    other = Path(store._place("ac" + KEY[2:]))
    other.parent.mkdir(parents=True)
    Path(store._place(KEY)).rename(other)
    with pytest.raises(CorruptArtifact, match="was changed"):
        store.find("ac" + KEY[2:])


def test_a_missing_or_shortened_file_is_seen_without_reading(store, tmp_path):
    made = store.commit(manifest(), filled(tmp_path))
    path = Path(store._place(KEY)) / made.attempt / "one.txt"
    path.write_text("conten")
    with pytest.raises(CorruptArtifact, match=r"one.txt has 6 bytes instead of 7"):
        store.find(KEY)
    path.unlink()
    with pytest.raises(CorruptArtifact, match=r"one.txt has None bytes instead of 7"):
        store.find(KEY)


def test_changed_content_is_seen_when_it_is_opened(store, tmp_path):
    made = store.commit(manifest(), filled(tmp_path))
    path = Path(store._place(KEY)) / made.attempt / "one.txt"
    path.write_text("CONTENT")
    assert store.find(KEY) == made
    with pytest.raises(CorruptArtifact, match=r"one.txt does not match its digest"):
        store.open(KEY)


def test_an_unfinished_attempt_is_no_artifact(store):
    attempt = Path(store._place(KEY)) / "attempt"
    attempt.mkdir(parents=True)
    (attempt / "one.txt").write_text("half")
    assert store.find(KEY) is None


def test_another_file_system_for_unfinished_files(store, tmp_path, monkeypatch):
    def elsewhere(self, target):
        if self.name == "out":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return renamed(self, target)

    renamed = Path.rename
    monkeypatch.setattr(Path, "rename", elsewhere)
    store.commit(manifest(), filled(tmp_path))
    assert not (tmp_path / "out").exists()
    folder, _ = store.open(KEY)
    assert (folder / "below" / "two.txt").read_text() == "contentcontent"


@pytest.mark.parametrize("call", ["write_text", "rename", "mkdir"])
def test_a_full_disk_while_an_artifact_is_kept(store, tmp_path, monkeypatch, call):
    step = Step("trivial-number", {"value": 4})
    real, task = getattr(Path, call), Task(step, store.url, str(tmp_path / "work"))

    def full(self, *args, **options):
        if "objects" in str(self) or (args and "objects" in str(args[0])):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, full)
        outcome = execute(task)
    assert outcome.status == "full"
    assert store.url in outcome.error
    assert store.find(step.key) is None
    assert list((tmp_path / "work").glob("*.out")) == []
    assert execute(task).status == "done"
    assert store.find(step.key).facts == {"value": 40}


def test_collect_keeps_what_is_named_and_whole(any_store, tmp_path):
    other, third = "cd" + KEY[2:], "ef" + KEY[2:]
    old = any_store.commit(manifest(), filled(tmp_path))
    new = any_store.commit(manifest(), filled(tmp_path))
    any_store.commit(manifest(other), filled(tmp_path))
    any_store._fs.makedirs(f"{any_store._place(third)}/half")
    any_store._fs.pipe_file(f"{any_store._place(third)}/half/one.txt", b"half")
    would = any_store.collect({KEY}, dry_run=True)
    assert any_store.find(other) is not None
    removed = any_store.collect({KEY})
    assert removed == would
    assert sorted(key for key, _ in removed) == [KEY, other, third]
    assert dict(removed)[KEY] == 21  # the replaced attempt
    assert any_store.find(KEY) == new != old
    any_store.open(KEY)
    assert list(any_store.keys()) == [KEY]
    assert any_store.collect({KEY}) == []


def test_collect_leaves_damaged_artifacts_to_the_next_run(store, tmp_path):
    store.commit(manifest(), filled(tmp_path))
    (Path(store._place(KEY)) / "manifest.json").write_text("{")
    assert store.collect({KEY}) == []
    assert list(store.keys()) == [KEY]


def test_relative_folders_are_one_place_wherever_the_process_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store("artifacts").url == str(tmp_path / "artifacts")


def test_unknown_file_systems_are_bad_input():
    with pytest.raises(InvalidInput, match="cannot use nonsense://x as an artifact store"):
        Store("nonsense://x")


def test_facts_must_be_json(store, tmp_path):
    with pytest.raises(InvalidInput, match="plain JSON"):
        store.commit(replace(manifest(), facts={"value": {1, 2}}), filled(tmp_path))
    assert store.find(KEY) is None


def test_errors_survive_the_way_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(CorruptArtifact(KEY, "its manifest is not text")))
    assert (error.key, error.reason) == (KEY, "its manifest is not text")
    assert str(error) == "the artifact ab0000000000 is damaged: its manifest is not text"


def test_steps_read_and_write_any_file_system(tmp_path):
    store = Store(f"memory://{tmp_path.name}-steps")
    steps = numbers_and_sums(3)
    for step in steps:
        outcome = execute(Task(step, store.url, str(tmp_path / "work")))
        assert outcome.status == "done", outcome.log
    assert store.find(steps[-1].key).facts == {"value": 0 + 11 + 11 + 22, "terms": 2}
    assert (tmp_path / "work" / "inputs").is_dir()  # copies of inputs, shared by workers
