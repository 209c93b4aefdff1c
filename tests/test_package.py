import subprocess
import sys

import pytest

import assay


def test_import_is_light():
    heavy = "{'torch', 'scipy', 'sklearn', 'numpy', 'rich'}"
    code = f"import sys, assay; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", assay.__all__)
def test_every_public_name_resolves(name):
    assert getattr(assay, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = assay.no_such_thing
