import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    script = Path(__file__).with_name("killed_thief.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("killed"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["label-query", "logit-query"])
def test_four_kills_cost_no_query_and_change_no_bit(outcome, name):
    found = outcome[name]
    # Killed after the first chunk, after the second, after epochs 1 and 3; then it ends.
    assert found["exits"] == [0, 9, 9, 9, 9, 0]
    assert len(found["asked"]) == len(set(found["asked"])) == 5000
    assert found["killed"]["digest"] == found["whole"]["digest"]
    assert found["killed"]["queries"] == found["whole"]["queries"] == 5000
    assert (found["whole"]["replayed"], found["killed"]["replayed"]) == (0, 5000)
    assert found["killed"]["round_trips"] == 0
    assert found["epochs"] == ["1", "2", "3", "4", "5"]


def test_fine_tuning_goes_on_from_its_checkpoint(outcome):
    found = outcome["fine-tuning"]
    assert found["exits"] == [0, 9, 9, 0]
    assert found["asked"] == []
    assert found["epochs"] == ["1", "2", "3", "4", "5"]
    assert found["killed"]["digest"] == found["whole"]["digest"]
