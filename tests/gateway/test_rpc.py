"""The inference protocol over gRPC: the same answers, prices and refusals as over REST."""

import json
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("grpc", reason="grpcio is not installed: assay-ml[grpc]")

import grpc
from serving import CLASSES, SIZE, Counted, make_policy, rows, serving, solve

from assay.errors import InvalidInput
from assay.gateway.policy import Binding
from assay.gateway.rpc.convert import body_of, response_of
from assay.gateway.rpc.schema import METHODS, SERVICE, messages
from assay.gateway.rpc.service import PROBLEM, RpcServer
from assay.gateway.server.problems import BadQuery
from assay.gateway.server.wire import parse_query
from assay.puzzles.tokens import read_claims

M = messages()


class Calling:
    """A plain client of one gateway."""

    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.port = port

    def __call__(self, method, request, **metadata):
        asked, answered = METHODS[method]
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=getattr(M, asked).SerializeToString,
            response_deserializer=getattr(M, answered).FromString,
        )
        named = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        return call.with_call(request, metadata=named, timeout=20)

    def infer(self, x, **metadata):
        answer, call = self("ModelInfer", ask(x), **metadata)
        return answer, dict(call.trailing_metadata())

    def refused(self, request, code, method="ModelInfer", **metadata):
        with pytest.raises(grpc.RpcError) as caught:
            self(method, request, **metadata)
        assert caught.value.code() == getattr(grpc.StatusCode, code), caught.value.details()
        told = dict(caught.value.trailing_metadata())
        return (json.loads(told[PROBLEM]) if PROBLEM in told else {}), told


def ask(x, model="m", **members):
    request = M.ModelInferRequest(model_name=model, **members)
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    request.raw_input_contents.append(x.tobytes())
    return request


@contextmanager
def calling(folder, policy=None, upstream=None):
    with serving(folder, policy, upstream) as running:
        server = RpcServer(running.app, "127.0.0.1", 0)
        running.run(server.start())
        client = Calling(server.port)
        try:
            yield running, client
        finally:
            client.channel.close()
            running.run(server.stop(5.0))


@pytest.fixture
def both(tmp_path):
    with calling(tmp_path) as found:
        yield found


def test_a_stranger_pays_and_is_answered_as_over_rest(both):
    running, client = both
    x = rows(2)
    problem, told = client.refused(ask(x), "FAILED_PRECONDITION")
    assert problem["status"] == 428
    assert problem["account_key"] == told["pow-account"]
    assert running.upstream.count == 0
    proof = solve(problem["challenge"])
    answer, told = client.infer(x, pow_proof=proof)
    assert json.loads(told["pow-receipt"])["jti"] == read_claims(problem["challenge"]).jti
    assert (answer.model_name, answer.outputs[0].name, list(answer.outputs[0].shape)) == (
        "m",
        "scores",
        [2, CLASSES],
    )
    key = problem["account_key"]
    rest = running.infer(x, key=key).json()["outputs"][0]["data"]
    assert np.frombuffer(answer.raw_output_contents[0], "<f4") == pytest.approx(rest)
    again, _ = client.refused(ask(x), "ALREADY_EXISTS", pow_proof=proof)
    assert again["status"] == 409
    # A known account needs its key and nothing else.
    answer, told = client.infer(x, authorization=f"Bearer {key}")
    assert "pow-receipt" not in told


def test_a_challenge_of_either_door_is_good_at_the_other(both):
    running, client = both
    x = rows(1)
    proof = solve(running.infer(x).json()["challenge"])
    assert client.infer(x, pow_proof=proof)[0].outputs[0].name == "scores"
    problem, _ = client.refused(ask(rows(1, seed=1)), "FAILED_PRECONDITION")
    assert running.infer(rows(1, seed=1), proof=solve(problem["challenge"])).status_code == 200


