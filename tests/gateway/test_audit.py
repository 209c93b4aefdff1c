from __future__ import annotations

import json

import numpy as np
import pytest

from assay.errors import EvidenceTampered, InvalidInput
from assay.gateway.admission import request_terms
from assay.gateway.audit import Chain, export_journal, verify_export
from assay.gateway.policy import Policy
from assay.gateway.pricing import open_rule
from assay.gateway.store.base import Claim
from assay.gateway.store.sql import SqlStore

KEY = bytes(range(32))


@pytest.fixture
def store():
    store = SqlStore("sqlite://")
    serve(store, 6)
    yield store
    store.close()


def serve(store, n, start=0):
    terms, rule = request_terms(Policy()), open_rule(Policy())
    for i in range(start, start + n):
        claim = Claim(f"{i:032x}", exp=1e6, units=300.0, deposit=True)
        admission = store.admit(f"account {i}", n_items=2, terms=terms, now=10.0 + i, claim=claim)
        store.settle(admission.query_id, rule.settle, log_q=np.array([-1.0, -30.0]), now=10.5 + i)


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("key", [None, KEY], ids=["bare", "keyed"])
def test_an_export_holds_the_whole_journal_and_verifies(store, tmp_path, key):
    path = tmp_path / "audit.jsonl"
    chain = export_journal(store, path, key=key)
    rows = store.journal()
    assert chain.entries == len(rows) > 6
    assert chain.last == rows[-1].id
    assert verify_export(path, key=key) == chain
    entries = [json.loads(line)["entry"] for line in lines_of(path)[1:]]
    assert [e["id"] for e in entries] == [row.id for row in rows]
    assert sum(e["price"] for e in entries) == pytest.approx(sum(row.price for row in rows))


def test_an_export_goes_on_where_it_ended(store, tmp_path):
    path, whole = tmp_path / "audit.jsonl", tmp_path / "whole.jsonl"
    first = export_journal(store, path, key=KEY)
    assert export_journal(store, path, key=KEY) == first
    serve(store, 3, start=6)
    second = export_journal(store, path, key=KEY)
    assert second.entries > first.entries
    export_journal(store, whole, key=KEY)
    assert path.read_bytes() == whole.read_bytes()
    # the digest that was noted down then is still one of its lines
    assert verify_export(path, key=KEY, head=first.head) == second


@pytest.mark.parametrize("key", [None, KEY], ids=["bare", "keyed"])
def test_any_change_of_any_byte_is_found(store, tmp_path, key):
    path = tmp_path / "audit.jsonl"
    head = export_journal(store, path, key=key).head
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(good) - 1, 120):
        bad = bytearray(good)
        bad[at] ^= 1 << int(rng.integers(0, 7))
        path.write_bytes(bytes(bad))
        with pytest.raises(EvidenceTampered):
            verify_export(path, key=key, head=head)


def test_lines_cannot_be_taken_out_doubled_or_exchanged(store, tmp_path):
    path = tmp_path / "audit.jsonl"
    head = export_journal(store, path, key=KEY).head
    lines = lines_of(path)
    for bad in (
        lines[:3] + lines[4:],
        [*lines[:3], lines[3], *lines[3:]],
        [*lines[:3], lines[4], lines[3], *lines[5:]],
        lines[1:],
        [*lines, b"{}\n"],
        [*lines, b"[]\n"],
        [*lines, b'{"line": 1e400}\n'],
        [],
    ):
        path.write_bytes(b"".join(bad))
        with pytest.raises(EvidenceTampered):
            verify_export(path, key=KEY)
    path.write_bytes(b"".join(lines[:-1]))
    verify_export(path, key=KEY)  # a shorter file is a good one: hence the head
    with pytest.raises(EvidenceTampered, match="cut off"):
        verify_export(path, key=KEY, head=head)


def test_a_file_that_was_written_anew_is_found_by_its_head_or_its_key(store, tmp_path):
    path = tmp_path / "audit.jsonl"
    head = export_journal(store, path).head
    other = SqlStore("sqlite://")
    serve(other, 2, start=50)
    path.unlink()
    export_journal(other, path)
    verify_export(path)
    with pytest.raises(EvidenceTampered, match="written anew"):
        verify_export(path, head=head)
    with pytest.raises(EvidenceTampered, match="without a key"):
        verify_export(path, key=KEY)
    path.unlink()
    export_journal(other, path, key=KEY)
    with pytest.raises(EvidenceTampered):
        verify_export(path, key=bytes(32))
    other.close()


def test_a_member_that_stands_twice_is_refused(store, tmp_path):
    path = tmp_path / "audit.jsonl"
    export_journal(store, path)
    lines = lines_of(path)
    lines[2] = lines[2].replace(b'{"before"', b'{"line":99,"before"', 1)
    path.write_bytes(b"".join(lines))
    with pytest.raises(EvidenceTampered, match="not a line"):
        verify_export(path)


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_crash_within_a_line_is_mended_by_the_next_export(store, tmp_path, cut):
    path = tmp_path / "audit.jsonl"
    chain = export_journal(store, path, key=KEY)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.raises(EvidenceTampered, match="within a line"):
        verify_export(path, key=KEY)
    assert export_journal(store, path, key=KEY) == chain
    assert path.read_bytes() == whole


def test_a_crash_within_the_first_line_is_mended_too(store, tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"before":"')
    assert export_journal(store, path).entries == len(store.journal())


def test_a_changed_file_is_not_gone_on_with(store, tmp_path):
    path = tmp_path / "audit.jsonl"
    export_journal(store, path)
    path.write_bytes(path.read_bytes().replace(b"account 1", b"account 9"))
    before = path.read_bytes()
    with pytest.raises(EvidenceTampered):
        export_journal(store, path)
    assert path.read_bytes() == before


def test_an_empty_journal_makes_a_file_of_one_line(tmp_path):
    store = SqlStore("sqlite://")
    path = tmp_path / "audit.jsonl"
    chain = export_journal(store, path)
    assert chain == Chain(0, 0, chain.head)
    assert len(lines_of(path)) == 1
    assert verify_export(path) == chain
    store.close()


def test_short_keys_and_missing_files_are_refused(store, tmp_path):
    with pytest.raises(InvalidInput, match="16 bytes"):
        export_journal(store, tmp_path / "a", key=b"short")
    with pytest.raises(InvalidInput, match="cannot be read"):
        verify_export(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="cannot be written"):
        export_journal(store, tmp_path / "no" / "folder")
