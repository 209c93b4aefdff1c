"""Runs a study on a Ray cluster of its own; fails if anything of Ray is left afterwards.

Usage: own_cluster.py STORE
"""

import logging
import os
import resource
import signal
import subprocess
import sys
import time

import plugged  # noqa: F401 - before the next
from trivial_steps import PLUGINS, numbers_and_sums

from assay.study.engine import run_steps
from assay.study.executors import RayExecutor
from assay.study.executors.ray_connection import import_ray
from assay.study.store import Store


def state():
    logger = logging.getLogger("ray")
    return {
        "environment": dict(os.environ),
        "sigterm": signal.getsignal(signal.SIGTERM),
        "excepthook": sys.excepthook,
        "logger": (logger.level, list(logger.handlers), logger.propagate),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    }


def running():
    """Return parent and name of every process that is alive."""
    listed = subprocess.check_output(["ps", "-ewwo", "pid=,ppid=,stat=,args="], text=True)
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    return {row[0]: (row[1], row[3].split()[0]) for row in rows if "Z" not in row[2]}


def descendants():
    """Return the names of all processes below this one, but for the one that lists them."""
    alive, found = running(), {str(os.getpid()): "this"}
    for _ in range(5):
        found |= {pid: name for pid, (parent, name) in alive.items() if parent in found}
    return {pid: name for pid, name in found.items() if name not in ("this", "ps")}


if __name__ == "__main__":
    import_ray()
    before = state()
    with RayExecutor("local") as executor:
        outcome = run_steps(numbers_and_sums(20), Store(sys.argv[1]), executor, plugins=PLUGINS)
        started = descendants()
    assert outcome.complete
    assert any("raylet" in name for name in started.values()), started
    for name, value in state().items():
        assert value == before[name], name
    end = time.monotonic() + 60
    while left := started.keys() & running().keys():
        assert time.monotonic() < end, [started[pid] for pid in left]
        time.sleep(0.1)
