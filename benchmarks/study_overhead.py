"""What the study engine costs beside the work of its steps.

1,000 steps that write one number each, two in five of which need two others, in one process, in
local processes and on a Ray cluster of this machine. Overhead is worker-seconds: wall-clock time
times workers over steps, once everything has started. Gates: 50 ms a step in local processes,
100 ms on Ray, 10 s to key, order and look up a plan of 10,000 steps, and a driver whose memory
does not grow with the steps that it has run.
Run: ``python benchmarks/study_overhead.py [--without-ray]``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from assay.study.engine import run_steps
from assay.study.executors import Executor, ProcessExecutor, SerialExecutor
from assay.study.plugins import load_plugins
from assay.study.step import Step, topological
from assay.study.store import Store

PLUGINS = (str(Path(__file__).with_name("_trivial_step.py")),)
MIB = 2**20


def plan(count: int, first: int = 0) -> list[Step]:
    """Return steps; two in five need two of the others."""
    leaves = [Step("benchmark-trivial", {"number": first + i}) for i in range(count * 3 // 5)]
    steps = list(leaves)
    for i in range(count - len(leaves)):
        pair = (leaves[i].key, leaves[(7 * i + 1) % len(leaves)].key)
        steps.append(Step("benchmark-trivial", {"number": first + i}, {"after": pair}))
    return steps


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(steps: list[Step], store: Store, executor: Executor, work: Path) -> float:
    """Run everything and return the wall-clock seconds."""
    started = time.perf_counter()
    outcome = run_steps(steps, store, executor, work=str(work), plugins=PLUGINS)
    assert outcome.complete, outcome.failed
    return time.perf_counter() - started


def overhead(executor: Executor, folder: Path, count: int = 1000) -> dict[str, float]:
    """Return milliseconds a step, and the seconds until every worker had started."""
    store, work = Store(folder / "artifacts"), folder / "work"
    with executor:
        start = run(plan(20 * executor.slots, first=10**6), store, executor, work)
        wall = run(plan(count), store, executor, work)
        slots = executor.slots
    return {"workers": slots, "start_s": start, "wall_s": wall, "ms": 1000 * wall * slots / count}


def planning(folder: Path, count: int = 10_000) -> dict[str, float]:
    """Return the seconds to make, order and look up a plan."""
    started = time.perf_counter()
    steps = topological(reversed(plan(count)))
    ordered = time.perf_counter()
    store = Store(folder / "artifacts")
    missing = sum(store.find(step.key) is None for step in steps)
    assert missing == len(steps) == count
    return {"order_s": ordered - started, "total_s": time.perf_counter() - started}


def memory(folder: Path, count: int) -> float:
    """Return by how many bytes the driver grows while it runs a plan that is already made."""
    store, steps = Store(folder / "artifacts"), plan(count)
    with SerialExecutor() as executor:
        run(plan(200, first=10**6), store, executor, folder / "work")
        before = resident()
        run(steps, store, executor, folder / "work")
    return float(resident() - before)


def apart(what: str) -> dict[str, float]:
    """Measure in a process of its own, so that none inherits another's memory or threads."""
    done = subprocess.run([sys.executable, __file__, "--only", what], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(what: str) -> dict[str, float]:
    load_plugins(PLUGINS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if what == "planning":
            return planning(folder)
        if what.startswith("memory"):
            return {"bytes": memory(folder, int(what.split("-")[1]))}
        if what == "ray":
            from assay.study.executors import RayExecutor

            return overhead(RayExecutor("local"), folder)
        return overhead(ProcessExecutor() if what == "processes" else SerialExecutor(), folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--only")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only)))
        return
    gates = {"serial": None, "processes": 50, "ray": 100}
    if options.without_ray:
        del gates["ray"]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("1,000 steps  workers  start     wall    worker-ms a step")
    for what, gate in gates.items():
        found = apart(what)
        limit = f"  (gate {gate})" if gate else ""
        print(
            f"{what:<11}  {found['workers']:>7.0f}  {found['start_s']:>5.1f} s  {found['wall_s']:>6.1f} s  "
            f"{found['ms']:>6.1f}{limit}"
        )
    found = apart("planning")
    print(
        f"10,000 steps: keys and order {found['order_s']:.2f} s, "
        f"with look-up {found['total_s']:.2f} s (gate 10)"
    )
    for count in (1000, 10_000):
        grown = apart(f"memory-{count}")["bytes"]
        print(f"driver grows by {grown / MIB:.1f} MiB over {count:,} steps, {grown / count:.0f} bytes a step")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
