import subprocess
import sys

import assay.statistics as room


def test_public_names_exist_and_are_sorted():
    assert list(room.__all__) == sorted(room.__all__)
    assert all(hasattr(room, name) for name in room.__all__)


def test_import_is_light():
    code = "import sys, assay.statistics; print(sorted({'torch', 'scipy', 'sklearn'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
