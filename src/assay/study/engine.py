"""Run a plan: everything that is missing, in topological order, on any executor.

What is finished is never repeated, what fails takes only its dependants with it, and an
artifact that turns out to be damaged is made again.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from assay.errors import AssayError
from assay.observers import Observer, Observers
from assay.study.execute import Outcome, Task
from assay.study.executors.base import Executor
from assay.study.pace import pace
from assay.study.step import Step, topological
from assay.study.store import CorruptArtifact, Store

__all__ = ["Run", "StoreFull", "run_steps"]

_ATTEMPTS = 3


class StoreFull(AssayError):
    """No space is left where artifacts are kept; nothing that was finished is lost."""

    exit_code = 3


@dataclass
class Run:
    """How a run went.

    Parameters
    ----------
    done, cached, failed, skipped
        Keys of steps that were computed, that were there already, that failed (with the
        outcome), and that could not start because something that they need failed.
    warnings
        Damaged artifacts, lost processes.
    seconds
        Measured wall-clock seconds of the computed steps, summed.
    """

    done: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    failed: dict[str, Outcome] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every step is finished."""
        return not self.failed and not self.skipped


class _Progress:
    """What is still to be done, and who waits for whom."""

    def __init__(self, steps: Sequence[Step], store: Store, run: Run) -> None:
        self.order = {step.key: i for i, step in enumerate(steps)}
        self.steps = {step.key: step for step in steps}
        self.children: dict[str, list[str]] = {}
        self.waiting: dict[str, set[str]] = {}
        self.ready: list[int] = []
        self.by_rank = [step.key for step in steps]
        for step in steps:
            for parent in step.parents:
                self.children.setdefault(parent, []).append(step.key)
        finished = {key for key in self.by_rank if _present(store, key, run)}
        run.cached += [key for key in self.by_rank if key in finished]
        self.finished = finished
        for key in self.by_rank:
            if key not in finished:
                self.block(key)

    def block(self, key: str) -> None:
        """Have a step wait for the inputs that are not finished."""
        missing = {p for p in self.steps[key].parents if p not in self.finished}
        self.waiting[key] = missing
        if not missing:
            heapq.heappush(self.ready, self.order[key])

    def next(self) -> Step | None:
        """Return the first step, in topological order, that may start."""
        while self.ready:
            key = self.by_rank[heapq.heappop(self.ready)]
            if key in self.waiting and not self.waiting[key]:
                return self.steps[key]
        return None

    def finish(self, key: str) -> None:
        """Let those that wait for a step go on."""
        self.waiting.pop(key, None)
        self.finished.add(key)
        for child in self.children.get(key, ()):
            if child in self.waiting:
                self.waiting[child].discard(key)
                if not self.waiting[child]:
                    heapq.heappush(self.ready, self.order[child])

    def give_up(self, key: str) -> list[str]:
        """Remove a failed step and all that would need it; return the latter."""
        self.waiting.pop(key, None)
        lost, stack = [], list(self.children.get(key, ()))
        while stack:
            child = stack.pop()
            if child in self.waiting:
                del self.waiting[child]
                lost.append(child)
                stack += self.children.get(child, ())
        return sorted(lost, key=self.order.__getitem__)

    def again(self, key: str) -> None:
        """Have a finished step computed anew."""
        self.finished.discard(key)
        for child in self.children.get(key, ()):
            if child in self.waiting:
                self.waiting[child].add(key)
        self.block(key)


def _present(store: Store, key: str, run: Run) -> bool:
    try:
        return store.find(key) is not None
    except CorruptArtifact as error:
        run.warnings.append(f"{error}; it is computed anew")
        store.discard(key)
        return False


def run_steps(
    steps: Sequence[Step],
    store: Store,
    executor: Executor,
    *,
    work: str | None = None,
    device: str = "cpu",
    plugins: tuple[str, ...] = (),
    observers: Sequence[Observer] = (),
    report: Callable[[str, Step, Outcome | None], None] | None = None,
) -> Run:
    """Compute everything that is missing.

    Parameters
    ----------
    steps
        Closed: with a step come all that it needs.
    store
        Where results are, and go.
    executor
        Who computes.
    work, device, plugins
        See `assay.study.execute.Task`.
    observers
        Told of one task, ``"study"``, whose total is the number of missing steps.
    report
        Called with ``"start"``, ``"done"``, ``"failed"``, ``"skipped"`` or ``"repeat"``,
        the step, and the outcome where there is one.

    Raises
    ------
    StoreFull
        If there is no space left. What was finished stays, and another call goes on.
    """
    run, watch = Run(), Observers(observers)
    ordered = topological(steps)
    progress = _Progress(ordered, store, run)
    tell = report or (lambda *_: None)
    attempts: Counter[tuple[str, str]] = Counter()
    left, expected = sum(progress.steps[key].seconds for key in progress.waiting), 0.0
    watch.on_start("study", len(progress.waiting))
    busy: set[str] = set()
    while True:
        while len(busy) < 2 * executor.slots and (step := progress.next()) is not None:
            # Twice the slots, so that none has to wait for this loop.
            if step.key in busy:
                continue
            busy.add(step.key)
            tell("start", step, None)
            executor.submit(Task(step, store.url, work, device, plugins))
        watch.on_step("study", len(run.done), _metrics(run, len(busy), left, expected, executor.slots))
        if not busy:
            break
        outcome = executor.wait()
        busy.discard(outcome.key)
        step = progress.steps[outcome.key]
        run.seconds += outcome.seconds
        attempts[step.key, outcome.culprit] += 1
        if outcome.status == "full":
            msg = (
                f"no space is left for artifacts ({outcome.error}); make some and run again: nothing is lost"
            )
            raise StoreFull(msg)
        if outcome.status == "done":
            run.done.append(step.key)
            left -= step.seconds
            expected += step.seconds
            progress.finish(step.key)
            tell("done", step, outcome)
        elif outcome.status in ("corrupt", "lost") and attempts[step.key, outcome.culprit] < _ATTEMPTS:
            run.warnings.append(f"{step.label or step.kind}: {outcome.error}; it is repeated")
            if outcome.culprit in progress.finished and outcome.culprit not in busy:
                store.discard(outcome.culprit)
                progress.again(outcome.culprit)
            progress.block(step.key)
            tell("repeat", step, outcome)
        else:
            run.failed[step.key] = outcome
            left -= step.seconds
            tell("failed", step, outcome)
            for key in progress.give_up(step.key):
                run.skipped.append(key)
                left -= progress.steps[key].seconds
                tell("skipped", progress.steps[key], None)
    watch.on_end("study", {"done": len(run.done), "failed": len(run.failed), "skipped": len(run.skipped)})
    return run


def _metrics(run: Run, busy: int, left: float, expected: float, slots: int) -> Mapping[str, float]:
    """Return what a progress bar shows.

    ``core_seconds_left`` is as estimated; ``pace`` is by how much the steps so far took
    longer than ``expected``.
    """
    return {
        "running": min(busy, slots),
        "failed": len(run.failed),
        "skipped": len(run.skipped),
        "core_seconds_left": max(0.0, left),
        "pace": pace(run.seconds, expected),
        "slots": slots,
    }
