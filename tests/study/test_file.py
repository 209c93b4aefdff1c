from __future__ import annotations

import re

import pytest
from little import LITTLE, PATH, changed, study_of

from assay.errors import InvalidInput
from assay.study.file import load_study, parse_study
from assay.study.schema import laid_over, merged
from assay.study.schema_grid import StudyFile

TITLE = 'title = "Iris"\n'

FORM = [
    # what is changed, what is added, the text of the line that is named, what is said
    ([(TITLE, "")], "", "[study]", "study.title is missing"),
    ([(TITLE, 'title = ""\n')], "", 'title = ""', "at least 1 character"),
    ([(TITLE, TITLE + "seds = 2\n")], "", "seds = 2", "did you mean 'seeds'?"),
    ([(TITLE, TITLE + "seeds = 0\n")], "", "seeds = 0", "greater than or equal to 1, got 0"),
    ([(TITLE, TITLE + "seeds = -3\n")], "", "seeds = -3", "greater than or equal to 1"),
    ([(TITLE, TITLE + "seeds = true\n")], "", "seeds = true", "must be a whole number, got True"),
    ([(TITLE, TITLE + 'seeds = "2"\n')], "", "seeds =", "must be a whole number, got '2'"),
    ([(TITLE, TITLE + "seeds = [1, 0, 1]\n")], "", "seeds =", "a seed stands there twice"),
    ([(TITLE, TITLE + "seeds = []\n")], "", "seeds =", "at least 1 item"),
    ([(TITLE, TITLE + "seeds = [-1]\n")], "", "seeds =", "greater than or equal to 0, got -1"),
    ([(TITLE, TITLE + "seeds = 99999999999999999999\n")], "", "seeds =", "less than or equal to"),
    ([("alpha = 0.05", "alpha = 0.9")], "", "alpha", "less than or equal to 0.5"),
    ([("alpha = 0.05", "alpha = nan")], "", "alpha", "alpha"),
    ([("alpha = 0.05", 'alpha = "0.1"')], "", "alpha", "must be a number, got '0.1'"),
    ([("pool = 80", "pool = 0")], "", "parts", "data.iris.parts.pool: must be greater"),
    ([("pool = 80", "pool = 1.5")], "", "parts", "must be a whole number, got 1.5"),
    ([("references = { count = 2 }", "references = { cuont = 2 }")], "", "cuont", "did you mean 'count'?"),
    ([("references = { count = 2 }", "references = { count = -1 }")], "", "count = -1", "got -1"),
    ([("references = { count = 2 }", "references = 3")], "", "references = 3", "must be a table, got 3"),
    ([('recipe = "short"', "recipe = 3")], "", "recipe = 3", "victim.a.recipe"),
    ([("count = 2\n\n[grid]", "count = 0\n\n[grid]")], "", "count = 0", "panel.others.models.0.count"),
    ([("[grid]\n", '[grid]\nvictims = "a"\n')], "", 'victims = "a"', "must be a list, got 'a'"),
    ([("[grid]\n", "[grid]\nexclude = [{}]\n")], "", "exclude", "at least 1 item"),
    ([("[victim.a]", "[[victim.a]]")], "", "[[victim.a]]", "victim.a: must be a table"),
    ([("[extraction.twice]", '[extraction."a/b"]')], "", "a/b", "a name is made of letters"),
    ([("[extraction.twice]", "[extraction.none]")], "", "none", "neither 'all' nor 'none'"),
    ([], '[vicitm.x]\ndata = "iris"\n', "[vicitm.x]", "unknown table 'vicitm'; did you mean 'victim'?"),
    ([], "[evidence.kept.per.z]\noptions = {}\n", "per.z", "unknown victim 'z'"),
    ([], "[evidence.kept.per.a]\noption = {}\n", "option =", "unknown key of [evidence.kept.per.a] 'option'"),
    ([], "[extraction.labels.per.a]\nbudget = -1\n", "budget", "extraction.labels.per.a.budget"),
    ([], '[extraction.twice.per.a]\nchain = ["copy"]\n', 'chain = ["copy"]', "cannot differ"),
    ([], "[preset.bad]\nstudy.seds = 1\n", "study.seds", "did you mean 'seeds'?"),
    ([], "[preset]\nflat = 1\n", "flat = 1", "preset.flat must be a table"),
]


