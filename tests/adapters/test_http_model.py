from __future__ import annotations

import json
import logging

import httpx
import numpy as np
import pytest
import torch
from oip_server import OipServer, drip, drop, hang, tensor

from assay.adapters import HttpModel, open_model
from assay.adapters.http_client import HttpClient
from assay.errors import AccessDenied, InvalidInput, SuspectUnreachable
from assay.model import Access

WEIGHTS = np.array([[1.0, -1.0, 0.5], [0.0, 2.0, -0.5]], dtype=np.float32)
SCORES = [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
LABELS = [{"name": "y", "datatype": "INT64", "shape": [-1]}]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def linear(x):
    return [tensor(softmax(x @ WEIGHTS))]


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "ASSAY_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with OipServer(linear, (2,), SCORES) as running:
        yield running


def fast(server, **options):
    return HttpModel(server.url, **{"backoff": 0.0, "timeout": 5.0, **options})


def inputs(rows):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32))


def test_scores_and_labels_match_the_served_model(server):
    model, x = fast(server, batch_size=3), inputs(7)
    expected = softmax(x.numpy() @ WEIGHTS)
    assert np.allclose(model.scores(x), expected, atol=1e-6)
    assert model.labels(x).tolist() == expected.argmax(1).tolist()
    assert [len(s[3]["inputs"][0]["data"]) for s in server.seen[1:4]] == [6, 6, 2]
    assert (model.input_shape, model.num_classes, model.access) == ((2,), 3, Access.SCORES)
    assert model.digest == f"url:{server.url}"
    assert model.scores(inputs(0)).shape == (0, 3)


def test_metadata_that_tells_enough_costs_no_query(server):
    fast(server)
    assert [s[0] for s in server.seen] == ["GET"]


def test_probe_finds_access_and_classes_when_metadata_is_silent():
    with OipServer(linear, (2,)) as server:
        model = fast(server)
        assert (model.num_classes, model.access) == (3, Access.SCORES)
        assert [s[0] for s in server.seen] == ["GET", "POST"]


def test_logits_are_recognised_and_scaled():
    with OipServer(lambda x: [tensor(x @ WEIGHTS, nested=True)], (2,), SCORES) as server:
        x = inputs(5)
        assert np.allclose(fast(server).scores(x), softmax(x.numpy() @ WEIGHTS), atol=1e-6)


@pytest.mark.parametrize("column", [False, True])
def test_labels_only(column):
    def predict(x):
        labels = (x @ WEIGHTS).argmax(1)
        return [tensor(labels[:, None] if column else labels, "INT64")]

    with OipServer(predict, (2,), LABELS) as server:
        with pytest.raises(InvalidInput, match="pass num_classes"):
            fast(server)
        model, x = fast(server, num_classes=3), inputs(6)
        assert model.access is Access.LABELS
        assert model.labels(x).tolist() == (x.numpy() @ WEIGHTS).argmax(1).tolist()
        with pytest.raises(AccessDenied):
            model.scores(x)


def test_fixed_batch_is_padded():
    def predict(x):
        assert len(x) == 4
        return linear(x)

    with OipServer(predict, (2,), SCORES, batch=4) as server:
        x = inputs(6)
        assert np.allclose(fast(server).scores(x), softmax(x.numpy() @ WEIGHTS), atol=1e-6)


def test_double_precision_is_kept():
    with OipServer(lambda x: [tensor(softmax(x @ WEIGHTS), "FP64")], (2,), SCORES, datatype="FP64") as server:
        x = inputs(3).double()
        assert np.allclose(fast(server).scores(x), softmax(x.numpy() @ WEIGHTS), atol=1e-14)


def test_open_model_restricts_a_server(server):
    model = open_model(server.url, access="labels", name="suspect")
    assert (model.access, model.name) == (Access.LABELS, "suspect")


