from __future__ import annotations

import re
import shlex
from pathlib import Path

from assay.cli.study import STUDY_VERBS
from assay.study import schema, schema_grid

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "study-files.md").read_text()


def test_the_example_of_the_documentation_runs(assay, tmp_path):
    (tmp_path / "study.toml").write_text(re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1])
    commands = re.search(r"```console\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
    for command in commands:
        words = shlex.split(command.removeprefix("$ assay "))
        runs = "--out" in words
        done = assay(*words, *(["--serial", "--json"] if runs else []))
        assert (done.code, done.err) == (0, ""), command
        assert not runs or done.json["complete"]
    # The second run found what the first had left.
    assert done.out
    assert assay("study", "status", "run", "--json").json["left"] == 0


def test_every_key_and_every_verb_is_documented():
    tables = [t for room in (schema, schema_grid) for t in vars(room).values() if hasattr(t, "model_fields")]
    for table in tables:
        for name in table.model_fields:
            assert f"`{name}`" in PAGE or f"[{name}." in PAGE or f"[{name}]" in PAGE, (table, name)
    text = (DOCS / "cli.md").read_text()
    for name in STUDY_VERBS:
        assert f"assay study {name}" in text
