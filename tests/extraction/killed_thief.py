"""Runs attacks in processes that are killed by SIGKILL, and writes what became of each to stdout.

Usage: killed_thief.py FOLDER. Each attempt is a process of its own, forked from one that
has imported everything, and every row that the victim answers is on disk before the
answer leaves, so that a row asked twice would be seen.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from assay.data.dataset import Dataset
from assay.extraction import FineTuning, LabelQuery, LogitQuery
from assay.journal import row_keys
from assay.model import Access
from assay.nets import Recipe, build, train
from assay.observers import Observer

ROWS = 5000  # three chunks of the journal
ATTACKS = {
    "label-query": LabelQuery(architecture="mlp-16", epochs=5, batch_size=250),
    "logit-query": LogitQuery(architecture="mlp-16", epochs=5, batch_size=250),
    "fine-tuning": FineTuning(epochs=5, batch_size=250),
}


class Victim:
    """A network that writes down every row and may die before it answers a given call."""

    def __init__(self, log, fatal_call):
        self.name, self.access, self.input_shape = "victim", Access.WEIGHTS, (4,)
        self.num_classes, self.digest = 3, "v" * 64
        self.module = build("mlp-8", (4,), 3, 0).eval()
        self.log, self.fatal_call, self.calls = log, fatal_call, 0

    def _logits(self, x):
        self.calls += 1
        if self.calls == self.fatal_call:
            os.kill(os.getpid(), signal.SIGKILL)
        with self.log.open("a") as file:
            file.writelines(key.hex() + "\n" for key in row_keys("", x.numpy()))
        with torch.no_grad():
            return self.module(x)

    def labels(self, x):
        return self._logits(x).argmax(1)

    def scores(self, x):
        return self._logits(x).softmax(1)


class Killer(Observer):
    """Writes down every epoch and kills the process after one of them."""

    def __init__(self, log, epoch):
        self.log, self.epoch = log, epoch

    def on_step(self, task, done, metrics=None):
        with self.log.open("a") as file:
            file.write(f"{done}\n")
        if done == self.epoch:
            os.kill(os.getpid(), signal.SIGKILL)


def attempt(name, folder, *, fatal_call=None, fatal_epoch=None):
    process = os.fork()
    if process == 0:
        status = 1
        try:
            x = torch.rand(ROWS, 4, generator=torch.Generator().manual_seed(5))
            pool = Dataset(x, torch.zeros(ROWS, dtype=torch.int64), ("a", "b", "c"))
            theft = ATTACKS[name].run(
                Victim(folder / "asked.txt", fatal_call),
                pool,
                rng=4,
                journal=folder / "journal.jsonl",
                checkpoint=folder / "checkpoint.safetensors",
                observers=[Killer(folder / "epochs.txt", fatal_epoch)],
            )
            found = {"digest": theft.surrogate.digest, **theft.record.cost.to_dict()}
            (folder / "found.json").write_text(json.dumps(found))
            status = 0
        finally:
            os._exit(status)
    _, code = os.waitpid(process, 0)
    return -os.waitstatus_to_exitcode(code)


def main(base):
    torch.set_num_threads(1)
    warm = Dataset(torch.rand(4, 4), torch.zeros(4, dtype=torch.int64), ("a", "b", "c"))
    train(build("mlp-2", (4,), 3), warm, Recipe(epochs=1))  # torch imports much of itself on first use
    outcome = {}
    for name in ATTACKS:
        whole, killed = base / name / "whole", base / name / "killed"
        for folder in (whole, killed):
            folder.mkdir(parents=True)
            (folder / "asked.txt").touch()
        exits = [attempt(name, whole)]
        if name != "fine-tuning":
            exits += [attempt(name, killed, fatal_call=2), attempt(name, killed, fatal_call=2)]
        exits += [attempt(name, killed, fatal_epoch=1), attempt(name, killed, fatal_epoch=3)]
        exits.append(attempt(name, killed))
        outcome[name] = {
            "exits": exits,
            "whole": json.loads((whole / "found.json").read_text()),
            "killed": json.loads((killed / "found.json").read_text()),
            "epochs": (killed / "epochs.txt").read_text().split(),
            "asked": (killed / "asked.txt").read_text().split(),
        }
    sys.stdout.write(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
