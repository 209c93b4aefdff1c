"""Certificates of callers, against a server on this machine that demands one."""

from __future__ import annotations

import os
import ssl
import time

import numpy as np
import pytest
import torch
from oip_server import OipServer
from tls_server import SCORES, TlsServer, scores, softmax

from assay.adapters import HttpModel, open_model
from assay.adapters.tls import client_context
from assay.errors import InvalidInput, SuspectUnreachable
from assay.gateway.client import Client
from certificates import Authority, run


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in [n for n in os.environ if n.startswith("ASSAY_") or n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An authority, what it issued, and a stranger that another one issued."""
    folder = tmp_path_factory.mktemp("tls")
    ca, other = Authority(folder), Authority(folder, "other")
    return {
        "ca": ca,
        "server": ca.issue("server", server=True),
        "client": ca.issue("client"),
        "stranger": other.issue("stranger"),
        "other": other,
    }


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def server(request, made):
    with TlsServer(made["server"], made["ca"], newest=request.param) as running:
        yield running


def test_a_model_is_asked_with_a_certificate(server, made):
    x = torch.ones(5, 2)
    with open_model(server.url, certificate=made["client"].files, ca=made["ca"].file) as model:
        found = model.scores(x)
    np.testing.assert_allclose(found, softmax(x.numpy()), atol=1e-6)
    assert set(server.shown) == {made["client"].thumbprint}


def test_a_client_shows_its_certificate_from_one_file_or_two(server, made, tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(file.read_bytes() for file in made["client"].files))
    for certificate in (both, str(both), list(map(str, made["client"].files))):
        with Client(server.root, certificate=certificate, ca=made["ca"].file) as client:
            assert client.metadata("m")["name"] == "m"
    assert server.shown == [made["client"].thumbprint] * 3


def test_variables_say_it_for_every_verb(server, made, monkeypatch):
    monkeypatch.setenv("ASSAY_CLIENT_CERT", str(made["client"].certificate))
    monkeypatch.setenv("ASSAY_CLIENT_KEY", str(made["client"].key))
    monkeypatch.setenv("ASSAY_CA_FILE", str(made["ca"].file))
    with HttpModel(server.url) as model:
        assert model.num_classes == 3
    assert server.shown[0] == made["client"].thumbprint
    # They are for encrypted connections, and no reason to refuse another one.
    with OipServer(scores, (2,), SCORES) as plain, HttpModel(plain.url) as model:
        assert model.num_classes == 3


def test_what_is_given_counts_more_than_a_variable(server, made, monkeypatch):
    monkeypatch.setenv("ASSAY_CLIENT_CERT", str(made["stranger"].certificate))
    monkeypatch.setenv("ASSAY_CLIENT_KEY", str(made["stranger"].key))
    monkeypatch.setenv("ASSAY_CA_FILE", "missing.pem")
    with HttpModel(server.url, certificate=made["client"].files, ca=made["ca"].file):
        pass
    assert server.shown[0] == made["client"].thumbprint


def test_no_certificate_and_a_wrong_one_are_told_apart_at_once(server, made):
    begun = time.monotonic()
    with pytest.raises(SuspectUnreachable, match=r"wants a client certificate; give one: --client-cert"):
        HttpModel(server.url, ca=made["ca"].file, backoff=30.0)
    with pytest.raises(SuspectUnreachable, match=r"refuses the client certificate \(its issuer is not known"):
        HttpModel(server.url, ca=made["ca"].file, certificate=made["stranger"].files, backoff=30.0)
    assert time.monotonic() - begun < 10  # what cannot change is not tried again
    assert server.seen == []


def test_a_server_is_trusted_by_its_ca_only(server, made):
    for ca in (None, made["other"].file):
        with pytest.raises(SuspectUnreachable, match=r"not trusted here \(.*; give the file of its CA"):
            HttpModel(server.url, certificate=made["client"].files, ca=ca, backoff=30.0)
    elsewhere = made["ca"].issue("elsewhere", server=True, host="DNS:elsewhere.example")
    with (
        TlsServer(elsewhere, made["ca"]) as other,
        pytest.raises(SuspectUnreachable, match=r"not valid for '127\.0\.0\.1'"),
    ):
        HttpModel(other.url, certificate=made["client"].files, ca=made["ca"].file)
    assert server.seen == other.seen == []


def test_a_server_that_only_asks_answers_without(made):
    with TlsServer(made["server"], made["ca"], needed=False) as server:
        with HttpModel(server.url, ca=made["ca"].file) as model:
            assert model.num_classes == 3
        assert server.shown == [None]


def test_an_address_without_encryption_takes_no_certificate(made):
    with pytest.raises(InvalidInput, match="asked without encryption"):
        Client("http://127.0.0.1:1", certificate=made["client"].files)
    with pytest.raises(InvalidInput, match="asked without encryption"):
        HttpModel("http://127.0.0.1:1/v2/models/m", ca=made["ca"].file)


def test_plain_http_behind_an_https_address_is_named():
    with (
        OipServer(scores, (2,), SCORES) as plain,
        pytest.raises(SuspectUnreachable, match="does not speak TLS; is it an http:// address"),
    ):
        HttpModel(plain.url.replace("http://", "https://"))


def test_files_that_do_not_do_are_named_in_one_sentence(made, tmp_path, monkeypatch):
    good, other = made["client"], made["stranger"]
    sealed, der, empty = tmp_path / "sealed.key", tmp_path / "client.der", tmp_path / "empty.pem"
    run("pkey", "-in", good.key, "-aes256", "-passout", "pass:secret", "-out", sealed)
    run("x509", "-in", good.certificate, "-outform", "DER", "-out", der)
    empty.write_text("")
    torn = tmp_path / "torn.pem"
    torn.write_bytes(good.certificate.read_bytes()[:300] + b"\n-----END CERTIFICATE-----\n")
    for certificate, ca, words in (
        (tmp_path / "none.pem", None, r"there is no certificate file .*none\.pem"),
        ((good.certificate, tmp_path / "none.key"), None, r"there is no key file .*none\.key"),
        (tmp_path, None, "the certificate file .* cannot be read"),
        ("a\0b", None, "cannot be read"),
        ((good.certificate, other.key), None, r"stranger\.key does not fit the certificate in .*client\.pem"),
        (good.certificate, None, "holds no private key beside the certificate"),
        ((good.certificate, other.certificate), None, "holds none; give the PEM file"),
        ((good.certificate, sealed), None, r"sealed\.key wants a passphrase; openssl pkey"),
        ((der, good.key), None, r"client\.der holds no certificate in PEM"),
        ((torn, good.key), None, r"torn\.pem and .*client\.key cannot be used"),
        ((good.certificate, good.key, good.key), None, "got 3 files"),
        (None, tmp_path / "none.pem", r"there is no CA file .*none\.pem"),
        (None, empty, r"empty\.pem holds no certificate in PEM"),
        (None, der, r"client\.der holds no certificate in PEM"),
    ):
        with pytest.raises(InvalidInput, match=words) as caught:
            Client("https://127.0.0.1:1", certificate=certificate, ca=ca)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
    monkeypatch.setenv("ASSAY_CLIENT_KEY", str(good.key))
    with pytest.raises(InvalidInput, match="ASSAY_CLIENT_KEY is set without ASSAY_CLIENT_CERT"):
        client_context()
