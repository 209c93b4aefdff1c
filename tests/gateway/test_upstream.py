from __future__ import annotations

import asyncio
import gc
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import SIZE, as_binary, as_json, rows

from assay.adapters import CallableModel, open_model
from assay.errors import InvalidInput
from assay.gateway.server.problems import NotFound, Unacceptable
from assay.gateway.server.replies import read_reply
from assay.gateway.server.wire import parse_query
from assay.gateway.upstream.base import ModelInfo, UpstreamDown, UpstreamRefused, check_name
from assay.gateway.upstream.http1 import Http1Pool
from assay.gateway.upstream.local import LocalUpstream
from assay.gateway.upstream.proxy import ProxyUpstream
from assay.model import Access

META = {
    "name": "m",
    "versions": ["1"],
    "platform": "test",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, SIZE]}],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 4]}],
}
OK = b'{"outputs": []}'


def query(n=1, **members):
    return parse_query(json.dumps(as_json(rows(n), **members)).encode())


def plain(body, status=b"200 OK", head=b""):
    return b"HTTP/1.1 " + status + b"\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Scripted:
    """A server that answers with the bytes it is told; remembers what it heard."""

    def __init__(self, *answers):
        self.answers, self.heard, self.connections = list(answers), [], 0

    async def handle(self, reader, writer):
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.startswith(b"Content-Length")
                    ),
                    0,
                )
                self.heard.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if callable(answer):
                    await answer(writer)
                elif answer is None:
                    break
                else:
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error):
        self.server.close()


def ask(*answers, call=None, **options):
    """Run one call against a scripted server and return its result and the server."""

    async def run():
        async with Scripted(*answers) as server:
            upstream = ProxyUpstream(server.url, **options)
            try:
                return await (call or (lambda u: u.infer("m", None, query())))(upstream), server
            finally:
                await upstream.close()

    return asyncio.run(run())


# --- HTTP -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "answer",
    [
        plain(OK),
        b"HTTP/1.0 200 OK\r\n\r\n" + OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + plain(OK),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"
        + OK[:5]
        + b"\r\na;x=y\r\n"
        + OK[5:]
        + b"\r\n0\r\nT: 1\r\n\r\n",
    ],
)
def test_every_framing_of_an_answer_is_read(answer):
    async def close(writer):
        writer.write(answer)
        await writer.drain()
        writer.close()

    found, server = ask(close if b"1.0" in answer else answer)
    assert found.body == OK
    assert found.header_length is None
    assert server.heard[0].startswith(b"POST /v2/models/m/infer HTTP/1.1\r\n")


def test_connections_are_kept_and_renewed_when_stale():
    async def twice(upstream):
        first = await upstream.infer("m", None, query())
        await asyncio.sleep(0.02)
        return first, await upstream.infer("m", None, query())

    _, server = ask(plain(OK), plain(OK), call=twice)
    assert server.connections == 1

    async def then_close(writer):
        writer.write(plain(OK))
        await writer.drain()
        writer.close()

    _, server = ask(then_close, plain(OK), call=twice)
    assert server.connections == 2
    _, server = ask(plain(OK, head=b"Connection: close\r\n"), plain(OK), call=twice)
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
        plain(b"", b"500 No"),
        plain(b"", b"401 No"),
        plain(b"", b"429 Busy"),
        plain(OK, head=b"Inference-Header-Content-Length: 9999\r\n"),
        plain(OK, head=b"Inference-Header-Content-Length: x\r\n"),
    ],
)
def test_servers_that_do_not_speak_the_protocol_are_down(answer):
    with pytest.raises(UpstreamDown):
        ask(answer, max_bytes=1000)


def test_a_server_that_hangs_or_drips_is_down_in_time():
    async def hang(_writer):
        await asyncio.sleep(5)

    async def drip(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    for answer in (hang, drip):
        with pytest.raises(UpstreamDown, match=r"within 0.3 s"):
            ask(answer, timeout=0.3)


def test_a_server_that_is_not_there_is_down():
    async def run():
        upstream = ProxyUpstream("http://127.0.0.1:1")
        assert not await upstream.ready()
        with pytest.raises(UpstreamDown):
            await upstream.infer("m", None, query())

    asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://h/",
        "http://",
        "http://h:x/",
        "http://u:p@h/",
        "http://h/?q=1",
        "http://[::1",
    ],
)
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(InvalidInput, match="address of a server"):
        Http1Pool(url)


