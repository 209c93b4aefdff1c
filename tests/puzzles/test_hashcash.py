import hashlib
from datetime import UTC, datetime

import pytest

from assay.errors import InvalidInput
from assay.puzzles.hashcash import Stamp, leading_zero_bits, solve_stamp

STAMP = Stamp(16, "220425", "model-extraction-warning", "AAAAAAAA")


def test_published_hashes():
    assert hashlib.sha1(b"foo9591").hexdigest() == "0000de4c9b27cec9b20e2094785c1c58eaf23948"
    assert leading_zero_bits("foo9591") == 16
    text = "1:16:040922:foo::+ArSrtKd:164b3"
    assert hashlib.sha1(text.encode()).hexdigest() == "0000a9fe0c6db2efcbcab15157735e77c0877f34"
    assert Stamp(16, "040922", "foo", "+ArSrtKd").accepts(text)


@pytest.mark.parametrize(
    ("bits", "counter"),
    [(1, "9"), (4, "23"), (8, "23"), (12, "2a7"), (16, "1c0c"), (18, "13635"), (20, "13635")],
)
def test_first_counters(bits, counter):
    assert STAMP.challenge == "1:16:220425:model-extraction-warning::AAAAAAAA:"
    text, trials = solve_stamp(STAMP, bits)
    assert text == STAMP.challenge + counter
    assert trials == int(counter, 16) + 1
    assert leading_zero_bits(text) >= bits


def test_hashes_and_trials_of_the_published_solutions():
    for bits, trials, digest in (
        (16, 7_181, "0000f15dddf881b1e851f61db1ce9427dc8a0224"),
        (20, 79_414, "000009b3907e286a277ca78a5a1d9f468a9dcf8f"),
    ):
        text, tried = solve_stamp(STAMP, bits)
        assert (tried, hashlib.sha1(text.encode()).hexdigest()) == (trials, digest)


def test_a_stamp_accepts_itself_only():
    text, _ = solve_stamp(STAMP)
    assert STAMP.accepts(text)
    other = Stamp(16, "220426", "model-extraction-warning", "AAAAAAAA")
    for bad in (text + "0", text[:-1], text.upper(), text + ":", STAMP.challenge + "01c0c"):
        assert not STAMP.accepts(bad)
    assert not other.accepts(text)
    assert Stamp.issue(8, "r", datetime(2022, 4, 25, tzinfo=UTC)).date == "220425"


def test_fields_cannot_hold_colons():
    for fields in (
        (16, "220425", "a:b", "s"),
        (16, "22:", "a", "s"),
        (-1, "220425", "a", "s"),
        (161, "1", "a", "s"),
    ):
        with pytest.raises(InvalidInput):
            Stamp(*fields)
