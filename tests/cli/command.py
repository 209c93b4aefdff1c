"""Call the command line in this process, and how the tests train."""

from __future__ import annotations

import json
from dataclasses import dataclass

from typer.testing import CliRunner

from assay.cli.app import app

RECIPE = '{"epochs": 40, "optimizer": "adam", "lr": 0.003, "weight_decay": 0.0, "batch_size": 32}'
TRAINING = [
    f"--recipe={name}"
    for name in ("epochs=40", "optimizer=adam", "lr=0.003", "weight_decay=0", "batch_size=32")
]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def run(*arguments, env=None):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)
