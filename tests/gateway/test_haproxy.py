"""The HAProxy example in front of a real gateway, with certificates that openssl has made."""

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from listening import listening
from serving import as_json, make_policy, rows
from test_examples import Replica

from assay.errors import SuspectUnreachable
from assay.gateway.client import Client
from assay.gateway.policy import Binding
from assay.puzzles.tokens import read_claims
from certificates import Authority

EXAMPLE = Path(__file__).parents[2] / "examples" / "haproxy" / "gateway.cfg"
HAPROXY = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
INFER = "/v2/models/m/infer"


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("ASSAY_API_TOKEN", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Authorities of the server and of its callers; certificates of both, and of a stranger."""
    folder = tmp_path_factory.mktemp("certificates")
    servers, callers, others = (Authority(folder, name) for name in ("servers", "callers", "others"))
    return {
        "servers": servers,
        "callers": callers,
        "server": servers.issue("models", server=True),
        "alice": callers.issue("alice"),
        "bob": callers.issue("bob"),
        "stranger": others.issue("stranger"),
    }


@contextmanager
def balancer(folder, made, ports, *changes):
    """Run HAProxy with the example, on other addresses; yield its port."""
    if HAPROXY is None:
        pytest.skip("HAProxy is not installed: apt install haproxy")
    both = folder / "models.pem"
    both.write_bytes(b"".join(file.read_bytes() for file in made["server"].files))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = EXAMPLE.read_text()
    for old, new in (
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("/etc/ssl/models.pem", str(both)),
        ("/etc/ssl/clients-ca.crt", str(made["callers"].file)),
        ("10.0.0.11:8080", f"127.0.0.1:{ports[0]}"),
        ("10.0.0.12:8080", f"127.0.0.1:{ports[1]}"),
        *changes,
    ):
        assert old in text
        text = text.replace(old, new)
    # What the example leaves to the reader; without it HAProxy guesses how many connections it may have.
    (folder / "gateway.cfg").write_text(f"global\n    maxconn 200\n{text}")
    command = [HAPROXY, "-f", folder / "gateway.cfg", "-db"]
    checked = subprocess.run([*command, "-c"], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr, checked.stderr
    log = folder / "haproxy.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < end, "HAProxy does not listen"
                assert server.poll() is None, log.read_text()
                time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def proxied(tmp_path, made):
    """A gateway whose accounts are bound to certificates, and the port of the proxy before it."""
    policy = make_policy().model_copy(
        update={"binding": Binding(header="X-Client-Cert", proxies=("127.0.0.1",))}
    )
    with listening(tmp_path, policy) as (url, model):
        inside = int(url.rpartition(":")[2])
        with balancer(tmp_path, made, (inside, inside)) as port:
            yield port, model


def context_of(made, pair):
    context = ssl.create_default_context(cafile=made["servers"].file)
    if pair is not None:
        context.load_cert_chain(*pair.files)
    return context


def connect(port, context, session=None):
    plain = socket.create_connection(("127.0.0.1", port), 10)
    link = http.client.HTTPConnection("127.0.0.1", port)
    link.sock = context.wrap_socket(plain, server_hostname="127.0.0.1", session=session)
    return link


def ask(port, made, pair=None, *, method="POST", path=INFER, headers=()):
    """Ask through the proxy; return status and body."""
    link = connect(port, context_of(made, pair))
    try:
        link.putrequest(method, path)
        body = json.dumps(as_json(rows(1))).encode() if method == "POST" else b""
        for name, value in (*headers, ("Content-Type", "application/json"), ("Content-Length", len(body))):
            link.putheader(name, value)
        link.endheaders(body)
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def client_of(text):
    return read_claims(json.loads(text)["challenge"]).client


def test_a_certificate_reaches_the_gateway_as_its_thumbprint(proxied, made):
    port, _ = proxied
    for name in ("alice", "bob"):
        status, text = ask(port, made, made[name])
        assert (status, client_of(text)) == (428, made[name].thumbprint)
    status, text = ask(port, made)
    assert (status, client_of(text)) == (428, "")


def test_what_callers_write_themselves_is_replaced(proxied, made):
    port, _ = proxied
    forged = made["bob"].thumbprint
    for headers in (
        [("X-Client-Cert", forged)],
        [("x-client-cert", forged), ("X-CLIENT-CERT", forged)],
        [("X-Client-Cert", forged), ("X-Forwarded-For", "127.0.0.1")],
    ):
        status, text = ask(port, made, headers=headers)
        assert (status, client_of(text)) == (428, "")
        status, text = ask(port, made, made["alice"], headers=headers)
        assert (status, client_of(text)) == (428, made["alice"].thumbprint)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_keeps_its_certificate(proxied, made, newest):
    """Nothing is shown again then: the proxy must know it from the session."""
    port, _ = proxied
    context = context_of(made, made["alice"])
    context.maximum_version = newest
    session, resumed = None, []
    for _ in range(3):
        link = connect(port, context, session)
        secure = link.sock
        resumed.append(secure.session_reused)
        link.request("POST", INFER, json.dumps(as_json(rows(1))), {"Content-Type": "application/json"})
        assert client_of(link.getresponse().read()) == made["alice"].thumbprint
        session = secure.session  # in TLS 1.3 it comes after the handshake
        link.close()
    assert resumed == [False, True, True]


def test_a_certificate_of_another_authority_ends_the_handshake(proxied, made):
    port, model = proxied
    url, ca = f"https://127.0.0.1:{port}", made["servers"].file
    with (
        Client(url, certificate=made["stranger"].files, ca=ca) as client,
        pytest.raises(SuspectUnreachable, match="refuses the client certificate"),
    ):
        client.infer("m", {"x": rows(1)})
    assert model.count == 0


def test_the_paying_client_is_bound_through_the_proxy(proxied, made):
    port, model = proxied
    url, ca = f"https://127.0.0.1:{port}", made["servers"].file
    with Client(url, certificate=made["alice"].files, ca=ca, workers=1) as client:
        for seed in range(4):
            assert client.infer("m", {"x": rows(1, seed)})["scores"].shape == (1, 4)
        assert client.account_key is None  # the certificate is the account
        mine = client.account()
        assert client.paid.challenges >= 1
        receipt = client.bank(20)
    with Client(url, certificate=made["alice"].files, ca=ca, workers=1) as again:
        assert again.account()["account"] == mine["account"]
        again.infer("m", {"x": rows(1, 9)})
        assert again.paid.challenges == 0
    with (
        Client(url, certificate=made["bob"].files, ca=ca, workers=1) as other,
        pytest.raises(SuspectUnreachable, match="does not exist yet"),
    ):
        other.account()
    # The key of a bound account is nothing without the certificate.
    for pair in (None, made["bob"]):
        status, _ = ask(port, made, pair, headers=[("Authorization", f"Bearer {receipt.account_key}")])
        assert status == 401
    assert model.count == 5


def test_a_proxy_that_requires_certificates_says_so_to_a_client_without(tmp_path, made):
    with (
        listening(tmp_path) as (url, model),
        balancer(
            tmp_path, made, [int(url.rpartition(":")[2])] * 2, ("verify optional", "verify required")
        ) as port,
    ):
        with (
            Client(f"https://127.0.0.1:{port}", ca=made["servers"].file) as client,
            pytest.raises(SuspectUnreachable, match="wants a client certificate"),
        ):
            client.policy()
        assert model.count == 0


def test_the_inside_stays_inside(proxied, made):
    port, _ = proxied
    for path in (
        "/operator",
        "/operator/accounts",
        "/metrics",
        "/%6fperator",
        "//operator",
        "/%6Detrics?a=b",
    ):
        status, text = ask(port, made, method="GET", path=path)
        assert status == 404, path
        assert b"problem" not in text, path  # the proxy's own answer: the gateway was not asked
    assert ask(port, made, method="GET", path="/pow/v1/policy")[0] == 200


def test_no_request_is_sent_twice_and_dead_replicas_are_left_out(tmp_path, made):
    rude, kind = Replica(answers=False), Replica()
    try:
        quiet = (" check inter 2s", "")  # its questions would be counted
        with balancer(tmp_path, made, (rude.port, kind.port), quiet) as port:
            statuses = [ask(port, made)[0] for _ in range(4)]
            # What a replica has read may have been paid for: no other one gets it.
            assert rude.count == statuses.count(502) >= 1
            assert kind.count == statuses.count(200) >= 1
            assert re.search(rb"(?i)^x-client-cert:", kind.headers, re.MULTILINE) is None
            rude.close()
            assert [ask(port, made)[0] for _ in range(4)] == [200] * 4
    finally:
        rude.close()
        kind.close()
