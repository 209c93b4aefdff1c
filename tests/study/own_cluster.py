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


def processes():
    """Return the processes that belong to this one's session, without it."""
    listed = subprocess.run(
        ["ps", "-ewwo", "pid=,sess=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=3) for line in listed.stdout.splitlines()]
    ours = [row for row in rows if row[1] == str(os.getsid(0)) and "Z" not in row[2] and "ray" in row[3]]
    return {row[0]: row[3].split()[0] for row in ours if row[0] != str(os.getpid())}


if __name__ == "__main__":
    import_ray()
    if os.getsid(0) != os.getpid():
        os.setsid()
    before = state()
    with RayExecutor("local") as executor:
        during = processes()
        outcome = run_steps(numbers_and_sums(20), Store(sys.argv[1]), executor, plugins=PLUGINS)
    assert outcome.complete
    assert any("raylet" in name for name in during.values()), during
    for name, value in state().items():
        assert value == before[name], name
    end = time.monotonic() + 150
    while processes():
        assert time.monotonic() < end, processes()
        time.sleep(0.1)
