from __future__ import annotations

import re
import shlex
from pathlib import Path

from assay.cli.app import app

PAGE = Path(__file__).parents[2] / "docs/cli.md"


def test_the_examples_of_the_documentation_run(assay):
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert len(commands) > 12
    for command in commands:
        program, *words = shlex.split(command)
        done = assay(*words)
        # The split is a secret of its own each time, so that either decision may come out.
        expected = {0, 10} if words[0] == "verify" else {0}
        assert program == "assay"
        assert done.code in expected, (command, done.err)
        assert done.out
        assert done.err == ""


def test_every_verb_is_documented():
    text = PAGE.read_text()
    for command in app.registered_commands:
        assert f"assay {command.name}" in text