# --- the protocol -----------------------------------------------------------------------------------
def test_bodies_go_through_as_they_are():
    body, headers = as_binary(rows(2))
    binary = parse_query(body, int(headers["Inference-Header-Content-Length"]))
    reply = b'{"outputs":[]}1234'
    found, server = ask(
        plain(reply, head=b"Inference-Header-Content-Length: 14\r\n"),
        call=lambda u: u.infer("m", "3", binary),
    )
    assert (found.body, found.header_length) == (reply, 14)
    head, _, sent = server.heard[0].partition(b"\r\n\r\n")
    assert sent == body
    assert b"POST /v2/models/m/versions/3/infer " in head
    assert b"Inference-Header-Content-Length: %d" % binary.header_length in head
    assert b"Authorization" not in head


@pytest.mark.parametrize(
    ("says", "binary"),
    [
        (plain(b'{"extensions": ["binary_tensor_data"]}'), True),
        (plain(b'{"extensions": ["classification"]}'), False),
        (plain(b'{"extensions": "binary_tensor_data"}'), False),
        (plain(b"[]"), False),
        (plain(b"no JSON"), False),
        (plain(b"{}", b"404 Not Found"), False),
    ],
)
def test_numbers_go_as_bytes_to_a_server_that_takes_them(says, binary):
    async def call(upstream):
        await upstream.metadata("m")
        return await upstream.infer("m", None, asked)

    asked = query(40)
    found, server = ask(plain(json.dumps(META).encode()), says, plain(OK), call=call)
    assert found.body == OK
    head, _, sent = server.heard[-1].partition(b"\r\n\r\n")
    length = re.search(rb"Inference-Header-Content-Length: (\d+)", head)
    assert (length is not None) is binary
    got = parse_query(sent, int(length[1])) if binary else parse_query(sent)
    assert np.array_equal(got.inputs[0].array, asked.inputs[0].array)
    assert (sent == asked.body) is not binary


def test_the_servers_own_token_is_sent():
    _, server = ask(plain(OK), token="secret")
    assert b"Authorization: Bearer secret\r\n" in server.heard[0]


def test_refusals_are_told_apart_and_cut():
    words = "bad\x1b[31m " + "x" * 1000
    with pytest.raises(UpstreamRefused) as refused:
        ask(plain(json.dumps({"error": words}).encode(), b"400 Bad"))
    assert refused.value.status == 400
    assert "\x1b" not in refused.value.detail
    assert len(refused.value.detail) <= 300
    with pytest.raises(UpstreamRefused, match="refused the request"):
        ask(plain(b"<html>", b"422 No"))


def test_descriptions_are_remembered_but_not_for_ever():
    async def thrice(upstream):
        infos = [await upstream.metadata("m") for _ in range(2)]
        upstream._known[("m", None)] = (0.0, infos[0])
        infos.append(await upstream.metadata("m"))
        return infos

    meta = plain(json.dumps(META).encode())
    infos, server = ask(meta, plain(b"{}"), meta, plain(b"{}"), call=thrice)
    assert [heard.split()[1] for heard in server.heard] == [b"/v2/models/m", b"/v2"] * 2
    assert infos[0] == infos[2]
    assert infos[0].content() == META
    for status in (b"404 No", b"400 No"):
        with pytest.raises(NotFound):
            ask(plain(b"{}", status), call=lambda u: u.metadata("n"))


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": None},
        {"inputs": []},
        {"inputs": [{"name": "x"}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["a"]}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1] * 20}]},
        {"inputs": META["inputs"] * 100},
        {"versions": "1"},
        {"versions": [1]},
        {"outputs": [1]},
    ],
)
def test_descriptions_that_are_none_are_refused(change):
    with pytest.raises(UpstreamDown):
        ModelInfo.parse(META | change, "server")
    with pytest.raises(UpstreamDown):
        ModelInfo.parse([], "server")


