"""Accounts bound to client certificates, as a proxy in front tells about them."""

import base64
import hashlib
from urllib.parse import quote

import httpx
import pytest
from pydantic import ValidationError

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import as_json, make_policy, rows, serving, solve

from assay.gateway.policy import Binding
from assay.gateway.server.binding import client_of, thumbprint
from assay.gateway.server.problems import BadQuery, Forbidden
from assay.puzzles.tokens import read_claims

HEADER, PROXY = "X-Client-Cert", "10.1.2.3"
A, B = "a1" * 32, "b2" * 32
DER = b"\x30\x82" + bytes(range(200))
PEM = "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(DER).decode() + "-----END CERTIFICATE-----\n"


class Behind:
    """Asks as a proxy at some address would."""

    def __init__(self, running, address=PROXY):
        self._running = running
        transport = httpx.ASGITransport(running.app, client=(address, 4711))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    def __call__(self, path, content, client=None, key=None, proof=None):
        headers = {HEADER: client} if client is not None else {}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        headers |= {"PoW-Proof": proof} if proof else {}
        return self._running.run(self._http.post(path, json=content, headers=headers))

    def infer(self, x, client=None, **more):
        return self("/v2/models/m/infer", as_json(x), client, **more)


def bound(policy=None, **changes):
    policy = policy or make_policy()
    binding = Binding(**({"header": HEADER, "proxies": ("10.1.0.0/16", "::1")} | changes))
    return policy.model_copy(update={"binding": binding})


@pytest.fixture
def gateway(tmp_path):
    with serving(tmp_path, bound()) as running:
        yield running


def test_a_proof_is_good_with_its_certificate_only(gateway):
    ask, x = Behind(gateway), rows(2)
    asked = ask.infer(x, A)
    assert asked.status_code == 428
    claims = read_claims(asked.json()["challenge"])
    assert claims.client == A
    proof = solve(asked.json()["challenge"])
    stranger = Behind(gateway, "192.0.2.1")
    for refused in (
        ask.infer(x, B, proof=proof),
        ask.infer(x, proof=proof),
        stranger.infer(x, A, proof=proof),
    ):
        assert refused.status_code == 403, refused.text
        assert refused.json()["type"].endswith("proof-invalid")
    assert gateway.upstream.count == 0
    assert ask.infer(x, A, proof=proof).status_code == 200
    assert ask.infer(x, A, proof=proof).status_code == 409


def test_a_certificate_is_one_account_and_needs_no_key(gateway):
    ask, x = Behind(gateway), rows(1)
    asked = ask.infer(x, A)
    assert "account_key" not in asked.json()
    paid = ask.infer(x, A, proof=solve(asked.json()["challenge"]))
    assert (paid.status_code, "pow-account" in paid.headers) == (200, False)
    # The same certificate in another spelling, without a key or a proof.
    again = ask.infer(x, ":".join(A[i : i + 2] for i in range(0, 64, 2)).upper())
    assert again.status_code == 200
    assert ask.infer(x, B).status_code == 428
    assert ask("/pow/v1/account", None, A).json()["account"] == asked.json()["account"]


def test_the_key_of_a_bound_account_is_good_with_its_certificate_only(gateway):
    ask, x = Behind(gateway), rows(1)
    given = ask("/pow/v1/challenge", {"purpose": "deposit"}, A).json()
    proof = solve(given["challenge"])
    assert ask("/pow/v1/redeem", {"proof": proof}, B).status_code == 403
    assert ask("/pow/v1/redeem", {"proof": proof}).status_code == 403
    key = ask("/pow/v1/redeem", {"proof": proof}, A).json()["account_key"]
    assert ask.infer(x, A, key=key).status_code == 200
    for client in (B, None):
        refused = ask.infer(x, client, key=key)
        assert refused.status_code == 401, refused.text
    # Nor does a key without a certificate turn into one with.
    plain = Behind(gateway)("/pow/v1/account", None).json()["account_key"]
    assert ask.infer(x, A, key=plain).status_code == 401
    assert ask.infer(x, key=plain).status_code == 428


def test_nobody_but_the_proxy_is_believed(gateway):
    x = rows(1)
    for address in ("10.2.0.1", "192.0.2.1"):
        asked = Behind(gateway, address).infer(x, A)
        assert read_claims(asked.json()["challenge"]).client == ""
    # IPv4 addresses of sockets that take both kinds.
    asked = Behind(gateway, "::ffff:10.1.2.3").infer(x, A)
    assert read_claims(asked.json()["challenge"]).client == A


def test_memory_hard_proofs_are_bound_as_well(tmp_path):
    from assay.puzzles.solver import Solver

    policy = make_policy(
        puzzle={"alg": "scrypt", "k": 1, "min_bits": 0.0, "max_bits": 1.0}, hashes_per_unit=1 / 16
    )
    with serving(tmp_path, bound(policy)) as gateway, Solver(workers=1) as solver:
        ask, x = Behind(gateway), rows(1)
        proof = solver.solve(ask.infer(x, A).json()["challenge"]).proof
        assert ask.infer(x, B, proof=proof).status_code == 403
        assert ask.infer(x, proof=proof).status_code == 403
        assert ask.infer(x, A, proof=proof).status_code in (200, 428)


