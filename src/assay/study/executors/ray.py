"""A Ray cluster: each step is a task with one core, its memory and its GPUs."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from assay.errors import AssayError, InvalidInput
from assay.study.execute import Outcome, Task, execute
from assay.study.executors.base import Executor
from assay.study.executors.processes import one_thread
from assay.study.executors.ray_connection import Connection
from assay.study.executors.ray_nodes import check_nodes, last_line
from assay.study.step import Step
from assay.study.store import Store

__all__ = ["RayExecutor"]

_LOOK = 2.0  # seconds between looks at the nodes
_MOST_MEMORY = 2**48  # larger numbers overflow in Ray, and then ask for nothing


@dataclass(frozen=True)
class _Running:
    task: Task
    receipt: Any
    tries: int


class RayExecutor(Executor):
    """Runs steps as tasks of a Ray cluster.

    A task gets references to what its inputs' tasks left, one core, ``step.gpus`` GPUs
    and ``step.memory`` bytes, and Ray finds a node that has them free. What steps compute
    does not travel through Ray but through the artifact store, so that it outlives every
    node. A step whose node or process dies is submitted again; finished ones never are.

    The same environment is expected on every node: Assay in the same version, the study's
    plug-ins, its data sets, and a store that all of them see. Store and version are checked
    on each node before the first step and when a node joins.

    Parameters
    ----------
    address
        ``"auto"``: the cluster of which this machine is a node; ``"host:port"`` of its
        head; ``"local"``: a new one on this machine, ended by `close`.
    max_retries
        How often a step is submitted again when its node or process dies. Then its
        outcome is ``"lost"``. (Ray's own retries are off: they have no bound for a
        process that runs out of memory.)
    patience
        Seconds to wait for a node that has what a step asks for, if none in the cluster
        has; an autoscaler may be starting it.

    Raises
    ------
    InvalidInput
        If no cluster answers, or a parameter is out of range.
    MissingDependency
        If Ray is not installed.

    Examples
    --------
    >>> with RayExecutor("local") as executor:  # doctest: +SKIP
    ...     run_steps(steps, store, executor)
    """

    name = "Ray"

    def __init__(self, address: str = "auto", *, max_retries: int = 1, patience: float = 60.0) -> None:
        if max_retries < 0 or not patience >= 0:
            msg = f"max_retries and patience must not be negative, got {max_retries} and {patience}"
            raise InvalidInput(msg)
        self.max_retries, self.patience = max_retries, patience
        self._connection = Connection(address)
        self._ray = self._connection.ray
        self._remote = self._ray.remote(num_returns=2, max_retries=0, num_cpus=1)(_run)
        self._running: dict[Any, _Running] = {}
        self._ended: deque[Outcome] = deque()
        self._receipts: dict[str, Any] = {}
        self._stores: set[str] = set()
        self._checked: set[tuple[str, str]] = set()
        self._impossible: dict[tuple[float, int], float] = {}
        self._looked = 0.0
        self._nodes: list[dict[str, Any]] = []
        self._look()

    def submit(self, task: Task) -> None:
        """Hand a task to the cluster.

        Raises
        ------
        InvalidInput
            If a node cannot see the store, or runs another version of Assay.
        """
        if task.store not in self._stores:
            self._stores.add(task.store)
            self._check_nodes()
        if not task.step.gpus:
            # Ray hides the GPUs from who has reserved none.
            task = replace(task, device="cpu")
        self._start(task, 0)

    def wait(self) -> Outcome:
        """Return the next outcome; a step that died too often comes back as lost.

        Raises
        ------
        InvalidInput
            If a node has joined that cannot see the store, or runs another version of Assay.
        """
        while not self._ended:
            self._look()
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_LOOK)
            if ready:  # whatever else has ended comes with it: one question for many answers
                ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
            for reference in ready:
                self._collect(reference)
        return self._ended.popleft()

    def close(self) -> None:
        """Abandon what is under way and leave the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._receipts.clear()
        self._connection.close()

    def _start(self, task: Task, tries: int) -> None:
        step = task.step
        inputs = [self._receipts[key] for key in step.parents if key in self._receipts]
        wanted: dict[str, Any] = {"num_gpus": step.gpus, "name": step.label or step.kind}
        if step.memory:
            wanted["memory"] = min(int(step.memory), _MOST_MEMORY)
        try:
            outcome, receipt = self._remote.options(**wanted).remote(task, tries, *inputs)
        except ValueError as error:  # such as one and a half GPUs
            self._ended.append(Outcome(step.key, "failed", error=f"Ray refuses the step: {error}"))
            return
        self._running[outcome] = _Running(task, receipt, tries)

    def _collect(self, reference: Any) -> None:
        running = self._running.pop(reference)
        key, errors = running.task.step.key, self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(reference)
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            # `execute` never raises: the node could not even begin.
            self._ended.append(Outcome(key, "failed", error=last_line(error), log=str(error)))
        except errors.TaskCancelledError:
            self._ended.append(Outcome(key, "failed", error=_unmet(running.task.step, self._nodes)))
        except errors.RayError as error:
            if running.tries < self.max_retries:
                self._start(running.task, running.tries + 1)
                return
            reason = str(error).strip().splitlines()[0]
            times = f"its node or process died {running.tries + 1} times: {reason}"
            self._ended.append(Outcome(key, "lost", error=times))
        else:
            if outcome.status == "done":
                self._receipts[key] = running.receipt
            self._ended.append(outcome)

    def _look(self) -> None:
        """See which nodes there are, now and then."""
        now = time.monotonic()
        if now - self._looked < _LOOK and self._nodes:
            return
        self._looked = now
        self._nodes = self._connection.nodes()
        self.slots = max(1, int(sum(n["Resources"]["CPU"] for n in self._nodes)))
        self._check_nodes()
        wanted: dict[tuple[float, int], list[Any]] = {}
        for reference, running in self._running.items():
            wanted.setdefault((running.task.step.gpus, running.task.step.memory), []).append(reference)
        self._impossible = {
            need: self._impossible.get(need, now) for need in wanted if not _fits(need, self._nodes)
        }
        for need, since in self._impossible.items():
            if now - since >= self.patience:
                for reference in wanted[need]:
                    self._ray.cancel(reference)

    def _check_nodes(self) -> None:
        """Have each node that is new look for a file in the store."""
        for url in self._stores:
            new = [n for n in self._nodes if (n["NodeID"], url) not in self._checked]
            if new:
                check_nodes(self._ray, url, new)
                self._checked |= {(n["NodeID"], url) for n in new}


