"""What `import assay` costs beside an interpreter that imports nothing.

Gate: at most 0.2 s, and no torch. Run: python benchmarks/import_time.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time


def seconds(code: str, repeats: int = 7) -> float:
    """Return the median wall-clock time of a fresh interpreter."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    bare, ours, torch = seconds("pass"), seconds("import assay"), seconds("import torch", 3)
    found = {"bare": bare, "assay": ours, "torch": torch, "assay_alone": ours - bare}
    print(f"interpreter {bare:.3f} s, with assay {ours:.3f} s, with torch {torch:.3f} s")
    print(json.dumps({"benchmark": "import_time", **{k: round(v, 4) for k, v in found.items()}}))


if __name__ == "__main__":
    main()
