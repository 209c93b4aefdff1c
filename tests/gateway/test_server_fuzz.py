"""Thousands of bodies and proofs that nobody would send: never a 5xx, never an inference, never a pickle."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import SIZE, as_binary, as_json, ask, make_policy, rows, serving, solve

FEW = 150
MANY = 10_000
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("fuzz"), make_policy(limits={"challenges_hz": 1e6})) as running:
        yield running


class Trap:
    """Whoever unpickles this leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path(self.path).touch, ())


# --- what is sent --------------------------------------------------------------------------------
names = st.sampled_from(["x", "X", "y", ""]) | st.text(max_size=5)
datatypes = st.sampled_from(
    ["FP32", "FP64", "INT8", "BOOL", "BYTES", "BF16", "fp32", "object", "pickle"]
) | st.text(max_size=4)
sizes = st.integers(-1, 9) | st.sampled_from([0, 2**31, 2**63, 2**70]) | st.booleans() | st.floats()
shapes = st.lists(sizes, max_size=4) | st.sampled_from([[1, SIZE], [2, SIZE]])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
numbers = st.lists(st.floats(width=32) | st.integers(-9, 9), min_size=SIZE, max_size=SIZE)
parameters = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data", "pow", "shared_memory_region", "binary_data_output"]),
    st.integers(-1, 100) | anything,
    max_size=2,
)
tensors = st.fixed_dictionaries(
    {"name": names, "datatype": datatypes, "shape": shapes},
    optional={"data": numbers | anything, "parameters": parameters | anything, "extra": leaves},
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3) | anything},
    optional={"id": leaves, "parameters": parameters | anything, "outputs": anything},
)
lengths = (
    st.none() | st.sampled_from([b"-1", b"x", b"9" * 30, b""]) | st.integers(0, 300).map(lambda n: b"%d" % n)
)


@st.composite
def bodies(draw):
    """A body, and what is said about its length; near to a good one as often as far from it."""
    kind = draw(st.sampled_from(["json", "binary", "mutated", "noise", "pickle"]))
    if kind == "noise":
        return draw(st.binary(max_size=300)), draw(lengths)
    if kind == "pickle":
        trap = pickle.dumps(Trap(os.environ["ASSAY_TEST_TRAP"]), protocol=draw(st.integers(0, 5)))
        head = {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "BYTES",
                    "shape": [1],
                    "parameters": {"binary_data_size": len(trap)},
                }
            ]
        }
        raw = json.dumps(head).encode()
        return draw(
            st.sampled_from([(trap, None), (raw + trap, str(len(raw)).encode()), (trap, b"%d" % len(trap))])
        )
    if kind == "mutated":
        body, headers = as_binary(rows(draw(st.integers(1, 3))))
        raw = bytearray(body)
        for _ in range(draw(st.integers(1, 4))):
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
        return bytes(raw), headers["Inference-Header-Content-Length"].encode()
    text = json.dumps(draw(requests)).encode()
    if kind == "json":
        return text, draw(lengths) if draw(st.booleans()) else None
    tail = draw(st.binary(max_size=80) | st.sampled_from([struct.pack("<8f", *range(8)), b"\x04\0\0\0abcd"]))
    return text + tail, str(len(text)).encode()


tokens = st.text(alphabet="ABab01_-.", max_size=60) | st.text(max_size=20)
proofs = st.builds(
    lambda token, nonces, between: token + between + nonces,
    tokens,
    st.lists(st.integers(-1, 2**65), max_size=70).map(lambda n: ",".join(map(str, n))) | st.text(max_size=20),
    st.sampled_from([";", "", ",", ";;"]),
)


def check_body(gateway, given_body):
    body, length = given_body
    status, headers, content = gateway.run(ask(gateway.app, body, length))
    # 428 is the answer to a body that happens to be good.
    assert status in (400, 413, 422, 428), (status, content)
    assert headers[b"content-type"] == b"application/problem+json"
    assert json.loads(content)["status"] == status
    assert gateway.upstream.count == 0
    assert not Path(os.environ["ASSAY_TEST_TRAP"]).exists()


def check_proof(gateway, text):
    body = json.dumps(as_json(rows(1))).encode()
    status, _, _ = gateway.run(ask(gateway.app, body, proof=text.encode("utf-8", "surrogatepass")))
    assert status == 403
    inside = json.dumps(as_json(rows(1), parameters={"pow": text})).encode()
    status, _, _ = gateway.run(ask(gateway.app, inside))
    assert status in (400, 403)
    redeem = json.dumps({"proof": text}).encode()
    status, _, content = gateway.run(ask(gateway.app, redeem, path="/pow/v1/redeem"))
    assert status in (400, 403, 422), content
    assert gateway.upstream.count == 0


@pytest.fixture(autouse=True)
def trap(tmp_path, monkeypatch):
    monkeypatch.setenv("ASSAY_TEST_TRAP", str(tmp_path / "sprung"))