def _run(task: Task, tries: int, *inputs: str) -> tuple[Outcome, str]:
    """Run a step on a node; the receipt is what its dependants refer to."""
    del inputs  # the store has their files; Ray has their order
    one_thread()
    if tries and _finished(task):  # its node died after its last act
        return Outcome(task.step.key, "done"), task.step.key
    if not isinstance(fsspec.core.url_to_fs(task.store)[0], LocalFileSystem):
        # A folder of the machine that submits may not exist here.
        task = replace(task, work=_own_folder(task.store))
    return execute(task), task.step.key


def _finished(task: Task) -> bool:
    try:
        return Store(task.store).find(task.step.key) is not None
    except AssayError:
        return False


def _own_folder(store: str) -> str | None:
    """Return a folder of this node and user for checkpoints and copies of inputs."""
    user = Path(tempfile.gettempdir()) / f"assay-{os.getuid()}"
    user.mkdir(mode=0o700, exist_ok=True)
    if user.is_symlink() or user.stat().st_uid != os.getuid():
        return None  # somebody else's
    folder = user / hashlib.sha256(store.encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    return str(folder)


def _fits(need: tuple[float, int], nodes: list[dict[str, Any]]) -> bool:
    gpus, memory = need
    found = (node["Resources"] for node in nodes)
    return any(r.get("GPU", 0) >= gpus and r.get("memory", 0) >= memory for r in found)


def _unmet(step: Step, nodes: list[dict[str, Any]]) -> str:
    memory = max((n["Resources"].get("memory", 0) for n in nodes), default=0)
    gpus = max((n["Resources"].get("GPU", 0) for n in nodes), default=0)
    return (
        "no node of the cluster has what the step asks for: "
        f"{step.gpus:g} GPUs and {step.memory / 2**30:.2f} GiB; "
        f"the best of {len(nodes)} have {gpus:g} GPUs and {memory / 2**30:.2f} GiB"
    )