def test_one_item_cannot_hold_many():
    info = ModelInfo.parse(META, "server")
    info.check(query(3))
    for shape, name, datatype in (
        ([1, 2 * SIZE], "x", "FP32"),
        ([1, 2, SIZE], "x", "FP32"),
        ([1, SIZE], "y", "FP32"),
        ([1, SIZE], "x", "FP64"),
    ):
        tensor = {"name": name, "datatype": datatype, "shape": shape, "data": [0.0] * int(np.prod(shape))}
        with pytest.raises(Unacceptable):
            info.check(parse_query(json.dumps({"inputs": [tensor]}).encode()))
    both = ModelInfo.parse(
        META | {"inputs": [*META["inputs"], {"name": "z", "datatype": "FP32", "shape": [-1]}]}, "s"
    )
    with pytest.raises(Unacceptable, match="also needs"):
        both.check(query())


def test_names_that_could_change_an_address_are_no_names():
    for name in ("", ".", "..", "a/b", "a b", "a%2f", "ä", "a" * 129, "a\0"):
        with pytest.raises(NotFound):
            check_name(name)
    assert check_name("resnet-50_v1.5@2") == "resnet-50_v1.5@2"


@pytest.mark.parametrize("how", ["infer", "begin"])
def test_a_crowd_is_refused_at_once(how):
    async def run():
        release = asyncio.Event()

        async def late(writer):
            await release.wait()
            writer.write(plain(OK))
            await writer.drain()

        async with Scripted(late, late) as server:
            upstream = ProxyUpstream(server.url, concurrency=1, waiting=1)
            ask = getattr(upstream, how)
            jobs = [asyncio.ensure_future(ask("m", None, query())) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert len(server.heard) == 1  # the other one waits for its turn
            with pytest.raises(UpstreamDown, match="wait"):
                await ask("m", None, query())
            release.set()
            assert len(await asyncio.gather(*jobs)) == 2
            await upstream.close()

    asyncio.run(run())


# --- questions that are sent before anybody waits for them --------------------------------------------
def beginning(*answers, then, **options):
    """Ask once, so that a connection is kept, and let ``then`` begin more."""

    async def call(upstream):
        await upstream.infer("m", None, query())
        await asyncio.sleep(0.02)
        return await then(upstream)

    return ask(plain(OK), *answers, call=call, **options)


def test_a_question_is_handed_to_a_kept_connection_at_once():
    async def then(upstream):
        (connection,) = upstream._pool._idle
        written, write = [], connection._transport.write
        connection._transport = SimpleNamespace(
            write=lambda data: (written.append(len(data)), write(data)),
            is_closing=lambda: False,
            close=connection._transport.close,
        )
        task = upstream.begin("m", None, query())
        assert written  # no task had a turn yet
        return (await task).body

    found, server = beginning(plain(OK), then=then)
    assert found == OK
    assert server.connections == 1


def test_a_question_over_a_stale_connection_is_asked_again():
    async def then_close(writer):
        writer.write(plain(OK))
        await writer.drain()
        writer.close()

    async def at_once(upstream):
        await upstream.infer("m", None, query())
        assert len(upstream._pool._idle) == 1
        return (await upstream.begin("m", None, query())).body

    found, server = ask(then_close, plain(OK), call=at_once)
    assert (found, server.connections) == (OK, 2)


def test_without_a_kept_connection_one_is_made():
    found, server = ask(plain(OK), call=lambda upstream: upstream.begin("m", None, query()))
    assert (found.body, server.connections) == (OK, 1)


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_a_question_given_up_leaves_its_place_and_its_connection(turns):
    complaints = []

    async def then(upstream):
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: complaints.append(context["message"])
        )
        for _ in range(5):  # more than may be under way at once
            task = upstream.begin("m", None, query())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert not upstream._pool._idle  # an answer may still come over it
        assert (upstream._under_way, upstream._slots.locked()) == (0, False)

    async def never(writer):
        await asyncio.sleep(0.2)

    beginning(never, never, never, never, never, then=then, concurrency=2, waiting=0)
    gc.collect()
    assert not [one for one in complaints if "never retrieved" in one]


