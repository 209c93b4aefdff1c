import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.errors import EvidenceTampered, InvalidInput
from assay.journal import Journal, row_keys

HEADER = {"model": "abc", "input_shape": [2]}


def _write(path, n=5):
    rows = np.arange(2.0 * n).reshape(n, 2)
    keys = row_keys("labels", rows)
    with Journal(path, HEADER) as book:
        book.record(keys[:3], np.arange(3))
        book.record(keys[3:], np.arange(3, n))
    return keys


def test_answers_come_back_first_in_first_out(tmp_path):
    key = row_keys("scores", np.zeros((1, 2)))
    with Journal(tmp_path / "j", HEADER) as book:
        book.record(key, np.array([[0.25, 0.75]]))
        book.record(key, np.array([[0.5, 0.5]]))
        assert book.take(key[0]) is None  # only what an earlier run wrote is replayed
    with Journal(tmp_path / "j", HEADER) as book:
        assert book.rows == 2
        assert book.take(key[0]).tolist() == [0.25, 0.75]
        assert book.take(key[0]).tolist() == [0.5, 0.5]
        assert book.take(key[0]) is None


@given(arrays(np.float32, (4, 3), elements=st.floats(-1, 1, width=32)))
def test_keys_tell_rows_kinds_dtypes_and_shapes_apart(x):
    keys = row_keys("labels", x)
    for i in range(4):
        for j in range(4):
            assert (keys[i] == keys[j]) == (x[i].tobytes() == x[j].tobytes())
    assert keys != row_keys("scores", x)
    assert keys != row_keys("labels", x.astype(np.float64))
    assert keys != row_keys("labels", x[:, :, None])
    assert keys == row_keys("labels", np.asfortranarray(x))


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_answers_survive_bit_for_bit(tmp_path, dtype):
    answers = np.random.default_rng(0).normal(size=(6, 4)).astype(dtype)
    keys = row_keys("scores", np.arange(6.0)[:, None])
    with Journal(tmp_path / "j", HEADER) as book:
        book.record(keys, answers)
    with Journal(tmp_path / "j", None, read_only=True) as book:
        assert book.header == HEADER
        again = np.stack([book.take(key) for key in keys])
    assert again.dtype == dtype
    assert again.tobytes() == answers.tobytes()


def test_half_a_line_left_by_a_kill_is_dropped(tmp_path):
    keys = _write(tmp_path / "j")
    whole = (tmp_path / "j").read_bytes()
    for cut in (1, 20, 100):
        (tmp_path / "j").write_bytes(whole[:-cut])
        with Journal(tmp_path / "j", HEADER) as book:
            assert book.rows == 3
            book.record(keys[3:], np.arange(3, 5))
        assert (tmp_path / "j").read_bytes() == whole


def test_a_kill_inside_the_header_starts_afresh(tmp_path):
    (tmp_path / "j").write_bytes(b'{"journal": 1, "mod')
    with Journal(tmp_path / "j", HEADER) as book:
        assert book.rows == 0
    assert Journal(tmp_path / "j", None, read_only=True).header == HEADER


def test_any_changed_line_is_noticed(tmp_path):
    _write(tmp_path / "j")
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    for index in range(len(lines)):
        entry = json.loads(lines[index])
        name = next(k for k in ("answers", "model") if k in entry)
        entry[name] = entry[name][::-1] + "A"
        changed = [*lines[:index], json.dumps(entry, sort_keys=True).encode() + b"\n", *lines[index + 1 :]]
        (tmp_path / "j").write_bytes(b"".join(changed))
        with pytest.raises(EvidenceTampered, match=f"line {index + 1}"):
            Journal(tmp_path / "j", None, read_only=True)


@pytest.mark.parametrize("order", [(0, 2, 1), (0, 2), (0, 1, 1, 2)])
def test_reordered_dropped_and_repeated_lines_are_noticed(tmp_path, order):
    _write(tmp_path / "j")
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join(lines[i] for i in order))
    with pytest.raises(EvidenceTampered):
        Journal(tmp_path / "j", None, read_only=True)


@pytest.mark.parametrize("junk", [b"\x80\x04pickle\n", b"[]\n", b"3\n", b"{}\n"])
def test_files_that_are_no_journal_are_refused(tmp_path, junk):
    (tmp_path / "j").write_bytes(junk)
    with pytest.raises(EvidenceTampered):
        Journal(tmp_path / "j", HEADER)


def test_another_model_another_run_and_no_file_are_refused(tmp_path):
    _write(tmp_path / "j")
    with pytest.raises(InvalidInput, match="model differ"):
        Journal(tmp_path / "j", {**HEADER, "model": "other"})
    with (
        Journal(tmp_path / "j", HEADER),
        pytest.raises(InvalidInput, match="in use"),
    ):
        Journal(tmp_path / "j", HEADER)
    with pytest.raises(InvalidInput, match="no journal"):
        Journal(tmp_path / "none", None, read_only=True)


def test_reading_does_not_write(tmp_path):
    _write(tmp_path / "j")
    whole = (tmp_path / "j").read_bytes()
    with (
        Journal(tmp_path / "j", None, read_only=True) as book,
        pytest.raises(InvalidInput, match="reading only"),
    ):
        book.record([b"0" * 16], np.zeros(1))
    assert (tmp_path / "j").read_bytes() == whole


def test_answers_of_odd_types_are_refused(tmp_path):
    with Journal(tmp_path / "j", HEADER) as book, pytest.raises(InvalidInput, match="float16"):
        book.record([b"0" * 16], np.zeros(1, np.float16))
