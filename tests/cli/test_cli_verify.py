from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import skops.io
import torch
from command import run
from oip_server import OipServer, tensor
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from torch import nn

from assay.result import Verdict

GENERATOR = np.random.default_rng(3)
WEIGHT = GENERATOR.normal(size=(10, 64)).astype(np.float32)
OWN_CODE = """
import numpy as np
W = np.load("weight.npy")
def ask(x):
    z = np.asarray(x).reshape(len(x), -1) @ W.T
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
def build(input_shape, num_classes):
    from torch import nn
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes, bias=False))
"""


def network():
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    layers[1].weight.data = torch.from_numpy(WEIGHT)
    return layers.eval()


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_the_victim_is_stolen_and_everything_is_written(assay, world):
    done = assay(
        "verify", "--evidence", world / "evidence", "--suspect", world / "victim.safetensors", "--out", "run"
    )
    assert done.code == 10
    assert done.err == ""
    assert "stolen" in done.out
    verdict = Verdict.load("run/verdict.json")
    assert verdict.stolen
    assert verdict.p_value <= 0.01
    with Path("run/journal.jsonl").open() as journal:
        assert len(journal.readlines()) > 1


def test_an_independent_model_is_inconclusive_and_json_is_all_of_stdout(assay, world):
    done = assay(
        *("verify", "--evidence", world / "evidence", "--suspect", world / "other.safetensors", "--json"),
        *("--price", "0.5", "--budget", "60"),
    )
    assert done.code == 0
    verdict = Verdict.from_dict(done.json)
    assert verdict.decision == "inconclusive"
    assert verdict.queries == 60
    assert verdict.cost.dollars == 30.0


def test_quiet_says_nothing_and_the_environment_sets_options(assay, world):
    command = ["verify", "--evidence", world / "evidence", "--suspect", world / "victim.safetensors"]
    quiet = assay(*command, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (10, "", "")
    done = assay(*command, "--json", env={"ASSAY_ALPHA": "0.2", "ASSAY_SEED": "5", "ASSAY_BUDGET": "99"})
    assert done.json["options"] == {"alpha": 0.2, "budget": 99, "price": 0.0, "rng": 5}


def test_one_model_in_every_format_gets_one_verdict(assay, world, tmp_path, monkeypatch):
    np.save("weight.npy", WEIGHT)
    (tmp_path / "owncode_for_cli.py").write_text(OWN_CODE)
    torch.save(network().state_dict(), "model.pt")
    example = (torch.zeros(2, 1, 8, 8),)
    dynamic = {"input": {0: torch.export.Dim("n", min=1, max=4096)}}
    torch.export.save(torch.export.export(network(), example, dynamic_shapes=dynamic), "model.pt2")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["y"], axis=1),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [helper.make_tensor("w", TensorProto.FLOAT, [64, 10], WEIGHT.T.ravel())],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, "model.onnx")
    linear = LogisticRegression().fit(GENERATOR.normal(size=(30, 64)), np.arange(30) % 10)
    linear.coef_, linear.intercept_ = WEIGHT.astype(np.float64), np.zeros(10)
    skops.io.dump(linear, "model.skops")
    shaped = ["--input-shape", "1,8,8", "--classes", "10"]
    own = [*shaped, "--architecture", "owncode_for_cli:build"]
    declared = [{"name": "y", "datatype": "FP32", "shape": [-1, 10]}]
    predict = lambda x: [tensor(softmax(x.reshape(len(x), -1) @ WEIGHT.T))]  # noqa: E731 - one use
    with OipServer(predict, (1, 8, 8), declared) as server:
        suspects = {
            "model.pt": own,
            "model.pt2": [],
            "model.onnx": [],
            "model.skops": ["--input-shape", "1,8,8"],
            "owncode_for_cli:ask": shaped,
            server.url: ["--timeout", "5"],
        }
        found = {}
        for suspect, options in suspects.items():
            done = assay(
                *("verify", "--evidence", world / "evidence", "--suspect", suspect, *options),
                *("--access", "labels", "--json"),
            )
            assert done.code in (0, 10), (suspect, done.err)
            found[suspect] = (done.json["p_value"], done.json["cost"]["queries"])
    assert len(set(found.values())) == 1, found


