import plugged  # noqa: F401 - registers the steps
import pytest

from assay.study.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "artifacts")


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """A finished run of the little study."""
    from little import study_of

    from assay.study import run_study
    from assay.study.executors import SerialExecutor

    with SerialExecutor() as executor:
        return run_study(study_of(), tmp_path_factory.mktemp("ran"), executor=executor)
