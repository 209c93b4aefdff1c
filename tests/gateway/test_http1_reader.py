"""One HTTP answer read from pieces: however it is cut, and whatever is wrong with it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.gateway.upstream.base import UpstreamDown
from assay.gateway.upstream.http1_reader import AnswerReader

HEAD = b"HTTP/1.1 200 OK\r\nX-A: b\r\n"
ANSWERS = {
    "length": (HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    "empty": (HEAD + b"Content-Length: 0\r\n\r\n", b"", True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "chunks": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=1\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
        b"hello0123456789",
        True,
    ),
    "after a hint": (
        b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok",
        b"ok",
        True,
    ),
    "closing": (HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
}


def read(pieces, most=100):
    reader = AnswerReader(most, "it")
    found = [reader.feed(piece) for piece in pieces]
    assert not any(found[:-1])
    return found[-1], reader


@pytest.mark.parametrize("name", ANSWERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_answers_are_the_same_however_they_are_cut(name, data):
    raw, body, lasting = ANSWERS[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    response, reader = read(pieces)
    assert (response.body, reader.lasting) == (body, lasting)


def test_a_body_without_a_length_ends_with_the_connection():
    response, reader = read([HEAD + b"\r\nhel", b"lo"])
    assert response is None
    assert reader.end().body == b"hello"
    assert not reader.lasting


def test_bytes_after_an_answer_end_the_connection():
    response, reader = read([HEAD + b"Content-Length: 2\r\n\r\nokHTTP/1.1 200"])
    assert response.body == b"ok"
    assert not reader.lasting


@pytest.mark.parametrize("missing", ["length", "chunks"])
def test_an_answer_that_is_cut_off_is_none(missing):
    reader = AnswerReader(100, "it")
    reader.feed(ANSWERS[missing][0][:-3])
    with pytest.raises(EOFError):
        reader.end()


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: " + b"9" * 17 + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"X" * 70_000,
    ],
    ids=range(12),
)
def test_what_is_no_http_is_refused(raw):
    with pytest.raises(ValueError, match=r"HTTP|header|length|coding|chunk|head"):
        read([raw])


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"Content-Length: 101\r\n\r\n",
        HEAD + b"\r\n" + b"x" * 101,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n65\r\n",
    ],
    ids=["length", "end", "chunks"],
)
def test_bodies_are_bounded_before_they_are_held(raw):
    with pytest.raises(UpstreamDown, match="more than 100 bytes"):
        read([raw])
