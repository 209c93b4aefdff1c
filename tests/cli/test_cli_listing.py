from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from assay.cli.catalogue import lines
from assay.registry import KINDS, registered
from assay.statistics.power import rows_for_power, trigger_queries


def test_the_command_line_starts_without_torch(tmp_path):
    code = (
        "import sys; from typer.testing import CliRunner; from assay.cli.app import app\n"
        "for words in (['--help'], ['verify', '--help'], ['list'], ['list', 'attacks', '--json'],\n"
        "              ['plan', '--effect', '0.5'], ['verify', '--alpha', 'x']):\n"
        "    CliRunner().invoke(app, words)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("kind", KINDS)
def test_the_list_read_from_the_source_is_the_registry(kind):
    for line in lines(kind):
        importlib.import_module(line.module)
    # Other tests register schemes of their own; examples in docstrings do too.
    ours = [
        (e.name, e.summary.replace("``", ""))
        for e in registered(kind)
        if e.target.__module__.startswith("assay.") and not e.name.startswith("example")
    ]
    assert [(line.name, line.summary) for line in lines(kind) if line.module.startswith("assay.")] == ours


def test_list_shows_everything_or_one_kind(assay):
    text = assay("list").out
    for name in ("label-query", "dataset-inference", "trigger-set", "wrn", "onnx", "digits"):
        assert name in text
    found = assay("list", "--json").json
    assert {"attacks", "schemes", "architectures", "models", "data"} <= set(found)
    assert {e["name"] for e in found["schemes"]} >= {"dataset-inference", "trigger-set"}
    assert set(assay("list", "attack", "--json").json) == {"attacks"}
    assert set(assay("list", "extraction", "--json").json) == {"attacks"}


def test_list_explains_hyperparameters(assay):
    found = assay("list", "schemes", "dataset-inference", "--json").json
    keep = next(p for p in found["parameters"] if p["name"] == "keep")
    assert keep["default"] == "2000"
    assert "Rows kept" in keep["documentation"]
    assert found["needs"] == "labels"
    # Inherited hyperparameters are explained where they are declared.
    found = assay("list", "label-query", "--json").json
    assert all(p["documentation"] for p in found["parameters"])
    assert "hyperparameters" in assay("list", "label-query").out
    assert assay("list", "source-copy", "--json").json["needs"] == "weights"
    assert {"name": "n", "default": "5000"}.items() <= next(
        p for p in assay("list", "moons", "--json").json["parameters"] if p["name"] == "n"
    ).items()


def test_every_name_can_be_explained(assay):
    for kind, entries in assay("list", "--json").json.items():
        for entry in entries:
            done = assay("list", kind, entry["name"], "--json")
            assert done.code == 0, done.err
            assert done.json["summary"]


def test_unknown_names_get_a_hint(assay):
    for words, hint in [
        (("list", "label-qery"), "did you mean 'label-query'?"),
        (("list", "atacks"), "did you mean 'attacks'?"),
        (("list", "attacks", "destillation"), "did you mean 'distillation'?"),
        (("list", "zzz"), "assay list"),
    ]:
        done = assay(*words)
        assert done.code == 2
        assert hint in done.err


def test_data_list_says_what_is_found_and_how_to_get_the_rest(assay, tmp_path):
    found = {
        d["name"]: d for d in assay("data", "list", "--json", env={"ASSAY_DATA": str(tmp_path)}).json["data"]
    }
    assert found["digits"]["found"]
    assert found["cifar100"]["how"]
    assert "ASSAY_DATA" in assay("data", "list").out


def test_plan_agrees_with_the_library(assay):
    found = assay("plan", "--effect", "0.5", "--alpha", "0.05", "--power", "0.8", "--json").json
    fixed = rows_for_power(0.5, 0.05, 0.8)
    assert (found["private"], found["control"]) == (fixed.private, fixed.control)
    assert found["queries_one_by_one_median"] <= found["queries_one_by_one_enough"]
    found = assay("plan", "--triggers", "--true-rate", "0.8", "--null-rate", "0.2", "--json").json
    assert found["queries"] == trigger_queries(0.8, 0.2).queries
    assert found["queries_one_by_one_if_stolen"] < found["queries"]
    assert "one_by_one" not in assay("plan", "--triggers", "--true-rate", "1", "--null-rate", "0.1").out
    effect = assay("plan", "--rows", str(fixed.private), "--alpha", "0.05", "--power", "0.8", "--json").json[
        "effect"
    ]
    assert effect == pytest.approx(0.5, abs=0.01)
    assert "private" in assay("plan", "--effect", "1").out
    assert "one_by_one" not in assay("plan", "--effect", "0.01").out


def test_help_and_version(assay):
    assert assay().out == assay("--help").out
    assert assay("--version").out.startswith("assay 0.")
    for name in ("train", "extract", "split", "register", "embed", "verify", "verify-report", "plan", "list"):
        text = assay(name, "--help")
        assert text.code == 0
        for option in ("--json", "--seed", "--device", "--quiet"):
            assert option in text.out
