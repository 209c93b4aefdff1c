import pytest

from assay import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_an_assay_error_with_an_exit_code(name):
    kind = getattr(errors, name)
    assert issubclass(kind, errors.AssayError)
    assert kind.exit_code in (1, 2, 3)


def test_bad_input_budget_and_internal_errors_exit_differently():
    assert errors.AssayError.exit_code == 1
    assert errors.InvalidInput.exit_code == errors.UnknownName.exit_code == 2
    assert errors.BudgetExceeded.exit_code == errors.AccessDenied.exit_code == 3


def test_errors_are_also_what_python_programmers_expect():
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.MissingDependency, ImportError)
    assert not issubclass(errors.BudgetExceeded, errors.InvalidInput)
