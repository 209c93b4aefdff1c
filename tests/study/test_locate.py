from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.study.locate import Locator

KEYS = st.sampled_from(["a", "b-c", "1", "with space", "dot.ted", 'quo"ted', "ü", ""])
SCALARS = st.sampled_from(
    [
        "1",
        "true",
        "-0.5",
        "1979-05-27 07:32:00",
        '"text # no comment"',
        "'[no.header]'",
        '"""\nx = 1\n[no.table]\n"""',
        "'''\ny = [\n'''",
        r'"back\\slash \" quote"',
        '""',
        "''",
        '"""four quotes at the end""""',
    ]
)


def inline(value):
    """Return a value as an inline table's TOML, on one line where it must be."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key_text(k)} = {inline(v)}" for k, v in value.items()) + " }"
    return value


def key_text(key):
    bare = key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key)
    return key if bare else '"' + key.replace('"', '\\"') + '"'


class Writer:
    """Writes TOML and notes in which line each key begins."""

    def __init__(self):
        self.text, self.lines = "", {}

    def write(self, text):
        self.text += text

    def note(self, place):
        self.lines.setdefault(place, self.text.count("\n") + 1)

    def pair(self, place, value):
        self.note(place)
        self.write(f"  {key_text(place[-1])}\t= ")
        if isinstance(value, list):
            self.write("[ # a list [\n")
            for index, item in enumerate(value):
                self.write("\n    ")
                self.note((*place, index))
                self.below((*place, index), item)
                self.write(inline(item) + " , # ]\n")
            self.write("]\n")
        else:
            self.below(place, value)
            self.write(inline(value) + " # comment = 1\n")

    def below(self, place, value):
        # An inline table stands in one line, unless a string in it is longer.
        if isinstance(value, dict) and not any("\n" in inline(v) for v in value.values()):
            for key, inner in value.items():
                self.note((*place, key))
                self.below((*place, key), inner)

    def table(self, place, table, header):
        self.note(place)
        self.write(header + " # a header\n\n")
        for key, value in table.items():
            self.pair((*place, key), value)


VALUES = st.one_of(
    SCALARS,
    st.dictionaries(KEYS, st.one_of(SCALARS, st.dictionaries(KEYS, SCALARS, max_size=2)), max_size=3),
    st.lists(st.one_of(SCALARS, st.dictionaries(KEYS, SCALARS, max_size=2)), max_size=3),
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, st.one_of(TABLES, st.lists(TABLES, min_size=1, max_size=3)), max_size=4))
def test_every_key_is_found_in_its_line(tables):
    writer = Writer()
    writer.write("# [not.a.table]\n\n")
    for name, table in tables.items():
        if isinstance(table, list):
            writer.note((name,))
            for index, one in enumerate(table):
                writer.table((name, index), one, f"[[ {key_text(name)} ]]")
        else:
            writer.table((name,), table, f"[{key_text(name)}]")
    tomllib.loads(writer.text)  # the text is right before its lines are
    locator = Locator(writer.text)
    assert {place: locator.line(place) for place in writer.lines} == writer.lines


def test_dotted_keys_and_tables_below_arrays():
    text = '[a]\nb.c . "d.e" = 1\n[[x]]\n[[x.y]]\nz = 1\n[[x.y]]\n[x.y.w]\nv = 2\r\n[[x]]\n[x.u]\n'
    found = Locator(text)
    assert tomllib.loads(text)["x"][0]["y"][1]["w"]["v"] == 2
    assert found.line(("a", "b", "c", "d.e")) == 2
    assert found.line(("a", "b")) == 2
    assert found.line(("x", 0, "y", 0, "z")) == 5
    assert found.line(("x", 0, "y", 1, "w", "v")) == 8
    assert found.line(("x", 1, "u")) == 10


def test_what_is_not_there_is_near_something():
    found = Locator("top = 1\n[a.b]\nc = { d = 1 }\n")
    assert found.nearest(("a", "b", "c", "e", "f")) == 3
    assert found.nearest(("a", "x")) == 2
    assert found.nearest(("nothing",)) is None
    assert found.line(()) is None


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "a = 1"])
def test_texts_with_little_in_them(text):
    Locator(text)


def test_a_long_file_is_read_quickly():
    rows = "".join(f'[t.n{i}]\nkey = "value"\nlist = [1, 2, {{ a = 1 }}]\n' for i in range(4000))
    assert Locator(rows).line(("t", "n3999", "list", 2, "a")) == 12_000
