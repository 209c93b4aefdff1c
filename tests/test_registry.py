import dataclasses
import importlib
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from assay import registry
from assay.errors import InvalidInput, UnknownName
from assay.registry import configure, create, get, nearest, register, registered


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Options:
    """One line about it.

    And more.
    """

    kind: ClassVar[str] = "x"
    count: int = 3
    rate: float = 0.5
    flag: bool = False
    mode: Literal["fast", "slow"] = "fast"
    limit: int | None = None
    widths: tuple[int, ...] = (1, 2)
    inner: Inner = dataclasses.field(default_factory=Inner)


@pytest.fixture
def scratch(monkeypatch):
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(registry, "_loaded", set(registry._loaded) | {"removal", "plugins"})
    monkeypatch.setitem(registry._ROOMS, "removal", ())  # an empty room to furnish


def test_registered_things_are_found_with_summary_and_parameters(scratch):
    register("options", kind="removal")(Options)
    entry = get("options", "removal")
    assert entry.summary == "One line about it."
    assert entry.parameters["count"] == "3"
    assert "kind" not in entry.parameters
    assert entry in list(registered("removal"))
    assert create("options", "removal", {"count": "7"}).count == 7


def test_text_is_converted_by_the_type_of_the_field():
    made = configure(
        Options,
        {
            "count": "4",
            "rate": "1e-3",
            "flag": "yes",
            "mode": "slow",
            "limit": "9",
            "widths": "3, 4,5",
            "inner": '{"depth": 2}',
        },
    )
    assert made == Options(4, 1e-3, True, "slow", 9, (3, 4, 5), Inner(2))
    assert configure(Options, {"limit": "none"}).limit is None
    assert configure(Options, {"count": 5}).count == 5


@pytest.mark.parametrize(
    "options",
    [
        {"count": "many"},
        {"flag": "perhaps"},
        {"mode": "fastt"},
        {"limit": "1.5"},
        {"widths": "1,b"},
        {"inner": "{"},
    ],
)
def test_text_that_does_not_fit_is_refused(options):
    with pytest.raises(InvalidInput):
        configure(Options, options)


def test_unknown_names_offer_the_nearest_known_one(scratch):
    register("options", kind="removal")(Options)
    with pytest.raises(UnknownName, match="did you mean 'options'"):
        get("optoins", "removal")
    with pytest.raises(UnknownName, match="did you mean 'count'"):
        configure(Options, {"cuont": "1"})
    with pytest.raises(UnknownName, match="unknown kind"):
        list(registered("extractoin"))
    assert nearest("x", [], "thing") == "unknown thing 'x'; known: none"


def test_a_dash_and_an_underscore_are_the_same():
    @dataclass(frozen=True)
    class Dashed:
        batch_size: int = 1

    assert configure(Dashed, {"batch-size": "8"}).batch_size == 8


def test_a_taken_name_is_refused_even_for_a_class_of_the_same_name(scratch):
    register("options", kind="removal")(Options)
    register("options", kind="removal")(Options)  # the same thing twice is no clash
    imposter = type("Options", (), {"__module__": "somewhere.else", "__qualname__": "Options"})
    with pytest.raises(InvalidInput, match="already taken"):
        register("options", kind="removal")(imposter)
    with pytest.raises(InvalidInput, match="unknown kind"):
        register("options", kind="nonsense")


def test_a_room_that_fails_to_import_fails_each_time(monkeypatch):
    monkeypatch.setattr(registry, "_loaded", set())
    monkeypatch.setitem(registry._ROOMS, "removal", ("assay.no_such_room",))
    for _ in range(2):
        with pytest.raises(ImportError):
            list(registered("removal"))


def test_plugins_are_loaded_once(monkeypatch, scratch):
    calls = []

    class Point:
        def load(self):
            calls.append(1)
            register("from-plugin", kind="removal")(Options)

    registry._loaded -= {"plugins", "removal"}
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [Point()])
    assert get("from-plugin", "removal").target is Options
    list(registered("removal"))
    assert calls == [1]


def test_options_of_something_that_takes_none_are_refused():
    with pytest.raises(InvalidInput, match="takes no options"):
        configure(len, {})


def test_every_extraction_has_a_summary():
    importlib.import_module("assay.extraction.catalogue")
    entries = {e.name: e for e in registered("extraction")}
    expected = {"source-copy", "distillation", "data-theft", "fine-tuning", "label-query", "logit-query"}
    assert expected <= set(entries)
    assert all(e.summary.endswith(".") for e in entries.values())
