import subprocess
import sys


def test_accounting_needs_no_torch():
    code = "import sys, assay.privacy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
