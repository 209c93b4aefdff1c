"""Client certificates on the command line, against a server that demands one."""

from __future__ import annotations

import pytest
from command import run
from tls_server import TlsServer

from certificates import Authority


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    ca = Authority(tmp_path_factory.mktemp("tls"))
    return ca, ca.issue("server", server=True), ca.issue("client")


@pytest.fixture
def server(made):
    ca, pair, _ = made
    with TlsServer(pair, ca) as running:
        yield running


def extract(server, *more, env=None):
    return run("extract", "--victim", server.url, "--attack", "equation-solving", "--json", *more, env=env)


def test_a_verb_shows_its_certificate(server, made):
    ca, _, client = made
    files = ["--client-cert", client.certificate, "--client-key", client.key, "--ca-file", ca.file]
    done = extract(server, *files)
    assert done.code == 0, done.err
    assert done.json["cost"]["queries"] > 0
    env = {
        "ASSAY_CLIENT_CERT": str(client.certificate),
        "ASSAY_CLIENT_KEY": str(client.key),
        "ASSAY_CA_FILE": str(ca.file),
    }
    assert extract(server, env=env).code == 0
    assert set(server.shown) == {client.thumbprint}


def test_what_is_missing_or_wrong_is_one_sentence(server, made, tmp_path):
    ca, pair, client = made
    trusted = ["--ca-file", ca.file]
    for code, options, words in (
        (3, trusted, "wants a client certificate; give one: --client-cert FILE and --client-key FILE"),
        (3, ["--client-cert", client.certificate, "--client-key", client.key], "is not trusted here"),
        (2, [*trusted, "--client-key", client.key], "--client-key is for a --client-cert"),
        (2, [*trusted, "--client-cert", client.certificate], "holds no private key beside the certificate"),
        (2, [*trusted, "--client-cert", client.certificate, "--client-key", pair.key], "does not fit"),
        (2, [*trusted, "--client-cert", tmp_path / "none.pem"], "there is no certificate file"),
        (2, ["--ca-file", tmp_path / "none.pem"], "there is no CA file"),
    ):
        done = extract(server, *options)
        assert (done.code, done.out) == (code, ""), (words, done)
        assert words in done.err
        assert done.err.count("\n") == 1
    assert server.seen == []


def test_solve_takes_the_same_options(server, made):
    ca, _, client = made
    root = server.url.removesuffix("/v2/models/m")
    done = run("solve", root, "--ca-file", ca.file)
    assert done.code == 3
    assert "wants a client certificate" in done.err
    run("solve", root, "--ca-file", ca.file, "--client-cert", client.certificate, "--client-key", client.key)
    assert server.seen[0][:2] == ("GET", "/pow/v1/policy")


def test_options_for_servers_are_no_matter_of_files(made, tmp_path):
    _, _, client = made
    done = run(
        "extract", "--victim", tmp_path / "none.onnx", "--attack", "equation-solving",
        "--client-cert", client.certificate, "--client-key", client.key,
    )  # fmt: skip
    assert "there is no model file" in done.err
