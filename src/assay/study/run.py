"""A run: a folder with the study, its journal, logs and tables, and a store of artifacts."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.errors import InvalidInput
from assay.observers import Observer
from assay.study.engine import Run, run_steps
from assay.study.execute import Outcome
from assay.study.executors.base import Executor
from assay.study.executors.processes import ProcessExecutor
from assay.study.file import Study, parse_study
from assay.study.galleries import write_galleries
from assay.study.grid import plan_study
from assay.study.lock import is_locked, run_lock
from assay.study.pace import pace
from assay.study.place import made, space_in, write_whole
from assay.study.plan import Plan
from assay.study.rows import collect_rows, provenance_rows
from assay.study.step import Step
from assay.study.store import CorruptArtifact, Manifest, Store
from assay.study.tables import StudyTables

__all__ = ["Finished", "RunFolder", "Status", "run_study"]

_ABOUT, _STUDY, _PLAN, _JOURNAL, _SCHEMA = "run.json", "study.toml", "plan.json", "journal.jsonl", 1
_WITHOUT_NETWORKS = ("data", "references")
TABLES = "study-tables.json"


@dataclass(frozen=True)
class Finished:
    """A run that has come to its end.

    Parameters
    ----------
    folder
        Where everything is.
    run
        What was computed, found finished, failed and skipped.
    tables
        The rows.
    seconds
        Wall-clock time of this call.
    """

    folder: Path
    run: Run
    tables: StudyTables
    seconds: float

    @property
    def path(self) -> Path:
        """The file of the tables."""
        return self.folder / TABLES


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Parameters
    ----------
    steps, done, failed, skipped, left
        Numbers of steps. A failed step counts as failed until another run finishes it.
    running
        Labels of steps under way, if somebody works on the folder.
    active
        Whether somebody does.
    slots
        How many steps the last run could work on at a time.
    seconds_left, seconds_spent
        Estimated core-seconds of the steps that are left; measured ones of the others.
    pace
        How much longer steps take than was estimated, by those that are done.
    errors, waiting
        Failed and skipped steps: key, kind, label, error, and the file of the log.
    """

    steps: int
    done: int
    failed: int
    skipped: int
    left: int
    running: tuple[str, ...]
    active: bool
    slots: int
    seconds_left: float
    seconds_spent: float
    pace: float
    errors: tuple[dict[str, str], ...]
    waiting: tuple[dict[str, str], ...]


class RunFolder:
    """The folder of a run.

    Parameters
    ----------
    path
        As given to `run_study`.

    Raises
    ------
    InvalidInput
        If it holds no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            about = json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
            text = (self.path / _STUDY).read_text(encoding="utf-8")
            self.about: dict[str, Any] = about
            self.study = parse_study(text, about["file"], about["preset"])
            # A folder that was moved has taken its artifacts along.
            self.store = Store(self.path / "artifacts" if about["own_store"] else about["store"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InvalidInput):
                raise
            msg = f"{path} is no run of a study; `assay study run FILE --out {path}` makes one"
            raise InvalidInput(msg) from error

    def plan(self) -> Plan:
        """Return the steps and cells of the study as it was last run, under the keys of that run."""
        try:
            text = (self.path / _PLAN).read_text(encoding="utf-8")
        except OSError:
            text = ""
        kept = Plan.from_json(text, _name_of(self.study)) if text else None
        return kept or plan_study(self.study, self.store)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the journal; a line that a kill cut off is left out."""
        try:
            lines = (self.path / _JOURNAL).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def status(self, plan: Plan | None = None) -> Status:
        """Return how far the run is, also while somebody works on it."""
        plan = plan or self.plan()
        present = set(self.store.keys())
        done = {s.key: m for s in plan.steps if s.key in present and (m := _finished(self.store, s.key))}
        active, slots = is_locked(self.path), 1
        last: dict[str, dict[str, Any]] = {}
        for event in self.events():
            if event["event"] == "run":  # what an earlier one had started and not finished is simply left
                last, slots = {k: e for k, e in last.items() if e["event"] != "start"}, event["slots"]
            else:
                last[event["key"]] = event
        parts: dict[str, list[Step]] = {"failed": [], "skipped": [], "start": [], "left": []}
        for step in plan.steps:
            if step.key in done:
                continue
            event = last.get(step.key, {}).get("event", "")
            # What a killed run had started is simply left.
            parts[
                event if event in ("failed", "skipped") or (active and event == "start") else "left"
            ].append(step)
        left = [*parts["start"], *parts["left"]]

        def started(step: Step) -> float:
            return float(last[step.key]["time"])

        def described(step: Step) -> dict[str, str]:
            error = last[step.key].get("error", "something that it needs failed")
            log = self.log(step.key)
            return {
                "key": step.key,
                "kind": step.kind,
                "label": step.label,
                "error": error,
                "log": str(log) if log.exists() else "",
            }

        return Status(
            steps=len(plan.steps),
            done=len(done),
            failed=len(parts["failed"]),
            skipped=len(parts["skipped"]),
            left=len(left),
            # More are handed over than can run, so that none has to wait for the engine.
            running=tuple(step.label for step in sorted(parts["start"], key=started))[:slots],
            active=active,
            slots=slots,
            seconds_left=sum(step.seconds for step in left),
            seconds_spent=sum(manifest.seconds for manifest in done.values()),
            pace=pace(sum(m.seconds for m in done.values()), sum(plan.by_key[key].seconds for key in done)),
            errors=tuple(map(described, parts["failed"])),
            waiting=tuple(map(described, parts["skipped"])),
        )

    def log(self, key: str) -> Path:
        """Return where the log of a failed step is."""
        return self.path / "logs" / f"{key[:16]}.txt"

    def tables(self, plan: Plan | None = None) -> StudyTables:
        """Return the rows of everything that is finished."""
        plan = plan or self.plan()
        about, status = self.study.file, self.status(plan)
        return StudyTables(
            title=about.study.title,
            description=about.study.description,
            alpha=about.study.alpha,
            tables=collect_rows(plan, self.store),
            published=[p.model_dump() for p in about.published],
            provenance=list(provenance_rows(plan, self.store)),
            about={
                "file": Path(self.study.path).name,
                "preset": self.study.preset,
                "seeds": about.study.seed_list,
                "steps": status.steps,
                "done": status.done,
                "failed": list(status.errors),
                "skipped": list(status.waiting),
                "left": status.left,
                "titles": {
                    kind: {name: table.title for name, table in getattr(about, kind).items() if table.title}
                    for kind in ("evidence", "extraction", "removal", "verification")
                },
            },
        )

    def collect(self, *, dry_run: bool = False) -> list[tuple[str, int]]:
        """Remove artifacts that the study, as it was last run, does not need.

        Raises
        ------
        InvalidInput
            If somebody works on the folder, or other runs share the store: what they
            need is not known here.
        """
        if not self.about["own_store"]:
            msg = f"the artifacts in {self.store.url} may belong to other runs too; nothing was removed"
            raise InvalidInput(msg)
        with run_lock(self.path):
            return self.store.collect({s.key for s in self.plan().steps}, dry_run=dry_run)


