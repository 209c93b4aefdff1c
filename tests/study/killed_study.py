"""Runs a study of slow steps with two local processes, to be killed.

Usage: killed_study.py STORE WORK
"""

import sys

import plugged  # noqa: F401 - before the next
from trivial_steps import PLUGINS, numbers_and_sums

from assay.study.engine import run_steps
from assay.study.executors import ProcessExecutor
from assay.study.store import Store

COUNT = 8

if __name__ == "__main__":
    steps = numbers_and_sums(COUNT)
    with ProcessExecutor(2) as executor:
        run_steps(steps, Store(sys.argv[1]), executor, work=sys.argv[2], plugins=PLUGINS)
