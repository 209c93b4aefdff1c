"""Imports the plug-in of these tests as the engine does, so that there is one of it in a process."""

import sys
from pathlib import Path

from assay.study.plugins import load_plugins

_FILE = str(Path(__file__).with_name("trivial_steps.py").resolve())

load_plugins((_FILE,))
sys.modules["trivial_steps"] = next(m for m in sys.modules.values() if getattr(m, "__file__", "") == _FILE)