LIES = {
    "nan": lambda x: [tensor(np.full((len(x), 3), np.nan))],
    "infinite": lambda x: [tensor(np.full((len(x), 3), np.inf))],
    "too few rows": lambda x: [tensor(np.full((len(x) - 1, 3), 1 / 3))],
    "too many classes": lambda x: [tensor(np.full((len(x), 4), 0.25))],
    "shape of other size": lambda x: [{**linear(x)[0], "shape": [len(x), 4]}],
    "negative shape": lambda x: [{**linear(x)[0], "shape": [-1, 3]}],
    "text": lambda x: [{**linear(x)[0], "data": ["1"] * (3 * len(x))}],
    "objects": lambda x: [{**linear(x)[0], "data": [{}] * (3 * len(x))}],
    "null": lambda x: [{**linear(x)[0], "data": [None] * (3 * len(x))}],
    "ragged": lambda x: [{**linear(x)[0], "data": [[1.0, 0.0], [1.0]]}],
    "floats as integers": lambda x: [tensor(np.full(len(x), 0.5), "INT64")],
    "huge integers": lambda x: [{**tensor(np.zeros(len(x)), "UINT64"), "data": [2**64 - 1] * len(x)}],
    "text labels only": lambda x: [tensor(np.full(len(x), "cat"), "BYTES")],
    "two scores": lambda x: [*linear(x), {**linear(x)[0], "name": "z"}],
    "one float a row": lambda x: [tensor(np.full((len(x), 1), 0.3))],
    "unknown class": lambda x: [tensor(np.full(len(x), 3), "INT32")],
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_answers_are_refused(lie):
    with OipServer(LIES[lie], (2,), SCORES) as server, pytest.raises((InvalidInput, SuspectUnreachable)):
        fast(server).labels(inputs(4))


def test_scores_that_stop_being_probabilities_are_refused(server):
    model = fast(server)
    model.scores(inputs(2))
    server.predict = lambda x: [tensor(x @ WEIGHTS)]
    with pytest.raises(InvalidInput, match="outputs='logits'"):
        model.scores(inputs(2))


BODIES = {
    "no JSON": b"<html>",
    "other JSON": b"[]",
    "no outputs": b'{"outputs": []}',
    "unknown datatype": b'{"outputs": [{"name": "y", "datatype": "X", "shape": [1], "data": [1]}]}',
    "many axes": b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1,1,1,1,1,1,1,1,1], "data":[]}]}',
    "deep": b'{"outputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "not UTF-8": b'{"outputs": "\xff"}',
}


@pytest.mark.parametrize("body", BODIES)
def test_malformed_bodies_are_no_answers(server, body):
    model = fast(server)
    server.script = [(200, {}, BODIES[body])]
    with pytest.raises(SuspectUnreachable, match="Open Inference Protocol"):
        model.labels(inputs(1))


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_failures_are_retried(server, status):
    server.script = [(status, {}, b""), "pass", (status, {}, b""), (status, {}, b"")]
    assert fast(server).labels(inputs(1)).shape == (1,)
    assert len(server.seen) == 5


def test_lost_connections_are_retried_and_bounded(server):
    model = fast(server, retries=2)
    server.script = [drop, drop]
    assert model.labels(inputs(1)).shape == (1,)
    server.script = [drop] * 3
    with pytest.raises(SuspectUnreachable, match="after 3 attempts"):
        model.labels(inputs(1))
    assert server.script == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 500])
def test_final_failures_are_not_retried(server, status):
    server.script = [(status, {}, b"")]
    with pytest.raises(SuspectUnreachable, match=f"status {status}"):
        fast(server)
    assert len(server.seen) == 1


def test_retry_after_is_honoured_within_bounds(server, monkeypatch):
    waits = []
    monkeypatch.setattr("assay.adapters.http_client.time.sleep", waits.append)
    after = [{"Retry-After": "7"}, {"Retry-After": "99999"}, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}]
    server.script = [(429, headers, b"") for headers in after]
    HttpModel(server.url, backoff=0.5, max_wait=20.0)
    assert waits == [7.0, 20.0, 2.0]


def test_redirects_are_not_followed(server):
    server.script = [(307, {"Location": "http://127.0.0.1:1/"}, b"")]
    with pytest.raises(SuspectUnreachable, match="redirects"):
        fast(server)


def test_long_answers_are_cut_off(server):
    model = fast(server, max_bytes=10_000)
    server.script = [(200, {}, b" " * 20_000)]
    with pytest.raises(SuspectUnreachable, match="more than 10000 bytes"):
        model.labels(inputs(1))