@given(bodies())
@settings(max_examples=FEW, deadline=None, suppress_health_check=QUIET)
def test_bodies(gateway, given_body):
    check_body(gateway, given_body)


@given(proofs)
@settings(max_examples=FEW // 2, deadline=None, suppress_health_check=QUIET)
def test_proofs(gateway, text):
    check_proof(gateway, text)


@pytest.mark.slow
@given(bodies())
@settings(max_examples=MANY, deadline=None, suppress_health_check=QUIET)
def test_ten_thousand_bodies(gateway, given_body):
    check_body(gateway, given_body)


@pytest.mark.slow
@given(proofs)
@settings(max_examples=MANY, deadline=None, suppress_health_check=QUIET)
def test_ten_thousand_proofs(gateway, text):
    check_proof(gateway, text)


def test_the_trap_would_spring():
    trap = pickle.dumps(Trap(os.environ["ASSAY_TEST_TRAP"]))
    pickle.loads(trap)
    assert Path(os.environ["ASSAY_TEST_TRAP"]).exists()


@given(st.integers(0, 10**6), st.integers(0, 93))
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
def test_a_proof_with_any_change_is_refused(gateway, place, letter):
    body = json.dumps(as_json(rows(1))).encode()
    _, _, content = gateway.run(ask(gateway.app, body))
    proof = solve(json.loads(content)["challenge"])
    at = place % len(proof)
    changed = (
        proof[:at] + [chr(c) for c in range(33, 127) if chr(c) != proof[at]][letter % 93] + proof[at + 1 :]
    )
    status, _, _ = gateway.run(ask(gateway.app, body, proof=changed.encode()))
    # Another nonce that also solves its part would be a proof as well.
    assert status == 403 or (at > proof.index(";") and status == 200)


# --- the OpenAPI document against the application ------------------------------------------------------
class Started:
    """The application without its life, which the fixture has begun already."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        for _ in range(2):
            event = (await receive())["type"]
            await send({"type": f"{event}.complete"})


def conformance(gateway, examples):
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from schemathesis.specs.openapi import checks as openapi

    schema = schemathesis.openapi.from_asgi("/openapi.json", Started(gateway.app))
    assert schema.specification.version.startswith("3.1")
    checks = [
        schemathesis.checks.not_a_server_error,
        openapi.status_code_conformance,
        openapi.content_type_conformance,
        openapi.response_schema_conformance,
    ]
    seen, positive = set(), schemathesis.GenerationMode.POSITIVE
    for result in schema.get_all_operations():
        operation = result.ok()
        # What takes no body has nothing in it that could be wrong.
        modes = [positive, schemathesis.GenerationMode.NEGATIVE] if operation.body else [positive]
        for mode in modes:

            @given(operation.as_strategy(generation_mode=mode), st.booleans())
            @settings(
                max_examples=examples if operation.body or examples < FEW else FEW,
                deadline=None,
                suppress_health_check=[*QUIET, HealthCheck.filter_too_much],
                database=None,
            )
            def run(case, there):
                if there:
                    # Made-up models and account keys are all unknown; these names are served, without a key.
                    names = case.path_parameters or {}
                    names.update({k: v for k, v in {"model": "m", "version": "1"}.items() if k in names})
                    (case.headers or {}).pop("Authorization", None)
                    if case.operation.label == "POST /pow/v1/challenge":
                        case.body = {"purpose": "credit", "units": 2}
                response = case.call()
                case.validate_response(response, checks=checks)
                seen.add((case.operation.label, response.status_code))

            run()
    return seen


def test_the_application_is_what_its_document_says(gateway):
    seen = conformance(gateway, 6)
    assert len({label for label, _ in seen}) == 14
    assert ("GET /v2/models/{model}", 200) in seen
    assert ("POST /pow/v1/challenge", 200) in seen
    assert gateway.upstream.count == 0


@pytest.mark.slow
def test_the_application_is_what_its_document_says_at_length(gateway):
    conformance(gateway, 150)


def test_the_loop_is_not_blocked_by_what_is_refused(gateway):
    """Hostile bodies cost little: nesting, long numbers and many tensors are refused early."""
    import time

    hostile = [
        b'{"inputs":' + b"[" * 60_000,
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,8],"data":'
        + b"[" * 20_000
        + b"]" * 20_000
        + b"}]}",
        b'{"inputs":[{"name":"x","datatype":"INT64","shape":[1,1],"data":[' + b"9" * 60_000 + b"]}]}",
        b'{"a":' * 10_000,
        b'{"inputs":[' + b"{}," * 20_000 + b"{}]}",
        b'{"inputs":"' + b"\\u0041" * 10_000 + b'"}',
    ]
    begun = time.process_time()
    for body in hostile:
        status, _, _ = gateway.run(ask(gateway.app, body))
        assert status in (400, 413)
    assert time.process_time() - begun < 2.0
