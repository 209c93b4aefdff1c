"""``assay serve`` as people start it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import httpx
import pytest

for package in ("fastapi", "sqlalchemy", "uvicorn"):
    pytest.importorskip(package, reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from serving import SIZE, make_policy, rows  # noqa: E402 - after the skips

from assay.gateway.policy import save_policy, sign  # noqa: E402 - after the skips

APP = """
import typer
from assay.cli.serve import serve
from assay.cli.verbs import Group, verb

app = typer.Typer(cls=Group, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("serve")(verb(serve))
app.callback()(lambda: None)
app()
"""


def start(folder, *arguments):
    command = [
        sys.executable,
        "-c",
        APP,
        "serve",
        "--keys",
        f"{folder}/keys",
        "--store",
        f"sqlite:///{folder}/g.db",
    ]
    return subprocess.Popen(
        [*command, "--port", "0", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "ASSAY_OPERATOR_TOKEN": "a-token-for-operators",
            "OMP_NUM_THREADS": "1",
        },
    )


def announced(process):
    """Read the JSON object that is printed once requests are answered."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            return json.loads("".join(lines))
    raise AssertionError(process.stderr.read())


def test_a_model_is_served_with_the_policy_of_a_file(tmp_path):
    import oip_process

    from assay.adapters import open_model

    oip_process.write_classifier(tmp_path / "clf.onnx")
    key = tmp_path / "policy.key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    save_policy(sign(make_policy(), key.read_bytes().strip()), tmp_path / "policy.toml")
    process = start(tmp_path, "--model", "clf.onnx", "--policy", "policy.toml", "--policy-key", str(key))
    try:
        told = announced(process)
        assert told["behind"] == "clf.onnx"
        assert httpx.get(f"{told['url']}/v2/models/clf").json()["inputs"][0]["shape"] == [-1, SIZE]
        assert httpx.get(told["operator"]).status_code == 401
        import torch

        asked = open_model(f"{told['url']}/v2/models/clf")
        direct = open_model(tmp_path / "clf.onnx")
        x = torch.from_numpy(rows(4))
        assert torch.allclose(asked.scores(x).double(), direct.scores(x).double(), atol=1e-6)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either --upstream URL or --model FILE"),
        (("--upstream", "http://h:1", "--model", "m.onnx"), "either --upstream URL or --model FILE"),
        (("--upstream", "nowhere"), "no address of a server"),
        (("--upstream", "http://h:1", "--name", "m"), "--name is for a --model"),
        (("--upstream", "http://h:1", "--policy-key", "k"), "--policy-key is for a --policy"),
        (("--upstream", "http://h:1", "--policy", "none.toml"), "cannot read the policy"),
        (("--upstream", "http://h:1", "--store", "mysql://h/d"), "cannot be a 'mysql' database"),
        (("--model", "none.onnx"), "no model file"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, words):
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    import typer

    from assay.cli.serve import serve
    from assay.cli.verbs import Group, verb

    app = typer.Typer(cls=Group, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("serve")(verb(serve))
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["serve", "--port", "0", *arguments])
    assert result.exit_code == 2, result.output
    assert words in result.output + capsys.readouterr().err
