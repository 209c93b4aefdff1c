from pathlib import Path

import pytest
import trivial_steps
from trivial_steps import PLUGINS, calls, found, numbers_and_sums

from assay.errors import InvalidInput
from assay.observers import Observer
from assay.study.engine import StoreFull, run_steps
from assay.study.executors import SerialExecutor
from assay.study.step import Step
from assay.study.store import Store


def run(steps, store, **options):
    with SerialExecutor() as executor:
        return run_steps(steps, store, executor, **options)


def files_of(store, step):
    folder = Path(store._place(step.key))
    return folder / "manifest.json", folder / store.find(step.key).attempt / "number.txt"


def test_everything_is_computed_once_and_found_again(store):
    steps = numbers_and_sums()
    first = run(steps, store)
    assert first.complete
    assert sorted(first.done) == sorted(s.key for s in steps)
    assert store.find(steps[-1].key).facts == {"value": 275, "terms": 5}
    again = run(steps, store)
    assert again.done == []
    assert sorted(again.cached) == sorted(first.done)
    assert sorted(calls(store.url)[0]) == sorted(first.done)


def test_order_of_the_plan_is_irrelevant(store, tmp_path):
    steps = numbers_and_sums()
    other = Store(tmp_path / "other" / "artifacts")
    run(steps, store)
    run(steps[::-1], other)
    assert found(store, steps) == found(other, steps)


def test_two_steps_of_one_key_are_one(store):
    a = Step("trivial-number", {"value": 3}, label="one name")
    b = Step("trivial-number", {"value": 3}, label="another name")
    assert run([a, b], store).done == [a.key]


def test_a_changed_value_recomputes_only_what_depends_on_it(store):
    before, after = numbers_and_sums(), numbers_and_sums(changed=5)
    run(before, store)
    second = run(after, store)
    assert [next(s for s in after if s.key == key).label for key in second.done] == [
        "number 5",
        "pair number 4 number 5",
        "all",
    ]
    assert len(second.cached) == len(after) - 3


def test_a_new_version_recomputes_its_steps_and_their_dependants(store, monkeypatch):
    run(numbers_and_sums(), store)
    monkeypatch.setattr(trivial_steps.total, "version", 2)
    second = run(numbers_and_sums(), store)
    assert (len(second.done), len(second.cached)) == (6, 6)


@pytest.mark.parametrize("how", ["truncated manifest", "nonsense manifest", "missing file", "short file"])
def test_visible_damage_is_repaired_with_a_warning(store, how):
    steps = numbers_and_sums()
    run(steps, store)
    whole = found(store, steps)
    manifest, file = files_of(store, steps[1])
    if how == "truncated manifest":
        manifest.write_text(manifest.read_text()[:100])
    elif how == "nonsense manifest":
        manifest.write_text("[]")
    elif how == "missing file":
        file.unlink()
    else:
        file.write_text("1")
    second = run(steps, Store(store.url))
    assert second.done == [steps[1].key]
    (warning,) = second.warnings
    assert steps[1].key[:12] in warning
    assert "it is computed anew" in warning
    assert found(store, steps) == whole


def test_damage_found_by_a_child_is_repaired_and_never_used(store):
    steps = numbers_and_sums()
    run(steps, store)
    whole = found(store, steps)
    files_of(store, steps[1])[1].write_text("99")  # as long as the truth
    for step in steps[6:]:
        store.discard(step.key)
    second = run(steps, Store(store.url))
    assert second.complete
    assert sorted(second.done) == sorted([steps[1].key, *(s.key for s in steps[6:])])
    assert any("does not match its digest; it is repeated" in w for w in second.warnings)
    assert found(store, steps) == whole


def test_any_number_of_damaged_inputs_of_one_step(store):
    steps = numbers_and_sums(8)
    run(steps, store)
    whole = found(store, steps)
    for step in steps[8:-1]:
        path = files_of(store, step)[1]
        path.write_text("8" * len(path.read_text()))
    store.discard(steps[-1].key)
    second = run(steps, Store(store.url))
    assert second.complete
    assert len(second.warnings) == 7
    assert found(store, steps) == whole


def test_damage_that_comes_back_ends_in_a_failure(store, monkeypatch):
    number, *_, last = steps = numbers_and_sums(2)

    commit = Store.commit

    def damaging(self, manifest, folder):
        made = commit(self, manifest, folder)
        if manifest.key == number.key:
            (Path(self._place(made.key)) / made.attempt / "number.txt").write_text("9")
        return made

    monkeypatch.setattr(Store, "commit", damaging)
    outcome = run(steps, store)
    assert list(outcome.failed) == [steps[2].key]
    assert outcome.failed[steps[2].key].status == "corrupt"
    assert outcome.skipped == [last.key]
    assert store.find(last.key) is None


