import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from trivial_steps import PLUGINS, calls, found, numbers_and_sums

from assay.errors import InvalidInput, MissingDependency
from assay.study.engine import run_steps
from assay.study.execute import Task
from assay.study.executors import RayExecutor, SerialExecutor, ray_nodes
from assay.study.step import Step
from assay.study.store import Store

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install 'assay-ml[ray]'"
)
_STARTS = 4
SMALL = {"object_store_memory": 80 * 2**20, "include_log_monitor": False}


@pytest.fixture(scope="module", autouse=True)
def environment():
    """Strangers may not submit anything to the clusters of these tests, and nobody is told of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        if find_spec("ray") is not None:
            from ray._raylet import Config

            Config.initialize("")  # read when Ray was imported, and that may have been before
        yield


def persistent(start):
    """Start a node; on a busy machine it may miss a deadline of Ray's that nobody can set."""
    for _ in range(_STARTS - 1):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


@pytest.fixture(scope="module")
def cluster():
    """Two nodes, each a group of processes of its own; the second claims to have a GPU."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "no_monitor": True, **SMALL}
    cluster = persistent(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        persistent(lambda: cluster.add_node(num_cpus=1, num_gpus=1, **SMALL))
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def executor(cluster):
    with RayExecutor(cluster.address) as executor:
        yield executor


def run(steps, store, executor, **options):
    return run_steps(steps, store, executor, plugins=PLUGINS, **options)


def serial(steps, tmp_path):
    store = Store(tmp_path / "serial" / "artifacts")
    with SerialExecutor() as executor:
        assert run(steps, store, executor).failed == {}
    return store


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except FileNotFoundError:
        return None


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_importing_the_executors_imports_no_ray():
    code = "import sys, assay.study.executors.ray; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"assay-ml\[ray\]"):
        RayExecutor("local")


@pytest.mark.parametrize(("retries", "patience"), [(-1, 1.0), (1, -1.0), (1, float("nan"))])
def test_parameters_out_of_range(retries, patience):
    with pytest.raises(InvalidInput, match="must not be negative"):
        RayExecutor("local", max_retries=retries, patience=patience)


@needs_ray
def test_no_cluster_is_said_at_once(monkeypatch):
    started = time.monotonic()
    with pytest.raises(InvalidInput, match="no Ray cluster answers at '127"):
        RayExecutor(closed_port())
    with pytest.raises(InvalidInput, match="no Ray cluster answers at 'nonsense'"):
        RayExecutor("nonsense")
    with pytest.raises(InvalidInput, match="on a machine of the cluster"):
        RayExecutor("ray://127.0.0.1:10001")
    monkeypatch.setenv("RAY_ADDRESS", closed_port())
    with pytest.raises(InvalidInput, match="no Ray cluster answers at '127"):
        RayExecutor("auto")
    assert time.monotonic() - started < 30


@needs_ray
def test_cluster_equals_serial_and_says_nothing(executor, store, tmp_path, capfd):
    steps = numbers_and_sums(8)
    assert executor.slots == 2
    outcome = run(steps, store, executor, work=str(tmp_path / "work"))
    assert outcome.complete
    assert outcome.warnings == []
    assert found(store, steps) == found(serial(steps, tmp_path), steps)
    keys, workers = calls(store.url)
    assert sorted(keys) == sorted(s.key for s in steps)
    assert os.getpid() not in workers
    assert sorted(Path(store.url).glob(".seen-*")) == []
    assert capfd.readouterr() == ("", "")


@needs_ray
def test_dependants_get_references_to_what_they_need(executor, store, monkeypatch):
    import ray

    asked, remote = {}, executor._remote

    class Spy:
        def options(self, **options):
            self.wanted = options
            return self

        def remote(self, task, tries, *inputs):
            asked[task.step.key] = (self.wanted, inputs)
            return remote.options(**self.wanted).remote(task, tries, *inputs)

    monkeypatch.setattr(executor, "_remote", Spy())
    steps = numbers_and_sums(3)
    big = Step("trivial-number", {"value": 8}, label="big", memory=10**6)
    assert run([*steps, big], store, executor).complete
    for step in steps:
        wanted, inputs = asked[step.key]
        assert wanted == {"num_gpus": 0.0, "name": step.label}
        assert ray.get(list(inputs)) == list(step.parents)
        assert all(isinstance(one, ray.ObjectRef) for one in inputs)
    assert asked[big.key][0]["memory"] == 10**6


@needs_ray
def test_a_failure_comes_back_with_its_log(executor, store):
    bad = Step("trivial-failure", {"how": "a reason"})
    child = Step("trivial-sum", {}, {"terms": bad.key})
    outcome = run([bad, child, *numbers_and_sums(3)], store, executor)
    assert outcome.failed[bad.key].error == "ValueError: a reason"
    assert "before it fails" in outcome.failed[bad.key].log
    assert outcome.skipped == [child.key]
    assert len(outcome.done) == 6


@needs_ray
def test_deaths_of_processes_are_survived_and_bounded(executor, store, tmp_path, capfd):
    dying = Step("trivial-death", {"times": 1})
    hopeless = Step("trivial-death", {"times": 99}, label="hopeless")
    steps = [dying, Step("trivial-sum", {}, {"terms": dying.key}), *numbers_and_sums(3)]
    outcome = run([*steps, hopeless], store, executor, work=str(tmp_path / "work"))
    assert len(outcome.done) == len(steps)
    assert outcome.failed[hopeless.key].status == "lost"
    assert "its node or process died 2 times" in outcome.failed[hopeless.key].error
    assert len(outcome.warnings) == 2
    counted = calls(store.url)[0]
    assert counted.count(dying.key) == 2
    assert counted.count(hopeless.key) == 6  # the executor's two attempts in each of the engine's three
    assert capfd.readouterr() == ("", "")


@needs_ray
def test_steps_go_where_their_resources_are(executor, store):
    on_gpu = Step("trivial-place", {"gpu": True}, gpus=1)
    half = Step("trivial-place", {"gpu": "half"}, gpus=0.5)
    off_gpu = Step("trivial-place", {"gpu": False})
    assert run([on_gpu, half, off_gpu], store, executor, device="cuda").complete
    assert store.find(on_gpu.key).facts == {"gpus": "0", "device": "cuda"}
    assert store.find(half.key).facts == {"gpus": "0", "device": "cuda"}
    assert store.find(off_gpu.key).facts["device"] == "cpu"


@needs_ray
def test_a_step_that_fits_nowhere_fails_and_the_rest_finishes(executor, store, monkeypatch):
    monkeypatch.setattr(executor, "patience", 0.0)
    steps = [
        Step("trivial-place", {"n": 1}, gpus=8),
        Step("trivial-place", {"n": 2}, memory=2**50),
        Step("trivial-place", {"n": 3}, gpus=1.5),
    ]
    outcome = run([*steps, *numbers_and_sums(2)], store, executor)
    assert set(outcome.failed) == {s.key for s in steps}, outcome
    errors = [outcome.failed[s.key].error for s in steps]
    assert "8 GPUs and 0.00 GiB; the best of 2 have 1 GPUs" in errors[0]
    assert "0 GPUs and 1048576.00 GiB" in errors[1]
    assert errors[2].startswith("Ray refuses the step")
    assert len(outcome.done) == 4


@needs_ray
def test_a_store_that_other_nodes_cannot_see_is_refused(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_nodes, "_SEEN", 0.0)
    store = Store(f"memory://{tmp_path.name}")
    with pytest.raises(InvalidInput, match=r"cannot see the artifact store memory://.*such as s3://"):
        run(numbers_and_sums(2), store, executor)
    executor._stores.discard(store.url)


@needs_ray
def test_a_node_with_another_version_is_refused(executor, store, monkeypatch):
    monkeypatch.setattr(ray_nodes, "versions", lambda: {"assay": "0.0.1"})
    with pytest.raises(InvalidInput, match=r"runs Assay .*, this process 0\.0\.1"):
        run(numbers_and_sums(2), store, executor)
    executor._stores.discard(store.url)


@needs_ray
def test_a_node_that_cannot_run_assay_is_refused(executor, store, monkeypatch):
    def broken(url, name, token, seconds):
        raise ModuleNotFoundError(name="assay")

    monkeypatch.setattr(ray_nodes, "_probe", broken)
    with pytest.raises(InvalidInput, match=r"cannot run Assay .*ModuleNotFoundError.*same environment"):
        run(numbers_and_sums(2), store, executor)
    executor._stores.discard(store.url)


@needs_ray
def test_a_connection_that_is_there_is_used_and_left(executor, store):
    import ray

    sleeper = Step("trivial-number", {"value": 1, "sleep": 300})
    with RayExecutor("auto") as second:
        second.submit(Task(sleeper, store.url, None, "cpu", PLUGINS))
        until(lambda: calls(store.url)[0] == [sleeper.key])
        (worker,) = calls(store.url)[1]
    assert ray.is_initialized()
    until(lambda: parent(worker) is None, 30)  # what was under way is abandoned
    with pytest.raises(InvalidInput, match=r"is connected to the Ray cluster .* already"):
        RayExecutor("127.0.0.1:1")


@needs_ray
def test_a_node_killed_mid_run_loses_nothing(executor, cluster, store, tmp_path, capfd):
    # Steps on the third node would take minutes: whatever it has been given is under way when it dies.
    slow = {"ASSAY_TRIVIAL_SLEEP": "300"}
    doomed = persistent(lambda: cluster.add_node(num_cpus=2, env_vars=slow, **SMALL))
    raylet = doomed.all_processes["raylet"][0].process.pid
    steps, before = numbers_and_sums(12), []

    def kill():
        until(lambda: sum(parent(pid) == raylet for pid in calls(store.url)[1]) == 2)
        before.append(len(calls(store.url)[0]))
        cluster.remove_node(doomed, allow_graceful=False)

    until(lambda: len(executor._connection.nodes()) == 3)
    killer = threading.Thread(target=kill)
    killer.start()
    outcome = run(steps, store, executor)
    killer.join()
    assert outcome.complete
    assert before
    assert found(store, steps) == found(serial(steps, tmp_path), steps)
    counted = calls(store.url)[0]
    assert len(counted) == len(steps) + 2  # only what the node was doing was done again
    assert len(set(counted)) == len(steps)
    assert capfd.readouterr() == ("", "")


@needs_ray
def test_a_cluster_of_its_own_ends_and_leaves_the_process_as_it_was(tmp_path):
    script = [sys.executable, str(Path(__file__).with_name("own_cluster.py")), str(tmp_path / "artifacts")]
    for _ in range(_STARTS):
        done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=300)
        if "timed out during startup" not in done.stderr:
            break
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, "")


@needs_ray
@pytest.mark.slow
def test_kill_the_whole_run_and_run_again_on_ray(tmp_path):
    store, steps = Store(tmp_path / "artifacts"), numbers_and_sums(20)
    script = [sys.executable, str(Path(__file__).with_name("own_cluster.py")), store.url]
    with subprocess.Popen(script, env={**os.environ, "ASSAY_TRIVIAL_SLEEP": "0.5"}) as process:
        until(lambda: sum(store.find(s.key) is not None for s in steps) >= 5)
        process.send_signal(signal.SIGKILL)
    workers = calls(store.url)[1]
    until(lambda: all(parent(pid) is None for pid in workers), 60)
    before = {s.key for s in steps if store.find(s.key) is not None}
    assert 5 <= len(before) < len(steps)
    counted = len(calls(store.url)[0])
    subprocess.run(script, check=True, timeout=300)
    assert not before & set(calls(store.url)[0][counted:])
    assert found(store, steps) == found(serial(steps, tmp_path), steps)
