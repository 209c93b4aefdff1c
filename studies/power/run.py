"""Power and error rates of dataset inference on Fashion-MNIST and CIFAR-10.

    python studies/power/run.py --out runs/power                 # everything: hours on 2 cores
    python studies/power/run.py --out runs/power --only fashion-mlp
    python studies/power/run.py --out runs/power --step report   # tables and figure again

Every model and every table row is kept in the output folder; a run that was killed goes
on where it was. Fashion-MNIST is found in the operating system's dataset package or, as
IDX files, in the folder that ASSAY_DATA names; CIFAR-10 in the latter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from evaluate import evaluate, write_rows
from models import train_all
from settings import SETTINGS
from tables import write_report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/power"))
    parser.add_argument("--only", action="append", choices=sorted(SETTINGS), help="some settings")
    parser.add_argument("--step", choices=["train", "evaluate", "report"], help="one step; all by default")
    parser.add_argument("--docs", type=Path, help="folder for the tables and the figure; the output folder")
    options = parser.parse_args()
    torch.set_num_threads(1)  # two processes with a thread each beat one with two
    for name in options.only or SETTINGS:
        folder = options.out / name
        if options.step in (None, "train"):
            train_all(name, folder)
        if options.step in (None, "evaluate"):
            write_rows(evaluate(name, folder), folder / "verdicts.jsonl")
            print(f"{name}: verdicts written", flush=True)
    if options.step in (None, "report"):
        rows = []
        for name in SETTINGS:
            file = options.out / name / "verdicts.jsonl"
            if file.exists():
                rows += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        write_report(rows, options.out, options.docs or options.out)


if __name__ == "__main__":
    main()