def test_refusals_have_their_codes_and_run_no_model(both):
    running, client = both
    x = rows(1)
    proof = solve(client.refused(ask(x), "FAILED_PRECONDITION")[0]["challenge"])
    client.refused(ask(rows(1, seed=5)), "PERMISSION_DENIED", pow_proof=proof)
    client.refused(ask(x), "PERMISSION_DENIED", pow_proof="nonsense")
    client.refused(ask(x), "UNAUTHENTICATED", authorization="Bearer a1.nobody")
    client.refused(ask(x, model="other"), "NOT_FOUND")
    client.refused(ask(x, model=""), "NOT_FOUND")
    client.refused(ask(x, model="m/versions/1"), "NOT_FOUND")
    client.refused(ask(rows(9)), "INVALID_ARGUMENT")
    client.refused(ask(x[:, :3]), "INVALID_ARGUMENT")
    short = ask(x)
    short.raw_input_contents[0] = b"123"
    client.refused(short, "INVALID_ARGUMENT")
    both_ways = ask(x)
    both_ways.inputs[0].contents.fp32_contents.append(1.0)
    client.refused(both_ways, "INVALID_ARGUMENT")
    shared = ask(x)
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    client.refused(shared, "INVALID_ARGUMENT")
    # More than a body may have: gRPC itself refuses.
    client.refused(ask(np.zeros((8, 64 * 1024), np.float32)), "RESOURCE_EXHAUSTED")
    assert running.upstream.count == 0


def test_a_model_that_is_down_costs_nothing(tmp_path):
    with calling(tmp_path) as (running, client):
        key = running.open_account()
        running.settled()
        running.upstream.down = True
        problem, told = client.refused(ask(rows(1)), "UNAVAILABLE", authorization=f"Bearer {key}")
        assert problem["status"] == 503
        assert int(told["retry-after"]) > 0
        answer, _ = client("ServerReady", M.ServerReadyRequest())
        assert answer.ready is False
        assert running.store.unbalanced() == []


def test_what_is_served_is_described(both):
    _, client = both
    assert client("ServerLive", M.ServerLiveRequest())[0].live
    assert client("ServerReady", M.ServerReadyRequest())[0].ready
    assert client("ModelReady", M.ModelReadyRequest(name="m", version="2"))[0].ready
    assert "proof_of_work" in client("ServerMetadata", M.ServerMetadataRequest())[0].extensions
    found = client("ModelMetadata", M.ModelMetadataRequest(name="m"))[0]
    assert (found.inputs[0].name, list(found.inputs[0].shape)) == ("x", [-1, SIZE])
    client.refused(M.ModelMetadataRequest(name="n"), "NOT_FOUND", method="ModelMetadata")
    client.refused(M.ModelReadyRequest(name="../m"), "NOT_FOUND", method="ModelReady")


def test_certificates_bind_here_as_well(tmp_path):
    policy = make_policy().model_copy(
        update={"binding": Binding(header="X-Client-Cert", proxies=("127.0.0.1",))}
    )
    with calling(tmp_path, policy) as (_, client):
        x, one, other = rows(1), "a1" * 32, "b2" * 32
        problem, _ = client.refused(ask(x), "FAILED_PRECONDITION", x_client_cert=one)
        assert read_claims(problem["challenge"]).client == one
        proof = solve(problem["challenge"])
        client.refused(ask(x), "PERMISSION_DENIED", pow_proof=proof, x_client_cert=other)
        client.refused(ask(x), "PERMISSION_DENIED", pow_proof=proof)
        client.infer(x, pow_proof=proof, x_client_cert=one)


def test_a_call_that_is_given_up_is_still_billed(tmp_path):
    import asyncio
    import time

    upstream = Counted()
    with calling(tmp_path, upstream=upstream) as (running, client):
        key = running.open_account()
        running.settled()

        async def gate():
            return asyncio.Event()

        upstream.gate = running.run(gate())
        call = client.channel.unary_unary(
            f"/{SERVICE}/ModelInfer", M.ModelInferRequest.SerializeToString, M.ModelInferResponse.FromString
        ).future(ask(rows(1, seed=3)), metadata=[("authorization", f"Bearer {key}")])
        time.sleep(0.3)
        call.cancel()
        time.sleep(0.1)
        running.loop.call_soon_threadsafe(upstream.gate.set)
        end = time.monotonic() + 10
        while upstream.count < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.1)
        running.settled()
        books = running.get("/pow/v1/account", headers={"Authorization": f"Bearer {key}"}).json()
        assert books["queries"] == 2


def test_tritons_grpc_client_needs_the_proof_only(both):
    triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
    running, client = both
    x = rows(3)
    proof = solve(running.infer(x).json()["challenge"])
    given = triton.InferInput("x", list(x.shape), "FP32")
    given.set_data_from_numpy(x)
    with triton.InferenceServerClient(f"127.0.0.1:{client.port}") as theirs:
        assert theirs.is_server_live()
        assert theirs.is_model_ready("m")
        assert theirs.get_model_metadata("m").inputs[0].name == "x"
        found = theirs.infer("m", [given], headers={"pow-proof": proof})
        assert found.as_numpy("scores").shape == (3, CLASSES)
        with pytest.raises(triton.InferenceServerException, match="FAILED_PRECONDITION"):
            theirs.infer("m", [given])