def test_certificates_can_be_required(tmp_path):
    with serving(tmp_path, bound(required=True)) as gateway:
        ask, x = Behind(gateway), rows(1)
        assert ask.infer(x, A).status_code == 428
        for refused in (ask.infer(x), ask.infer(x, ""), Behind(gateway, "192.0.2.1").infer(x, A)):
            assert refused.status_code == 403
            assert "client certificate" in refused.json()["detail"]
        assert ask("/pow/v1/account", None).status_code == 403
        assert gateway.get("/v2/health/ready").status_code == 200
        assert gateway.upstream.count == 0


def test_a_header_that_cannot_be_read_is_refused(gateway):
    ask, x = Behind(gateway), rows(1)
    for value in ("nonsense", A[:-1], f"{A},{B}", f"Hash={A},Hash={B}", quote(PEM + PEM), "x" * 17_000):
        refused = ask.infer(x, value)
        assert refused.status_code == 400, value[:40]
    scope = {"client": (PROXY, 1), "headers": [(HEADER.lower().encode(), v.encode()) for v in (A, B)]}
    with pytest.raises(BadQuery, match="twice"):
        client_of(bound().binding, scope)
    with pytest.raises(Forbidden):
        client_of(bound(required=True).binding, scope | {"client": None})


@pytest.mark.parametrize(
    "value",
    [
        PEM.replace("\n", ""),
        quote(PEM),
        quote(PEM, safe=""),
        base64.b64encode(DER).decode(),
        hashlib.sha256(DER).hexdigest().upper(),
        f'By=spiffe://cluster/gateway;Hash={hashlib.sha256(DER).hexdigest()};Subject="CN=x,O=y"',
    ],
)
def test_every_proxys_way_of_writing_gives_the_same_thumbprint(value):
    assert thumbprint(value.encode()) == hashlib.sha256(DER).hexdigest()


LYFT = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688"


@pytest.mark.parametrize(
    "element",
    [
        # As the manual of Envoy shows it.
        'By=http://frontend.lyft.com;Hash={};Subject="/C=US/ST=CA/L=San Francisco/CN=Test Client";URI=http://b',
        "By=http://frontend.lyft.com;Hash={};URI=http://testclient.lyft.com",
        "Hash={}",
        'hash="{}";Subject=""',
        'By=spiffe://a;Hash={};Cert="-----BEGIN%20CERTIFICATE-----%0Ax%3D%3D";DNS=a.example;DNS=b.example',
        # A caller chooses its subject; what it writes there is no hash, and no second element.
        f'Hash={{}};Subject="CN=x;Hash={A};By=y"',
        f'Hash={{}};Subject="CN=\\"x\\",Hash={A}"',
    ],
)
def test_envoys_element_is_read_by_its_hash(element):
    assert thumbprint(element.format(LYFT).encode()) == LYFT
    assert thumbprint(element.format(LYFT.upper()).encode()) == LYFT


@pytest.mark.parametrize(
    "value",
    [
        f"By=a;Hash={A},By=b;Hash={B}",
        f"Hash={A};Hash={B}",
        f"Hash={A};URI=x;Hash={A}",
        "By=http://frontend.lyft.com;URI=http://testclient.lyft.com",
        f'By=a;Subject="CN=x;Hash={A}"',
        f"By=a;URI=spiffe://x,Hash={A}",
        f'By=a;Hash={A};Subject="CN=x',
        f"Hash={A[:-2]}",
        f"Hash={A};",
        f";Hash={A}x",
    ],
)
def test_what_envoy_does_not_write_is_refused(value):
    with pytest.raises(BadQuery):
        thumbprint(value.encode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"header": "X-Client-Cert"},
        {"proxies": ("10.0.0.1",)},
        {"required": True},
        {"header": "a b", "proxies": ("10.0.0.1",)},
        {"header": "Authorization", "proxies": ("10.0.0.1",)},
        {"header": "X-Client-Cert", "proxies": ("10.0.0.1/8",)},
        {"header": "X-Client-Cert", "proxies": ("proxy.example.com",)},
    ],
)
def test_half_a_binding_is_none(wrong):
    with pytest.raises(ValidationError):
        Binding(**wrong)


def test_headers_about_the_callers_address_are_not_believed(monkeypatch, tmp_path):
    """Whoever may claim an address could claim the proxy's."""
    from assay.gateway.server import run

    seen = {}

    class Server:
        def __init__(self, config, *_):
            seen["config"] = config

        def run(self, sockets):
            pass

    monkeypatch.setattr(run, "_Server", Server)
    with serving(tmp_path, bound()) as running:
        run.run_gateway(running.gateway, sockets=[])
    assert seen["config"].proxy_headers is False
