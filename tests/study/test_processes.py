import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed_study import COUNT
from trivial_steps import PLUGINS, calls, found, numbers_and_sums

from assay.errors import InvalidInput
from assay.study.engine import run_steps
from assay.study.execute import Task
from assay.study.executors import ProcessExecutor, SerialExecutor
from assay.study.step import Step
from assay.study.store import Store


@pytest.fixture(scope="module")
def executor():
    with ProcessExecutor(2) as executor:
        yield executor


def run(steps, store, executor, **options):
    return run_steps(steps, store, executor, plugins=PLUGINS, **options)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def finished(store, steps):
    return {step.key for step in steps if store.find(step.key) is not None}


def test_parallel_equals_serial(store, tmp_path, executor):
    steps, other = numbers_and_sums(8), Store(tmp_path / "serial" / "artifacts")
    parallel = run(steps, store, executor)
    assert parallel.complete
    assert os.getpid() not in calls(store.url)[1]
    with SerialExecutor() as serial:
        assert run(steps, other, serial).complete
    assert calls(other.url)[1] == {os.getpid()}
    assert found(store, steps) == found(other, steps)
    assert sorted(calls(store.url)[0]) == sorted(calls(other.url)[0])


def test_a_failure_comes_back_with_its_log(store, executor):
    bad = Step("trivial-failure", {"how": "a reason"})
    child = Step("trivial-sum", {}, {"terms": bad.key})
    outcome = run([bad, child, *numbers_and_sums(3)], store, executor)
    assert outcome.failed[bad.key].error == "ValueError: a reason"
    assert "before it fails" in outcome.failed[bad.key].log
    assert outcome.skipped == [child.key]
    assert len(outcome.done) == 6


def test_a_step_whose_process_dies_is_repeated_and_the_others_go_on(store, tmp_path, executor):
    dying = Step("trivial-death", {"times": 1}, label="dying")
    child = Step("trivial-sum", {}, {"terms": dying.key})
    steps = [dying, child, *numbers_and_sums(4)]
    outcome = run(steps, store, executor, work=str(tmp_path / "work"))
    assert outcome.complete
    assert store.find(child.key).facts == {"value": 7, "terms": 1}
    (warning,) = outcome.warnings
    assert warning.startswith("dying: its process died")
    counted = calls(store.url)[0]
    assert counted.count(dying.key) == 2
    assert len(counted) == len(steps) + 1  # nothing else was repeated


def test_a_step_that_always_kills_its_process_is_reported(store, tmp_path, executor):
    dying = Step("trivial-death", {"times": 99})
    child = Step("trivial-sum", {}, {"terms": dying.key})
    other = numbers_and_sums(2)
    outcome = run([dying, child, *other], store, executor, work=str(tmp_path / "work"))
    assert outcome.failed[dying.key].status == "lost"
    assert "its process died" in outcome.failed[dying.key].error
    assert outcome.skipped == [child.key]
    assert sorted(outcome.done) == sorted(s.key for s in other)
    assert calls(store.url)[0].count(dying.key) == 3


def test_kill_the_whole_run_and_run_again(store, tmp_path):
    steps = numbers_and_sums(COUNT)
    script, work = Path(__file__).with_name("killed_study.py"), str(tmp_path / "work")
    command = [sys.executable, str(script), store.url, work]
    slow = {**os.environ, "ASSAY_TRIVIAL_SLEEP": "0.4"}
    with subprocess.Popen(command, env=slow) as process:
        try:
            until(lambda: len(finished(store, steps)) >= 3, 120)
        finally:
            process.send_signal(signal.SIGKILL)
    _, workers = calls(store.url)
    assert len(workers) == 2
    until(lambda: not any(map(alive, workers)), 30)  # orphans end by themselves
    before = finished(store, steps)
    assert 3 <= len(before) < len(steps)
    counted = len(calls(store.url)[0])
    attempts = {key: store.find(key).attempt for key in before}
    time.sleep(1)
    assert len(calls(store.url)[0]) == counted  # nobody works any more
    with SerialExecutor() as executor:
        second = run(steps, store, executor, work=work)
    assert second.complete
    assert set(second.cached) == before
    assert sorted(calls(store.url)[0][counted:]) == sorted(s.key for s in steps if s.key not in before)
    assert {key: store.find(key).attempt for key in before} == attempts
    whole = Store(tmp_path / "whole" / "artifacts")
    with SerialExecutor() as executor:
        run(steps, whole, executor)
    assert found(store, steps) == found(whole, steps)


def test_closing_ends_steps_under_way(store):
    executor = ProcessExecutor(1)
    executor.submit(Task(Step("trivial-number", {"value": 1, "sleep": 60}), store.url, None, "cpu", PLUGINS))
    until(lambda: calls(store.url)[1], 120)
    (worker,) = calls(store.url)[1]
    started = time.monotonic()
    executor.close()
    assert time.monotonic() - started < 30
    assert not alive(worker)


def test_there_must_be_a_worker():
    with pytest.raises(InvalidInput, match="at least one worker is needed, got 0"):
        ProcessExecutor(0)