# --- messages -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("FP32", "fp32_contents", [1.5, -2.0]),
        ("FP64", "fp64_contents", [1.5, 1e300]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("BOOL", "bool_contents", [True, False]),
        ("BYTES", "bytes_contents", [b"a", b""]),
    ],
)
def test_typed_contents_are_read_like_json(datatype, field, values):
    request = M.ModelInferRequest(model_name="m", id="7")
    one = request.inputs.add(name="x", datatype=datatype, shape=[2, 1])
    getattr(one.contents, field).extend(values)
    query = parse_query(*body_of(request))
    shown = [value.decode() if isinstance(value, bytes) else value for value in values]
    content = {"inputs": [{"name": "x", "datatype": datatype, "shape": [2, 1], "data": shown}]}
    assert query.inputs[0].raw == parse_query(json.dumps(content).encode()).inputs[0].raw
    assert (query.id, query.binary_outputs) == ("7", {"*"})


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [("INT8", "int_contents", [300]), ("FP32", "fp64_contents", [1.0]), ("FP16", "fp32_contents", [1.0])],
)
def test_contents_outside_their_datatype_are_refused(datatype, field, values):
    request = M.ModelInferRequest(model_name="m")
    one = request.inputs.add(name="x", datatype=datatype, shape=[1])
    getattr(one.contents, field).extend(values)
    with pytest.raises(BadQuery):
        body_of(request)


def test_parameters_and_wishes_are_passed_on():
    request = ask(rows(1), id="a")
    request.parameters["flag"].bool_param = True
    request.parameters["count"].int64_param = 5
    request.outputs.add(name="scores")
    body, length = body_of(request)
    content = json.loads(body[:length])
    assert content["parameters"] == {"flag": True, "count": 5, "binary_data_output": True}
    assert content["outputs"] == [{"name": "scores", "parameters": {"binary_data": True}}]
    assert len(body) - length == rows(1).nbytes
    request.parameters["far"].double_param = float("inf")
    with pytest.raises(BadQuery):
        body_of(request)


def test_answers_in_json_become_bytes():
    outputs = [
        {"name": "labels", "datatype": "INT64", "shape": [2], "data": [1, 2]},
        {"name": "words", "datatype": "BYTES", "shape": [1], "data": ["ab"]},
    ]
    body = json.dumps({"model_name": "m", "outputs": outputs, "parameters": {"pow_receipt": {"units": 1}}})
    found = response_of(body.encode(), None)
    assert list(found.raw_output_contents) == [np.array([1, 2], "<i8").tobytes(), b"\x02\0\0\0ab"]
    assert found.parameters["pow_receipt"].string_param == '{"units":1}'
    for wrong in (b"no json", b"[]", b'{"outputs":[{"name":"x"}]}'):
        with pytest.raises(InvalidInput):
            response_of(wrong, None)
    head = json.dumps({"outputs": [{**outputs[0], "parameters": {"binary_data_size": 16}}]}).encode()
    with pytest.raises(InvalidInput):
        response_of(head + b"123", len(head))


def test_the_messages_are_those_of_the_protocol():
    theirs = pytest.importorskip(
        "tritonclient.grpc.service_pb2", reason="tritonclient[grpc] is not installed"
    )
    for name in vars(M):
        if name == "InferTensorContents":
            continue  # theirs knows kinds that REST has no form for
        ours, other = getattr(M, name).DESCRIPTOR, theirs.DESCRIPTOR.message_types_by_name[name]
        _compare(ours, other)
    request = M.ModelInferRequest.FromString(_of_triton(theirs).SerializeToString())
    assert request.inputs[0].contents.fp32_contents[:] == [1.0, 2.0]
    assert request.parameters["pow"].string_param == "t;1"


def _compare(ours, other):
    fields = {field.name: (field.number, field.type) for field in other.fields}
    for field in ours.fields:
        assert fields[field.name] == (field.number, field.type), (ours.full_name, field.name)
    for inner in ours.nested_types:
        _compare(inner, other.nested_types_by_name[inner.name])


def _of_triton(theirs):
    request = theirs.ModelInferRequest(model_name="m")
    request.parameters["pow"].string_param = "t;1"
    one = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    one.contents.fp32_contents.extend([1.0, 2.0])
    return request