def test_a_server_that_is_gone_costs_exit_code_3_and_leaves_nothing(assay, world, tmp_path):
    done = assay(
        *("verify", "--evidence", world / "evidence", "--suspect", "http://127.0.0.1:9/v2/models/m"),
        *("--timeout", "0.2", "--out", "run"),
    )
    assert done.code == 3
    assert done.err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_goes_on_without_asking_twice(assay, world, tmp_path):
    declared = [{"name": "y", "datatype": "INT64", "shape": [-1]}]
    asked = []

    def predict(x):
        asked.append(len(x))
        return [tensor(np.zeros(len(x), dtype=np.int64), "INT64")]

    with OipServer(predict, (1, 8, 8), declared) as server:
        command = [
            *("verify", "--evidence", world / "evidence", "--suspect", server.url, "--classes", "10"),
            *("--batch-size", "16", "--timeout", "2", "--out", "run", "--json"),
        ]
        broken = (400, {}, b"{}")
        server.script = ["pass"] * 4 + [broken] * 20
        first = assay(*command)
        assert first.code != 0
        assert [p.name for p in tmp_path.iterdir()] == ["run.partial"]
        server.script = []
        paid = sum(asked)
        assert paid >= 16
        second = assay(*command)
        assert second.code in (0, 10), second.err
        assert sum(asked) == second.json["cost"]["queries"]
        assert second.json["cost"]["replayed"] == paid
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_several_suspects_share_alpha(assay, world):
    suspects = ("--suspect", world / "other.safetensors", "--suspect", world / "victim.safetensors")
    done = assay("verify", "--evidence", world / "evidence", *suspects, "--out", "runs", "--json")
    assert done.code == 10
    entries = done.json["suspects"]
    assert [e["decision"] for e in entries] == ["inconclusive", "stolen"]
    raw = sorted(e["verdict"]["p_value"] for e in entries)
    adjusted = sorted(e["p_adjusted"] for e in entries)
    assert adjusted[0] == pytest.approx(2 * raw[0])
    assert adjusted[1] == pytest.approx(max(raw[1], adjusted[0]))
    assert all(e["verdict"]["alpha"] == 0.005 for e in entries)
    assert Verdict.load("runs/02-victim.safetensors/verdict.json").stolen
    table = assay("verify", "--evidence", world / "evidence", *suspects)
    assert "p (Holm)" in table.out


@pytest.fixture(scope="module")
def verified(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verified")
    for access in ("labels", "scores"):
        done = run(
            *("verify", "--evidence", world / "evidence", "--suspect", world / "victim.safetensors"),
            *("--access", access, "--out", folder / access, "-q"),
        )
        assert done.code == 10
    return folder


@pytest.mark.parametrize("access", ["labels", "scores"])
def test_a_verdict_is_recomputed_from_its_journal(assay, world, verified, access):
    journal = verified / access / "journal.jsonl"
    before = journal.read_bytes()
    done = assay(
        *("verify-report", verified / access / "verdict.json", "--evidence", world / "evidence"),
        *("--journal", journal, "--json"),
    )
    assert done.code == 0, done.err
    assert done.json["agrees"]
    assert all(f["agree"] for f in done.json["fields"])
    assert journal.read_bytes() == before


def test_a_verdict_is_recomputed_by_asking_again(assay, world, verified):
    command = ["verify-report", verified / "labels/verdict.json", "--evidence", world / "evidence"]
    same = assay(*command, "--suspect", world / "victim.safetensors", "--access", "labels")
    assert same.code == 0, same.err
    other = assay(*command, "--suspect", world / "other.safetensors", "--access", "labels")
    assert other.code == 2
    assert "decision" in other.err
    assert "suspect" in other.err


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("p_value", 1e-9),
        ("decision", "inconclusive"),
        ("n", {"private": 1, "control": 1}),
        ("commitment", "0" * 64),
        ("suspect", "somebody else"),
        ("effect", None),
        ("samples", {}),
    ],
)
def test_a_forged_field_is_named(assay, world, verified, field, value):
    claimed = json.loads((verified / "labels/verdict.json").read_text())
    claimed[field] = value
    with Path("forged.json").open("w") as file:
        json.dump(claimed, file)
    done = assay(
        *("verify-report", "forged.json", "--evidence", world / "evidence"),
        *("--journal", verified / "labels/journal.jsonl"),
    )
    assert done.code == 2
    assert done.err == f"error: forged.json does not follow from this evidence: {field} differ\n"


def test_a_forged_number_of_queries_or_alpha_is_named(assay, world, verified):
    claimed = json.loads((verified / "labels/verdict.json").read_text())
    claimed["cost"]["queries"] += 1
    with Path("forged.json").open("w") as file:
        json.dump(claimed, file)
    command = ["verify-report", "forged.json", "--evidence", world / "evidence"]
    journal = ["--journal", verified / "labels/journal.jsonl"]
    assert "queries differ" in assay(*command, *journal).err
    claimed["options"] = {}
    with Path("forged.json").open("w") as file:
        json.dump(claimed, file)
    assert "cannot be recomputed" in assay(*command, *journal).err


def test_a_changed_journal_is_refused(assay, world, verified):
    shutil.copy(verified / "labels/journal.jsonl", "changed.jsonl")
    with Path("changed.jsonl").open() as file:
        lines = file.readlines()
    entry = json.loads(lines[1])
    entry["answers"] = entry["answers"].replace("A", "B", 1)
    with Path("changed.jsonl").open("w") as file:
        file.writelines([lines[0], json.dumps(entry) + "\n", *lines[2:]])
    done = assay(
        *("verify-report", verified / "labels/verdict.json", "--evidence", world / "evidence"),
        *("--journal", "changed.jsonl"),
    )
    assert done.code == 2
    assert "does not match its hash" in done.err