def run_study(
    study: Study,
    out: str | Path,
    *,
    store: str | None = None,
    executor: Executor | None = None,
    device: str = "cpu",
    observers: Sequence[Observer] = (),
    report: Callable[[str, Step, Outcome | None], None] | None = None,
    plan: Plan | None = None,
) -> Finished:
    """Run whatever of a study is not finished, and write its tables.

    Parameters
    ----------
    study
        As read by `assay.study.load_study`.
    out
        Folder of the run. One that holds an earlier run of this or another study is
        taken over: what both need is not computed again.
    store
        Where artifacts go: a folder or URL; ``artifacts`` in the run's folder by default.
    executor
        Local processes by default, one for each core.
    device
        Where torch computes.
    observers
        Told about the task ``"study"``.
    report
        Called as `assay.study.engine.run_steps` does.
    plan
        As `plan_study` returned it, where the caller has it already.

    Raises
    ------
    InvalidInput
        If the study is wrong, the folder cannot be written, or another run works on it.
    StoreFull
        If there is no space left.
    """
    started, folder = time.perf_counter(), Path(out)
    own = store is None
    place = str((folder / "artifacts").absolute()) if store is None else store
    kept = Store(place)
    plan = plan or plan_study(study, kept)
    with space_in(folder), made(folder), run_lock(folder):
        write_whole(folder / _STUDY, study.text)
        write_whole(folder / _PLAN, plan.to_json(_name_of(study)))
        about = {
            "schema": _SCHEMA,
            "file": study.path,
            "preset": study.preset,
            "store": kept.url,
            "own_store": own,
            "folder": str(Path.cwd()),  # to which the paths in the study are relative
        }
        write_whole(folder / _ABOUT, json.dumps(about, indent=2))
        home = RunFolder(folder)
        chosen = executor or ProcessExecutor()
        try:
            with (folder / _JOURNAL).open("a", encoding="utf-8") as journal:
                _line(journal, {"event": "run", "executor": chosen.name, "slots": chosen.slots})

                def told(event: str, step: Step, outcome: Outcome | None) -> None:
                    _journal(journal, event, step, outcome)
                    if report is not None:
                        report(event, step, outcome)
                    if outcome is not None and (event == "failed" or outcome.log):
                        log = home.log(step.key)
                        log.parent.mkdir(exist_ok=True)
                        write_whole(log, f"{step.label}\n{outcome.error}\n\n{outcome.log}")

                run = run_steps(
                    _on_device(plan.steps, device),
                    kept,
                    chosen,
                    work=str(folder.absolute() / "work"),
                    device=device,
                    plugins=tuple(study.file.study.plugins),
                    observers=observers,
                    report=told,
                )
        finally:
            if executor is None:
                chosen.close()
        if run.complete:
            shutil.rmtree(folder / "work", ignore_errors=True)
        tables = home.tables(plan)
        tables.save(folder / TABLES)
        write_galleries(plan, kept, folder)
    return Finished(folder, run, tables, time.perf_counter() - started)


def _journal(file: Any, event: str, step: Step, outcome: Outcome | None) -> None:
    line: dict[str, Any] = {"event": event, "key": step.key, "step": step.label}
    if outcome is not None:
        line |= {"seconds": round(outcome.seconds, 3)} | ({"error": outcome.error} if outcome.error else {})
    _line(file, line)


def _line(file: Any, line: dict[str, Any]) -> None:
    file.write(json.dumps({"time": round(time.time(), 3), **line}) + "\n")
    file.flush()


def _on_device(steps: Sequence[Step], device: str) -> list[Step]:
    """Have the steps that compute with networks ask for a GPU, where one is to be used."""
    if not device.startswith("cuda"):
        return list(steps)
    return [step if step.kind in _WITHOUT_NETWORKS else replace(step, gpus=1.0) for step in steps]


def _name_of(study: Study) -> str:
    return hashlib.sha256(json.dumps([study.preset, study.text]).encode()).hexdigest()


def _finished(store: Store, key: str) -> Manifest | None:
    try:
        return store.find(key)
    except CorruptArtifact:
        return None  # the next run makes it anew