@pytest.mark.parametrize(("changes", "extra", "line", "said"), FORM)
def test_what_has_not_the_right_form_is_told_with_its_line(changes, extra, line, said):
    text = changed(*changes)
    # Tables of a preset may only be added before those that are there already.
    text = text.replace("[preset.two]\n", extra + "[preset.two]\n", 1) if extra else text
    with pytest.raises(InvalidInput) as raised:
        parse_study(text, PATH)
    found = re.fullmatch(rf"{PATH}, line (\d+): (.*)", str(raised.value))
    assert found, str(raised.value)
    assert line in text.splitlines()[int(found[1]) - 1]
    assert said in found[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = \n", "s, line 1: this is not TOML: Invalid value"),
        ("[x]\n[x]\n", "s, line 2: this is not TOML: Cannot declare ('x',) twice"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("preset = 3", "s, line 1: preset must be a table"),
        ("", "s: study is missing"),
        ("study = 1\n" + LITTLE.partition("[data.iris]")[1] + LITTLE.partition("[data.iris]")[2], "a table"),
    ],
)
def test_what_is_no_study_at_all(text, said):
    with pytest.raises(InvalidInput) as raised:
        parse_study(text, "s")
    assert said in str(raised.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        load_study(tmp_path / "gone.toml")
    with pytest.raises(InvalidInput, match="directory"):
        load_study(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="not text in UTF-8"):
        load_study(tmp_path / "binary.toml")
    (tmp_path / "large.toml").write_text("#" * (2**20 + 1))
    with pytest.raises(InvalidInput, match="larger than any study file"):
        load_study(tmp_path / "large.toml")


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "s.toml").write_bytes(b"\xef\xbb\xbf" + LITTLE.encode())
    assert load_study(tmp_path / "s.toml").file.study.title == "Iris"


def test_presets_are_laid_over_the_file():
    plain, two = study_of().file, study_of(preset="two").file
    assert plain.study.seed_list == [0]
    assert two.study.seed_list == [0, 1]
    assert two.study.title == "Iris"
    assert [m.count for m in two.panel["others"].models] == [1]  # lists are replaced
    assert two.panel["others"].secrets == 2  # tables are merged
    with pytest.raises(InvalidInput, match="unknown preset 'tow'; did you mean 'two'"):
        study_of(preset="tow")


def test_the_line_is_that_of_the_definition_that_holds():
    text, study = LITTLE.splitlines(), study_of(preset="two")

    def line(*place, victim=None, of=study):
        return text[int(of.where(*place, victim=victim).rpartition(" ")[2]) - 1]

    assert line("study", "seeds") == "study.seeds = 2"
    assert line("study", "alpha") == "alpha = 0.05"
    assert line("panel", "others", "models", 0, "architecture").startswith("models = [{")
    assert line("panel", "others", "models", 0, "architecture", of=study_of()) == 'architecture = "mlp-4"'
    assert line("panel", "others", "secrets") == "secrets = 2"
    assert line("evidence", "kept", "nothing") == "[evidence.kept]"
    own = study_of(extra="[evidence.kept.per.a]\noptions = { keep = 9 }\n")
    text = changed(extra="[evidence.kept.per.a]\noptions = { keep = 9 }\n").splitlines()
    assert line("evidence", "kept", "options", "keep", victim="a", of=own) == "options = { keep = 9 }"
    assert line("evidence", "kept", "scheme", victim="a", of=own).startswith("scheme")


def test_what_is_said_for_one_victim_holds_for_that_one():
    study = study_of(extra="[evidence.kept.per.a]\noptions = { keep = 9 }\n")
    table = study.file.evidence["kept"]
    assert merged(table, "a").options == {"keep": 9, "decide": "permutation", "resamples": 99}
    assert merged(table, "b") is table


def test_laying_over_changes_neither():
    base = {"a": {"x": 1}, "b": 2}
    assert laid_over(base, {"a": {"y": 2}, "b": {"z": 3}}) == {"a": {"x": 1, "y": 2}, "b": {"z": 3}}
    assert base == {"a": {"x": 1}, "b": 2}


def test_every_key_is_documented():
    tables = [StudyFile]
    for table in tables:
        for name, field in table.model_fields.items():
            listed = re.search(r"Attributes\n +-+\n(.*)", table.__doc__, re.DOTALL)[1]
            headings = [line for line in listed.splitlines() if re.match(r" {4}\S", line)]
            assert any(name in re.split(r"[ ,]+", line.strip()) for line in headings), (table, name)
            tables += [t for t in _tables(field.annotation) if t not in tables]
    assert len(tables) == 14


def _tables(hint):
    if isinstance(hint, type) and hasattr(hint, "model_fields"):
        return [hint]
    return [table for inner in getattr(hint, "__args__", ()) for table in _tables(inner)]