def test_compressed_answers_are_refused(server):
    server.script = [(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b")]
    with pytest.raises(SuspectUnreachable, match="compressed"):
        fast(server)
    assert server.seen[0][2]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("behaviour", [hang, drip])
def test_slow_answers_time_out(server, behaviour):
    model = fast(server, timeout=0.2)
    server.script = [behaviour]
    with pytest.raises(SuspectUnreachable, match=r"within 0.2 s"):
        model.labels(inputs(1))


def test_nobody_there():
    with OipServer(linear, (2,)) as gone:
        pass
    with pytest.raises(SuspectUnreachable, match=r"127\.0\.0\.1.*after 2 attempts"):
        HttpModel(gone.url, retries=1, backoff=0.0)


def test_credentials_are_sent_and_never_shown(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ASSAY_API_TOKEN", "s3cret-token")
    fast(server)
    assert server.seen[-1][2]["Authorization"] == "Bearer s3cret-token"
    url = server.url.replace("http://", "http://user:pa55word@")
    monkeypatch.delenv("ASSAY_API_TOKEN")
    model = HttpModel(url, backoff=0.0, headers={"X-Key": "k3y"})
    assert server.seen[-1][2]["Authorization"].startswith("Basic ")
    assert server.seen[-1][2]["X-Key"] == "k3y"
    server.script = [(500, {}, b"pa55word")]
    with pytest.raises(SuspectUnreachable) as caught:
        model.labels(inputs(1))
    said = " ".join((str(caught.value), model.name, model.digest, caplog.text))
    assert not any(secret in said for secret in ("s3cret", "pa55word", "k3y"))


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "ftp://host/m",
        "http://host/m?key=s3cret",
        "http://host/m#s3cret",
        "http://[bad/s3cret",
        "host/m",
    ],
)
def test_unusable_urls(url):
    with pytest.raises(InvalidInput) as caught:
        HttpModel(url)
    assert "s3cret" not in str(caught.value)


def test_tokens_cannot_smuggle_headers():
    with pytest.raises(InvalidInput, match="printable ASCII") as caught:
        HttpClient("http://127.0.0.1:1/m", token="a\r\nHost: b")
    assert "Host: b" not in str(caught.value)


@pytest.mark.parametrize("option", [{"timeout": 0}, {"retries": -1}, {"backoff": -1}, {"max_bytes": 0}])
def test_bad_limits(option):
    with pytest.raises(InvalidInput):
        HttpClient("http://127.0.0.1:1/m", **option)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": []}, "does not describe"),
        ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1, 2]}]}, "FP32 or FP64"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}] * 2}, "must take one"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]}, "pass input_shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": []}]}, "pass input_shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2**31]}]}, "implausibly large"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2**31, 2]}]}, "implausibly large"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, "2"]}]}, "does not describe"),
        ({"inputs": [{"name": "x" * 300, "datatype": "FP32", "shape": [-1, 2]}]}, "does not describe"),
    ],
)
def test_bad_metadata(server, change, message):
    server.metadata |= change
    with pytest.raises((InvalidInput, SuspectUnreachable), match=message):
        fast(server)


def test_caller_and_metadata_must_agree(server):
    with pytest.raises(InvalidInput, match="takes inputs of shape"):
        fast(server, input_shape=(3,))
    with pytest.raises(InvalidInput, match="3 scores a row, but num_classes is 2"):
        fast(server, num_classes=2)
    with pytest.raises(InvalidInput, match="no output 'q'"):
        fast(server, output="q")
    with pytest.raises(AccessDenied):
        fast(server, access=Access.WEIGHTS)


def test_one_output_of_several_can_be_named():
    def predict(x):
        return [tensor(x, name="features"), *linear(x)]

    outputs = [{"name": "features", "datatype": "FP32", "shape": [-1, 2]}, *SCORES]
    with OipServer(predict, (2,), outputs) as server:
        with pytest.raises(InvalidInput, match="more than one output"):
            fast(server)
        assert fast(server, output="y").num_classes == 3


def test_bad_inputs_are_never_sent(server):
    model = fast(server)
    for x in (torch.zeros(2, 3), torch.zeros(2, 2, dtype=torch.int64), torch.full((1, 2), torch.nan)):
        with pytest.raises(InvalidInput):
            model.labels(x)
    with pytest.raises(InvalidInput, match="range of FP32"):
        model.labels(torch.full((1, 2), 1e300, dtype=torch.float64))
    assert [s[0] for s in server.seen] == ["GET"]


def test_request_is_valid_protocol(server):
    fast(server).labels(torch.tensor([[0.5, 1.0]]))
    assert server.seen[-1][:2] == ("POST", "/v2/models/m/infer")
    assert json.loads(json.dumps(server.seen[-1][3])) == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1.0]}]
    }


def test_closing_ends_the_connections(server):
    with fast(server) as model:
        model.labels(inputs(1))
    with pytest.raises((RuntimeError, httpx.HTTPError)):
        model.labels(inputs(1))


def test_scores_that_are_hidden_or_rounded_are_partial():
    def cut(x):
        answers = np.tile([[0.0, 0.625, 0.0]], (len(x), 1))
        return [{"name": "p", "datatype": "FP32", "shape": [len(x), 3], "data": answers.ravel().tolist()}]

    with OipServer(cut, (2,)) as server:
        model = HttpModel(server.url, outputs="partial")
        assert not model.complete_scores
        assert model.scores(torch.zeros(2, 2)).tolist() == [[0.0, 0.625, 0.0]] * 2
        assert model.labels(torch.zeros(2, 2)).tolist() == [1, 1]
        with pytest.raises(InvalidInput, match="outputs='partial'"):
            HttpModel(server.url, num_classes=3).scores(torch.zeros(1, 2))
        assert HttpModel(server.url).complete_scores
        # Said to be logits, the same numbers are what a softmax makes of them.
        assert HttpModel(server.url, outputs="logits").scores(torch.zeros(1, 2)).sum() == pytest.approx(1.0)


def test_partial_scores_still_lie_between_0_and_1():
    def wild(x):
        return [{"name": "p", "datatype": "FP32", "shape": [len(x), 2], "data": [1.5, 0.0] * len(x)}]

    with OipServer(wild, (2,)) as server, pytest.raises(InvalidInput, match=r"outside \[0, 1\]"):
        HttpModel(server.url, outputs="partial").scores(torch.zeros(1, 2))