def test_a_failure_keeps_its_log_and_takes_only_its_dependants(store):
    good = numbers_and_sums()
    bad = Step("trivial-failure", {"how": "a reason"}, label="bad")
    child = Step("trivial-sum", {}, {"terms": (good[0].key, bad.key)}, label="child")
    grandchild = Step("trivial-sum", {}, {"terms": (child.key, good[1].key)}, label="grandchild")
    told = []
    outcome = run(
        [bad, child, grandchild, *good], store, report=lambda what, step, _: told.append((what, step.label))
    )
    assert not outcome.complete
    assert len(outcome.done) == len(good)
    assert outcome.skipped == [child.key, grandchild.key]
    failed = outcome.failed[bad.key]
    assert (failed.status, failed.error) == ("failed", "ValueError: a reason")
    assert "before it fails" in failed.log
    assert "Traceback" in failed.log
    assert [t for t in told if t[0] in ("failed", "skipped")] == [
        ("failed", "bad"),
        ("skipped", "child"),
        ("skipped", "grandchild"),
    ]
    assert store.find(bad.key) is None
    repeated = run([bad, child, grandchild, *good], store)  # tried again, the rest is there
    assert (list(repeated.failed), repeated.done) == ([bad.key], [])


def test_a_step_that_exits_does_not_end_the_study(store):
    steps = [Step("trivial-failure", {"how": "exit"}), *numbers_and_sums(2)]
    outcome = run(steps, store)
    assert outcome.failed[steps[0].key].error == "SystemExit: 3"
    assert len(outcome.done) == 4


@pytest.mark.parametrize("how", ["full", "hidden-full"])
def test_a_full_disk_stops_the_run_and_loses_nothing(store, how):
    steps = numbers_and_sums()
    full = Step("trivial-failure", {"how": how}, {"after": steps[-1].key})
    with pytest.raises(StoreFull, match=r"No space left on device.*run again: nothing is lost"):
        run([*steps, full], store)
    assert StoreFull.exit_code == 3
    again = run(steps, store)
    assert (again.done, len(again.cached)) == ([], len(steps))


def test_an_unknown_input_is_refused_before_anything_runs(store):
    *_, last = numbers_and_sums()
    with pytest.raises(InvalidInput, match="the step all needs"):
        run([Step("trivial-number", {"value": 1}), last], store)
    assert calls(store.url)[0] == []


def test_a_plug_in_that_cannot_be_imported_is_a_failure_with_its_name(store, tmp_path):
    broken = tmp_path / "broken_plug_in.py"
    broken.write_text("raise RuntimeError('at import')")
    step = Step("trivial-number", {"value": 1})
    outcome = run([step], store, plugins=(str(broken),))
    assert "broken_plug_in.py: RuntimeError: at import" in outcome.failed[step.key].error


def test_observers_see_how_far_it_is(store):
    class Watcher(Observer):
        def __init__(self):
            self.seen = []

        def on_start(self, task, total=None):
            self.seen.append((task, total))

        def on_step(self, task, done, metrics=None):
            self.seen.append((done, metrics["core_seconds_left"]))

        def on_end(self, task, metrics=None):
            self.seen.append((task, metrics))

    watcher, steps = Watcher(), numbers_and_sums(3)
    run(steps, store, observers=[watcher], plugins=PLUGINS)
    assert watcher.seen == [
        ("study", 6),
        *[(done, 6.0 - done) for done in range(7)],
        ("study", {"done": 6, "failed": 0, "skipped": 0}),
    ]


def test_checkpoints_of_unfinished_steps_stay_and_others_go(store, tmp_path):
    work = tmp_path / "work"
    steps = numbers_and_sums(2)
    (work / steps[0].key).mkdir(parents=True)
    (work / steps[0].key / "checkpoint").write_text("x")
    run([*steps, Step("trivial-failure")], store, work=str(work))
    assert [p.name for p in work.iterdir()] == [Step("trivial-failure").key]


def test_a_store_in_memory(tmp_path):
    store, steps = Store(f"memory://{tmp_path.name}-engine"), numbers_and_sums()
    before = len(trivial_steps.MEMORY_CALLS)
    assert run(steps, store).complete
    assert store.find(steps[-1].key).facts == {"value": 275, "terms": 5}
    assert len(run(steps, store).cached) == len(steps)
    assert len(trivial_steps.MEMORY_CALLS) - before == len(steps)
    store._fs.pipe_file(f"{store._place(steps[0].key)}/{store.find(steps[0].key).attempt}/number.txt", b"123")
    store.discard(steps[6].key)
    repaired = run(steps, store)
    assert sorted(repaired.done) == sorted([steps[0].key, steps[6].key])
    assert store.find(steps[6].key).facts == {"value": 11, "terms": 2}
