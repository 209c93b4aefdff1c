"""From private data to an export that verifies: calibrate, serve, pay, look, prove."""

from __future__ import annotations

import json
import signal

import httpx
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from test_server_cli import announced, start

from assay.adapters import TorchModel, save_model
from assay.cli.accounts import accounts
from assay.cli.audit import audit
from assay.cli.calibrate import calibrate
from assay.cli.extract import extract
from assay.cli.verbs import Group, verb
from assay.data import Dataset, load_data
from assay.gateway.policy import load_policy
from assay.gateway.store.sql import SqlStore
from assay.nets import Recipe, build, train

APP = typer.Typer(cls=Group, rich_markup_mode=None, pretty_exceptions_enable=False)
APP.callback()(lambda: None)
for _function in (accounts, audit, calibrate, extract):
    APP.command(_function.__name__)(verb(_function))


def run(*arguments):
    done = CliRunner().invoke(APP, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A folder with a digits model, its data, inputs of a thief, and a signed policy."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("flow")
    data = load_data("digits")
    order = np.random.default_rng(0).permutation(len(data))
    private, traffic = data.subset(order[:900]), data.subset(order[900:1600])
    network = build("mlp-64", data.input_shape, 10, 0)
    train(network, private, Recipe(epochs=10, optimizer="adam", lr=3e-3, weight_decay=0.0), rng=0)
    save_model(TorchModel(network, name="digits"), folder / "digits.safetensors")
    noise = torch.rand(120, *data.input_shape, generator=torch.Generator().manual_seed(1))
    pools = {
        "train": private,
        "sample": traffic,
        "task": data.subset(order[1600:1660]),
        "noise": Dataset(noise, torch.zeros(120, dtype=torch.int64), data.classes, name="noise"),
    }
    for name, pool in pools.items():
        pool.save(folder / f"{name}.npz")
    run(
        *("calibrate", "--model", folder / "digits.safetensors", "--private", folder / "train.npz"),
        *(
            "--traffic",
            folder / "sample.npz",
            "--out",
            folder / "policy.toml",
            "--key",
            folder / "policy.key",
        ),
        *("--quick", "--inference-seconds", "0.005", "--quiet"),
    )
    return folder


def test_from_calibration_to_an_audit_that_verifies(calibrated, monkeypatch):
    monkeypatch.delenv("ASSAY_API_TOKEN", raising=False)
    folder = calibrated
    policy = load_policy(folder / "policy.toml", (folder / "policy.key").read_bytes().strip())
    store = ("--store", f"sqlite:///{folder}/g.db")
    process = start(
        folder,
        *("--model", "digits.safetensors", "--policy", "policy.toml", "--policy-key", "policy.key"),
        *("--name", "digits"),
    )
    try:
        told = announced(process)
        page = httpx.Client(base_url=told["url"], headers={"Authorization": "Bearer a-token-for-operators"})
        lines = {}
        for pool in ("task", "noise"):
            said = run(
                *("extract", "--victim", f"{told['url']}/v2/models/digits", "--pool", folder / f"{pool}.npz"),
                *("--batch-size", "10", "--set", "epochs=1", "--set", "architecture=mlp-8"),
            )
            (lines[pool],) = [line for line in said.splitlines() if line.startswith("paid ")]

        # The operator sees two accounts, what they asked, and what they paid for it.
        seen = page.get("/operator/api/overview").json()["tiles"]
        assert (seen["accounts"], seen["answered"]) == (2, 180)
        queries = page.get("/operator/api/queries", params={"limit": 100}).json()
        assert {row["model"] for row in queries} == {"digits"}
        assert {row["policy_version"] for row in queries} == {policy.version}
        assert page.get("/operator/api/policy").json()["digest"] == policy.digest
        assert page.get("/operator").status_code == 200
        download = page.get("/operator/api/audit").content
        page.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()

    # What leaks more costs more: noise pays a multiple of what inputs of the task pay.
    books = SqlStore(store[1])
    rows = books.queries(limit=100)
    assert {row.status for row in rows} == {"settled"}
    assert all(np.isfinite(row.log_q).all() for row in rows)
    asked = list(dict.fromkeys(row.account for row in reversed(rows)))
    task, noise = (sum(row.price for row in rows if row.account == one) for one in asked)
    assert noise > 3 * task > 0
    assert {row.account for row in books.alarms()} == {asked[1]}
    assert books.unbalanced() == []
    hashes = {pool: int(line.split()[1].replace(",", "")) for pool, line in lines.items()}
    assert hashes["noise"] > hashes["task"] > 0
    books.close()
    listed = json.loads(run("accounts", *store, "--order", "cusum", "--json"))
    assert [one["account"] for one in listed["accounts"]] == [asked[1], asked[0]]

    # The journal, downloaded and exported, verifies; a changed line does not.
    out = folder / "audit.jsonl"
    (folder / "download.jsonl").write_bytes(download)
    made = json.loads(run("audit", *store, "--out", out, "--key", folder / "policy.key", "--json"))
    assert json.loads(run("audit", "--check", out, "--key", folder / "policy.key", "--json")) == made
    assert (
        json.loads(run("audit", "--check", folder / "download.jsonl", "--json"))["entries"] <= made["entries"]
    )
    out.write_text(out.read_text().replace('"kind":"settle"', '"kind":"refund"', 1))
    done = CliRunner().invoke(APP, ["audit", "--check", str(out), "--key", str(folder / "policy.key")])
    assert done.exit_code != 0
