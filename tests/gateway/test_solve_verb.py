import dataclasses
import json
import secrets
import time

import pytest
import typer
from paying_server import KEY, PayingServer
from typer.testing import CliRunner

from assay.cli.solve import solve
from assay.cli.verbs import Group, verb
from assay.puzzles.check import Terms, verify
from assay.puzzles.claims import Claims
from assay.puzzles.difficulty import target64
from assay.puzzles.tokens import mint

app = typer.Typer(cls=Group)
app.callback()(lambda: None)
app.command("solve")(verb(solve))


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("ASSAY_API_TOKEN", "ASSAY_JSON", "ASSAY_QUIET", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments, env=None):
    return CliRunner().invoke(app, ["solve", *map(str, arguments)], env=env)


def challenge(bits=10, **changes):
    now = int(time.time())
    claims = Claims(
        kid="k", target64=target64(bits, 4), k=4, purpose="credit", sub="a", price_units=2.0, iat=now,
        exp=now + 10**6, jti=secrets.token_hex(16),
    )  # fmt: skip
    return mint(dataclasses.replace(claims, **changes), KEY)


def test_a_challenge_becomes_a_proof():
    token = challenge()
    done = run(token)
    assert done.exit_code == 0, done.output
    terms = Terms(now=time.time(), purposes=("credit",), min_bits=10, policies=(0,))
    assert verify(done.stdout.strip(), {"k": KEY}, terms).token == token


def test_programs_get_json():
    found = json.loads(run(challenge(), "--json", "--workers", 1).stdout)
    assert found["bits"] == 10
    assert found["price_units"] == 2.0
    assert found["hashes"] >= 4
    assert found["proof"].count(",") == 3


def test_an_account_is_opened_and_filled():
    with PayingServer() as server:
        done = run(server.url, "--bank", 5, "--workers", 1)
        assert done.exit_code == 0, done.output
        (key,) = server.books
        assert f"ASSAY_API_TOKEN={key}" in done.stdout
        assert "5.00 units" in done.stdout
        more = json.loads(run(server.url, "--bank", 3, "--json", env={"ASSAY_API_TOKEN": key}).stdout)
        assert (more["account_key"], more["credit_units"], more["units"]) == (key, 8.0, 3.0)
        seen = json.loads(run(server.url, "--json", "--account", key).stdout)
        assert (seen["credit_units"], seen["challenges"]) == (8.0, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["noise"], 2, "not a challenge token"),
        ([challenge(), "--bank", "3"], 2, "--bank needs the URL"),
        ([challenge(50)], 3, "3600 s are allowed"),
        ([challenge(40), "--max-seconds", "2"], 3, "2 s are allowed"),
        ([challenge(iat=1000, exp=1060)], 3, "has expired"),
        (["http://127.0.0.1:9/"], 3, "failed"),
        (["http://127.0.0.1:9/?x=1"], 2, "URL"),
    ],
)
def test_mistakes_are_one_sentence(arguments, code, words, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    done = run(*arguments)
    assert done.exit_code == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
