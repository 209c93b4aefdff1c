from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from assay.errors import InvalidInput, MissingDependency
from assay.study import RunFolder
from assay.study.mlflow import export_mlflow


class Page(list):
    token = None


class Server:
    """As much of MLflow as is used, in memory; pages of three runs."""

    def __init__(self):
        self.experiments, self.runs, self.fail_after = {}, {}, None
        self.entities = SimpleNamespace(
            Metric=lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step),
            Param=lambda key, value: SimpleNamespace(key=key, value=value),
        )
        self.uris, self.count = [], 0

    def MlflowClient(self, tracking_uri):  # noqa: N802 - MLflow's name
        self.uris.append(tracking_uri)
        if tracking_uri == "odd://":
            raise RuntimeError(tracking_uri)
        return self

    def get_experiment_by_name(self, name):
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name):
        return self.experiments.setdefault(name, f"experiment {len(self.experiments)}")

    def search_runs(self, experiments, max_results, page_token):
        start = int(page_token or 0)
        found = [r for r in self.runs.values() if r.experiment in experiments]
        page = Page(found[start : start + 3])
        page.token = str(start + 3) if start + 3 < len(found) else None
        return page

    def create_run(self, experiment, tags, run_name):
        if self.fail_after == len(self.runs):
            raise ConnectionError(run_name)
        name = str(self.count)
        self.count += 1
        self.runs[name] = SimpleNamespace(
            experiment=experiment,
            info=SimpleNamespace(run_id=name, name=run_name, status="RUNNING"),
            data=SimpleNamespace(tags=dict(tags), params={}, metrics=[]),
        )
        return self.runs[name]

    def log_batch(self, run, metrics=(), params=()):
        assert len(metrics) <= 1000
        assert len(params) <= 100
        data = self.runs[run].data
        data.metrics += metrics
        for param in params:
            assert param.key not in data.params
            data.params[param.key] = param.value

    def set_tag(self, run, key, value):
        self.runs[run].data.tags[key] = value

    def set_terminated(self, run):
        self.runs[run].info.status = "FINISHED"

    def delete_run(self, run):
        del self.runs[run]


@pytest.fixture
def server(monkeypatch):
    made = Server()
    monkeypatch.setitem(sys.modules, "mlflow", made)
    return made


def test_every_row_becomes_a_run(ran, server):
    done = export_mlflow(RunFolder(ran.folder), "http://there")
    # Six verdicts, three thefts, three removals, one panel.
    assert (done.experiment, done.created, done.present) == ("Iris", 13, 0)
    assert server.uris == ["http://there"]
    assert {run.info.status for run in server.runs.values()} == {"FINISHED"}
    rows = {row["step"]: row for row in ran.tables.rows("verdicts")}
    verdicts = [run for run in server.runs.values() if run.data.params["table"] == "verdicts"]
    assert len(verdicts) == 6
    for run in verdicts:
        row = rows[run.data.tags["assay.step"]]
        metrics = {metric.key: metric.value for metric in run.data.metrics}
        assert metrics["p_value"] == row["p_value"]
        assert metrics["stolen"] == float(row["stolen"])
        assert run.data.params["extraction"] == row["extraction"]
        assert run.data.params["config.access"] == "labels"
        assert run.data.tags["assay.kind"] == "verify"
        assert run.data.tags["assay.version.torch"]
        assert row["extraction"] in run.info.name
    (panel,) = (run for run in server.runs.values() if run.data.params["table"] == "panel")
    metrics = {metric.key: metric.value for metric in panel.data.metrics}
    assert metrics["verdicts"] == 6
    assert 0 <= metrics["rate_low"] <= metrics["rate"] <= metrics["rate_high"] <= 1
    thefts = [run for run in server.runs.values() if run.data.params["table"] == "extractions"]
    curves = [[m.step for m in run.data.metrics if m.key == "curve.fidelity"] for run in thefts]
    assert sorted(curves) == [[0], [30], [30]]


def test_what_is_there_is_not_written_again(ran, server):
    export_mlflow(RunFolder(ran.folder), "file:///x", "a name")
    assert list(server.experiments) == ["a name"]
    again = export_mlflow(RunFolder(ran.folder), "file:///x", "a name")
    assert (again.created, again.present, len(server.runs)) == (0, 13, 13)


def test_an_export_that_was_interrupted_is_completed(ran, server):
    server.fail_after = 5
    with pytest.raises(InvalidInput, match="MLflow cannot work with 'x': ConnectionError: "):
        export_mlflow(RunFolder(ran.folder), "x")
    del server.runs["4"].data.tags["assay.complete"]
    server.fail_after = None
    foreign = server.create_run("experiment 0", {"theirs": "1"}, "another's")
    done = export_mlflow(RunFolder(ran.folder), "x")
    assert (done.created, done.present) == (9, 4)
    assert foreign in server.runs.values()


def test_an_address_that_mlflow_refuses_is_bad_input(ran, server):
    with pytest.raises(InvalidInput, match=r"'odd://': RuntimeError: odd://"):
        export_mlflow(RunFolder(ran.folder), "odd://")


def test_without_mlflow_the_sentence_says_how_to_get_it(ran, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingDependency, match="pip install mlflow-skinny"):
        export_mlflow(RunFolder(ran.folder), "x")
