"""``assay study``: experiments from one file, resumed where they stopped."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.console import facts, print_error, print_json, print_tables
from assay.cli.options import Common
from assay.cli.study_progress import StudyProgress, duration
from assay.cli.study_tables import (
    difference_tables,
    plan_json,
    plan_tables,
    status_tables,
    summary_json,
    summary_tables,
)
from assay.errors import InvalidInput

if TYPE_CHECKING:
    from assay.study.executors import Executor
    from assay.study.file import Study
    from assay.study.run import Finished

__all__ = ["STUDY_VERBS"]

_FAILED, _INTERRUPTED = 1, 130
_MEGABYTE = 2**20
_OURS = {"run.json", "study.toml", "run.lock", "artifacts"}

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The --out of `assay study run`.")]


@dataclass(frozen=True)
class Where:
    """Who computes the steps."""

    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="A Ray cluster: auto, or HOST:PORT of its head; local for a new one."
        ),
    ] = None
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Local processes, one thread each; one a core.")
    ] = None
    serial: Annotated[
        bool, typer.Option("--serial", help="One step after another in this process, for debugging.")
    ] = False

    def __post_init__(self) -> None:
        if (self.ray is not None) + (self.workers is not None) + self.serial > 1:
            msg = "give one of --ray, --workers and --serial"
            raise InvalidInput(msg)

    @property
    def slots(self) -> int | None:
        """Steps at a time; None if only the cluster knows."""
        from assay.study.executors.processes import cores

        if self.ray is not None:
            return None
        return 1 if self.serial else self.workers or cores()

    def open(self) -> Executor:
        """Return the executor."""
        from assay.study.executors import ProcessExecutor, SerialExecutor

        if self.ray is not None:
            from assay.study.executors import RayExecutor

            return RayExecutor(self.ray)
        if self.serial:
            from assay.study.executors.processes import one_thread

            one_thread()  # the numbers of a step depend on how many threads add them up
            return SerialExecutor()
        return ProcessExecutor(self.workers)


def run(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study, a TOML file.")],
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="A [preset.NAME] of the file, laid over it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the run is kept.")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where artifacts go: a folder, s3://...; FOLDER/artifacts by default."
        ),
    ] = None,
    where: Where,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the steps and what they will cost; run nothing.")
    ] = False,
    common: Common,
) -> None:
    """Run whatever of a study is not finished.

    Nothing that is finished is repeated: after an interruption the same command goes on,
    and after a change of the file it computes what depends on the change. A step that
    fails takes only those with it that need it.

    The exit code is 0 if everything is finished, 1 if steps failed, 2 for bad input, 3
    for a full disk, 130 if interrupted.
    """
    from assay.study import load_study

    _no_seed(common)
    study = load_study(file, preset)
    if dry_run:
        _dry_run(study, out, store, where, common)
        return
    if out is None:
        msg = "say where the run is to be kept: --out FOLDER (--dry-run needs none)"
        raise InvalidInput(msg)
    _check_folder(out)
    _run(study, out, store, where, common)


def resume(*, folder: Folder, where: Where, common: Common) -> None:
    """Go on with a run that was interrupted, or try its failed steps again.

    The study is taken as it was last run, from the folder, whatever has become of its
    file. Exit codes are those of `assay study run`.
    """
    from assay.study import RunFolder

    _no_seed(common)
    home = RunFolder(folder)
    place, store = home.path.absolute(), None if home.about["own_store"] else home.about["store"]
    # Paths in the file were relative to where the run was started.
    started = Path(home.about.get("folder", "."))
    with contextlib.chdir(started if started.is_dir() else "."):
        _run(home.study, place, store, where, common)


def status(*, folder: Folder, common: Common) -> None:
    """Show how far a run is, also while it is at work."""
    from assay.study import RunFolder

    home = RunFolder(folder)
    found = home.status()
    if common.json:
        print_json(dataclasses.asdict(found) | {"folder": str(folder), "preset": home.study.preset})
    elif not common.quiet:
        print_tables(*status_tables(found, home.study.file.study.title, str(folder)))


def diff(
    *,
    a: Annotated[Path, typer.Argument(metavar="A", help="Folder of a run.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder of another run.")],
    common: Common,
) -> None:
    """Show what is different between two runs, and which configuration made it so."""
    from assay.study import RunFolder
    from assay.study.diff import diff_runs

    found = diff_runs(RunFolder(a), RunFolder(b))
    if common.json:
        print_json(found)
    elif not common.quiet:
        print_tables(*difference_tables(found))


def gc(
    *,
    folder: Folder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    common: Common,
) -> None:
    """Remove artifacts that the study, as it was last run, does not need."""
    from assay.study import RunFolder

    removed = RunFolder(folder).collect(dry_run=dry_run)
    total = sum(size for _, size in removed)
    if common.json:
        print_json({"dry_run": dry_run, "bytes": total, "removed": [list(pair) for pair in removed]})
    elif not common.quiet:
        done = "would be removed" if dry_run else "removed"
        print_tables(f"{len(removed):,} artifacts, {total / _MEGABYTE:,.1f} MB, {done}")


def export(
    *,
    folder: Folder,
    mlflow: Annotated[str, typer.Option(metavar="URI", help="Tracking URI: a server, or file:///FOLDER.")],
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="The study's title unless given.")
    ] = None,
    common: Common,
) -> None:
    """Write a run's rows as runs of MLflow; those that are there are not written again."""
    from assay.study import RunFolder
    from assay.study.mlflow import export_mlflow

    found = export_mlflow(RunFolder(folder), mlflow, experiment)
    if common.json:
        print_json(dataclasses.asdict(found))
    elif not common.quiet:
        print_tables(
            f"experiment {found.experiment}: {found.created:,} runs written, {found.present:,} there already"
        )


