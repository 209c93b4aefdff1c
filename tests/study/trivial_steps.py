"""A plug-in with steps that do almost nothing, or go wrong on purpose.

Every call adds a line with the step's key and its process to ``calls.txt`` beside the store,
and takes ``ASSAY_TRIVIAL_SLEEP`` seconds.
"""

import errno
import multiprocessing
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

from assay import registry
from assay.study.step import Step, step_kind

if multiprocessing.parent_process() is not None or "pytest" not in sys.modules:
    # A worker of these tests needs none of the real steps, whose imports take seconds.
    registry._loaded.add("step")

PLUGINS = (__file__,)
MEMORY_CALLS = []


def calls_file(store_url):
    return Path(store_url).parent / "calls.txt"


def count(context):
    if context.store.local:
        calls_file(context.store.url).parent.mkdir(exist_ok=True)
        with calls_file(context.store.url).open("a") as file:
            file.write(f"{context.step.key} {os.getpid()}\n")
    else:
        MEMORY_CALLS.append(context.step.key)
    time.sleep(float(os.environ.get("ASSAY_TRIVIAL_SLEEP", "0")))


def calls(store_url):
    """Return the key of every call that was made for a store, and the processes that made them."""
    path = calls_file(store_url)
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [key for key, _ in lines], {int(pid) for _, pid in lines}


@step_kind("trivial-number")
def number(context):
    """Write a number that depends on configuration and seed."""
    count(context)
    time.sleep(context.config.get("sleep", 0.0))
    value = context.config["value"] * 10 + context.seed
    (context.out / "number.txt").write_text(str(value))
    return {"value": value}


@step_kind("trivial-sum")
def total(context):
    """Write the sum of the inputs."""
    count(context)
    value = sum(int((folder / "number.txt").read_text()) for folder, _ in context.open_all("terms"))
    (context.out / "number.txt").write_text(str(value))
    return {"value": value, "terms": len(context.keys("terms"))}


@step_kind("trivial-failure")
def failure(context):
    """Say something and raise."""
    count(context)
    sys.stdout.write("before it fails\n")
    how = context.config.get("how", "raise")
    if how == "exit":
        raise SystemExit(3)
    if how == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
    if how == "hidden-full":
        raise RuntimeError("Error while serializing: " + os.strerror(errno.ENOSPC) + " (os error 28)")
    raise ValueError(how)


@step_kind("trivial-death")
def death(context):
    """Die by SIGKILL the first few times."""
    count(context)
    marks = context.work / "deaths"
    dead = len(marks.read_text()) if marks.exists() else 0
    if dead < context.config["times"]:
        marks.write_text("x" * (dead + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    (context.out / "number.txt").write_text("7")
    return {"value": 7}


@step_kind("trivial-place")
def place(context):
    """Tell where it runs."""
    count(context)
    return {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "device": context.device}


def numbers_and_sums(count=6, *, changed=None):
    """Return numbers, the sum of each neighbouring pair, and the sum of these."""
    numbers = [
        Step("trivial-number", {"value": 99 if i == changed else i}, seed=i, label=f"number {i}")
        for i in range(count)
    ]
    pairs = [
        Step("trivial-sum", {}, {"terms": (a.key, b.key)}, label=f"pair {a.label} {b.label}")
        for a, b in pairwise(numbers)
    ]
    return [*numbers, *pairs, Step("trivial-sum", {}, {"terms": tuple(p.key for p in pairs)}, label="all")]


def found(store, steps):
    """Return what must not depend on who computed a step: its facts and the digests of its files."""
    manifests = {s.key: store.find(s.key) for s in steps}
    return {key: m and (m.kind, m.config, m.seed, m.inputs, m.facts, m.files) for key, m in manifests.items()}
