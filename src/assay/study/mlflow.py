"""A run's rows as runs of MLflow: coordinates and configuration, numbers, provenance."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from assay.errors import AssayError, InvalidInput, MissingDependency
from assay.study.columns import COLUMNS
from assay.study.error_summary import error_table
from assay.study.run import RunFolder

__all__ = ["Exported", "export_mlflow"]

_TABLES = ("verdicts", "extractions", "removals")
_NUMBERS = ("number", "share", "whole", "flag")
_TAG, _WHOLE = "assay.row", "assay.complete"
_LONGEST, _PARAMS, _METRICS, _PAGE = 500, 100, 1000, 1000
_NAME = 250
_POINTS = ("fidelity", "accuracy")
_COORDINATES = ("victim", "evidence", "extraction", "removal", "verification", "panel", "kind", "seed")


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Parameters
    ----------
    experiment
        Name of the experiment.
    created, present
        How many rows became runs, and how many were there already.
    """

    experiment: str
    created: int
    present: int


@dataclass(frozen=True)
class _Row:
    """What becomes one run of MLflow."""

    name: str
    identity: str
    params: dict[str, Any]
    metrics: dict[str, Any]
    tags: dict[str, str]
    curve: list[list[float | None]] = field(default_factory=list)


def export_mlflow(folder: RunFolder, uri: str, experiment: str | None = None) -> Exported:
    """Write the verdicts, extractions, removals and panels of a run as runs of MLflow.

    Each carries its coordinates and the configuration of its step as parameters, its
    numbers as metrics, and where it comes from as tags. A row that was exported before is
    not written again, and one whose export was interrupted is replaced.

    Parameters
    ----------
    folder
        The run.
    uri
        Tracking URI: a server, ``sqlite:///FILE``, or a folder.
    experiment
        Name of the experiment; the study's title by default.

    Raises
    ------
    MissingDependency
        If MLflow is not installed.
    InvalidInput
        If MLflow cannot work with the address.
    """
    mlflow = _import()
    name = experiment or folder.study.file.study.title
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(name)
        home = client.create_experiment(name) if found is None else found.experiment_id
        present = _present(client, home)
        created = total = 0
        for row in _rows(folder):
            total += 1
            if row.identity not in present:
                _write(mlflow, client, home, row)
                created += 1
    except AssayError:
        raise
    except Exception as error:
        # MLflow raises its own errors, its stores theirs.
        msg = f"MLflow cannot work with {uri!r}: {type(error).__name__}: {error}"
        raise InvalidInput(msg) from error
    return Exported(name, created, total - created)


def _import() -> ModuleType:
    try:
        import mlflow
    except ImportError as error:
        msg = "the export needs MLflow; install it with: pip install mlflow-skinny"
        raise MissingDependency(msg) from error
    found: ModuleType = mlflow
    return found


def _present(client: Any, experiment: str) -> set[str]:
    """Return the rows that are there; what an interrupted export left is removed."""
    found: set[str] = set()
    stale, token = [], None
    while True:
        page = client.search_runs([experiment], max_results=_PAGE, page_token=token)
        for run in page:
            if _TAG not in run.data.tags:
                continue
            if _WHOLE in run.data.tags:
                found.add(run.data.tags[_TAG])
            else:
                stale.append(run.info.run_id)
        token = getattr(page, "token", None)
        if not token:
            break
    for run_id in stale:  # not before: pages are counted from the first run
        client.delete_run(run_id)
    return found


def _write(mlflow: ModuleType, client: Any, experiment: str, row: _Row) -> None:
    now = int(time.time() * 1000)
    entities = mlflow.entities
    tags = {**row.tags, _TAG: row.identity}
    run = client.create_run(experiment, tags=tags, run_name=row.name).info.run_id
    params = [entities.Param(k, str(v)[:_LONGEST]) for k, v in row.params.items()]
    metrics = [entities.Metric(k, float(v), now, 0) for k, v in row.metrics.items()]
    for queries, *values in row.curve:
        metrics += [
            entities.Metric(f"curve.{name}", float(value), now, int(queries or 0))
            for name, value in zip(_POINTS, values, strict=True)
            if value is not None
        ]
    for start in range(0, len(params), _PARAMS):
        client.log_batch(run, params=params[start : start + _PARAMS])
    for start in range(0, len(metrics), _METRICS):
        client.log_batch(run, metrics=metrics[start : start + _METRICS])
    client.set_tag(run, _WHOLE, "true")
    client.set_terminated(run)


def _rows(folder: RunFolder) -> Iterator[_Row]:
    """Yield what is to be written."""
    plan = folder.plan()
    tables = folder.tables(plan)
    provenance = {row["key"]: row for row in tables.provenance}
    for table in _TABLES:
        for row in tables.rows(table):
            yield _row(table, row, COLUMNS[table], provenance[row["step"]])
    for row in error_table(tables.rows("panel")):
        forms = {name: "number" for name, value in row.items() if isinstance(value, int | float)}
        forms |= {"alpha": "share"}
        yield _row("panel", row, forms, provenance[row["steps"][0]])


def _row(table: str, row: Mapping[str, Any], forms: Mapping[str, str], step: Mapping[str, Any]) -> _Row:
    numbers, where = {}, {"table": table}
    for name, value in row.items():
        form = forms.get(name, "text")
        if name in ("seed", "alpha") or (form == "text" and isinstance(value, str)):
            where[name] = value
        elif form in _NUMBERS and value is not None and math.isfinite(value):
            numbers[name] = value
    config = {f"config.{path}": value for path, value in _flat(step["config"])}
    tags = {
        "assay.step": step["key"],
        "assay.kind": step["kind"],
        "assay.label": step["label"],
        **{f"assay.version.{name}": text for name, text in step["versions"].items()},
    }
    steps = row.get("steps", [row.get("step")])
    coordinates = {k: where[k] for k in _COORDINATES if k in where}
    identity = hashlib.sha256(json.dumps([table, coordinates, steps], sort_keys=True).encode()).hexdigest()
    name = " ".join(str(value) for value in coordinates.values())
    return _Row(
        f"{table} {name}"[:_NAME],
        identity,
        {name: value for name, value in where.items() if name != "reason"} | config,
        numbers,
        tags,
        row.get("curve") or [],
    )


def _flat(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a configuration with dotted paths."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, config if isinstance(config, str) else json.dumps(config)