STUDY_VERBS: dict[str, Callable[..., None]] = {
    "run": run,
    "status": status,
    "resume": resume,
    "diff": diff,
    "gc": gc,
    "export": export,
}


def _run(study: Study, out: Path, store: str | None, where: Where, common: Common) -> None:
    """Run a study, show how far it is, and say what came of it."""
    from assay.study import run_study

    device = common.checked_device()
    try:
        with contextlib.ExitStack() as stack:
            shown = None if common.json or common.quiet else stack.enter_context(StudyProgress())
            executor = stack.enter_context(where.open())
            done = run_study(
                study,
                out,
                store=store,
                executor=executor,
                device=device,
                observers=() if shown is None else (shown,),
                report=None if shown is None else shown.report,
            )
    except KeyboardInterrupt as error:
        print_error(f"interrupted; nothing that was finished is lost: `assay study resume {out}` goes on")
        raise typer.Exit(_INTERRUPTED) from error
    _finish(done, common)


def _finish(done: Finished, common: Common) -> None:
    run, about = done.run, done.tables.about
    failed = [row for row in about["failed"] if row["key"] in run.failed]
    summary = summary_json(done.tables)
    if common.json:
        print_json(
            {
                "folder": str(done.folder),
                "complete": run.complete,
                "done": len(run.done),
                "cached": len(run.cached),
                "failed": failed,
                "skipped": len(run.skipped),
                "warnings": run.warnings,
                "seconds": done.seconds,
                "core_seconds": run.seconds,
                "tables": str(done.path),
                "summary": summary,
            }
        )
    elif not common.quiet:
        shown: dict[str, Any] = {
            "steps computed": f"{len(run.done):,}",
            "finished before": f"{len(run.cached):,}" if run.cached else None,
            "failed": f"{len(run.failed):,}" if run.failed else None,
            "skipped": f"{len(run.skipped):,}, because something that they need failed"
            if run.skipped
            else None,
            "repeated": "; ".join(run.warnings) or None,
            "time": f"{duration(done.seconds)}, {duration(run.seconds)} of one core",
            "tables": done.path,
            "logs": done.folder / "logs" if (done.folder / "logs").is_dir() else None,
        }
        print_tables(facts(done.tables.title, shown), *summary_tables(summary, failed))
        print_tables(f"`assay report {done.folder}` makes a page of it")
    if not run.complete:
        logs = ", ".join(row["log"] for row in failed[:3] if row["log"])
        print_error(
            f"{len(run.failed):,} steps failed and {len(run.skipped):,} that need them were not run; "
            f"see {logs or 'the table'}{' and further logs beside them' if len(failed) > 3 else ''}"  # noqa: PLR2004
        )
        raise typer.Exit(_FAILED)


def _dry_run(study: Study, out: Path | None, store: str | None, where: Where, common: Common) -> None:
    from assay.study import RunFolder, Store, plan_study
    from assay.study.store import CorruptArtifact

    place = store if store is not None else None if out is None else str(out / "artifacts")
    kept = None if place is None else Store(place)
    plan = plan_study(study, kept)
    finished: set[str] = set()
    for step in plan.steps if kept is not None else ():
        with contextlib.suppress(CorruptArtifact):
            if kept is not None and kept.find(step.key) is not None:
                finished.add(step.key)
    pace = 1.0
    if out is not None and (out / "run.json").is_file():
        with contextlib.suppress(InvalidInput):
            pace = RunFolder(out).status().pace
    data = plan_json(plan, finished, where.slots, pace)
    if common.json:
        print_json(data)
    elif not common.quiet:
        print_tables(*plan_tables(data, study.file.study.title))


def _check_folder(out: Path) -> None:
    """Refuse a folder of other things: a run would strew its files among them."""
    if out.is_dir():
        names = {path.name for path in out.iterdir()}
        if names and not names & _OURS:
            msg = f"{out} holds other things than a run; choose another --out"
            raise InvalidInput(msg)


def _no_seed(common: Common) -> None:
    if common.seed:
        msg = "a study's seeds stand in its file ([study] seeds); leave out --seed"
        raise InvalidInput(msg)