# --- a model of our own ---------------------------------------------------------------------------
def linear(access=Access.SCORES):
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(SIZE, 4)).astype(np.float32))
    model = CallableModel(lambda x: (x @ weight).softmax(1), (SIZE,), 4, name="linear", takes="tensor")
    return open_model(model, access=access)


def ours(n=1, **members):
    """Return a query to a model of ours, whose input is called ``input``."""
    body = as_json(rows(n), **members)
    body["inputs"][0]["name"] = "input"
    return parse_query(json.dumps(body).encode())


def local(call, **options):
    async def run():
        upstream = LocalUpstream(options.pop("model", None) or linear(), name="m", **options)
        try:
            return await call(upstream)
        finally:
            await upstream.close()

    return asyncio.run(run())


def test_a_model_of_ours_answers_as_it_does_itself():
    x, model = rows(5), linear()
    answer = local(lambda u: u.infer("m", None, ours(5, id="7")), model=model)
    reply = read_reply(answer.body, answer.header_length)
    assert reply.members == {"model_name": "m", "model_version": "1", "id": "7"}
    assert np.allclose(reply.outputs[0].array, model.scores(torch.from_numpy(x)).numpy(), atol=1e-6)
    asked = [{"name": "labels", "parameters": {"binary_data": True}}, {"name": "scores"}]
    both = local(lambda u: u.infer("m", "1", ours(5, outputs=asked)), model=model)
    assert both.header_length is not None
    labels, scores = read_reply(both.body, both.header_length).outputs
    assert np.array_equal(labels.array, scores.array.argmax(1))


def test_a_model_of_ours_keeps_the_name_that_it_gives_its_input(tmp_path):
    import oip_process

    oip_process.write_classifier(tmp_path / "clf.onnx", (SIZE,), 4)
    model = open_model(tmp_path / "clf.onnx")
    assert local(lambda u: u.metadata("m"), model=model).inputs[0].name == "x"
    given = parse_query(json.dumps(as_json(rows(2))).encode())
    answer = local(lambda u: u.infer("m", None, given), model=model)
    assert np.allclose(
        read_reply(answer.body, None).outputs[0].array, model.scores(torch.from_numpy(rows(2))), atol=1e-6
    )
    model._input = 'a "name" that no path or header could hold'
    assert local(lambda u: u.metadata("m"), model=model).inputs[0].name == "input"


def test_a_model_that_shows_labels_only_serves_labels_only():
    model = linear(Access.LABELS)
    answer = local(lambda u: u.infer("m", None, ours(2)), model=model)
    assert [one.name for one in read_reply(answer.body, None).outputs] == ["labels"]
    with pytest.raises(UpstreamRefused, match="no output 'scores'"):
        local(lambda u: u.infer("m", None, ours(2, outputs=[{"name": "scores"}])), model=model)


def test_a_model_of_ours_has_one_name_and_one_version():
    assert local(lambda u: u.ready("m", "1"))
    assert not local(lambda u: u.ready("n"))
    info = local(lambda u: u.metadata("m"))
    assert info.inputs[0].shape == (-1, SIZE)
    assert info.outputs[0].shape == (-1, 4)
    for name, version in (("n", None), ("m", "2")):
        with pytest.raises(NotFound):
            local(lambda u, n=name, v=version: u.infer(n, v, ours()))


def test_what_a_failing_model_says_stays_inside():
    def broken(_x):
        msg = "/secret/path"
        raise RuntimeError(msg)

    model = CallableModel(broken, (SIZE,), 4, name="broken", access=Access.SCORES)
    with pytest.raises(UpstreamRefused, match="m cannot take this input") as refused:
        local(lambda u: u.infer("m", None, ours()), model=model)
    assert "secret" not in refused.value.detail

    model = linear()
    model.scores = broken
    with pytest.raises(UpstreamDown, match="could not compute") as down:
        local(lambda u: u.infer("m", None, ours()), model=model)
    assert "secret" not in str(down.value)
