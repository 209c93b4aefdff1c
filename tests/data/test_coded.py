"""Tables as codes."""

from __future__ import annotations

import numpy as np
import pytest

from assay.data.coded import code_table
from assay.data.table import Table
from assay.errors import InvalidInput, UnknownName

ROWS = (("3", "red", "x", "a"), ("", "blue", "x", "b"), ("1", "red", "x", ""), ("OLD", "", "x", "a"))
TABLE = Table(("size", "colour", "same", "sort"), ROWS, "fruit")


def test_rows_without_target_and_constant_columns_go():
    coded = code_table(TABLE, "sort")
    assert coded.columns == ("size", "colour")
    assert coded.classes == ("a", "b")
    assert coded.y.tolist() == [0, 1, 0]
    assert coded.sizes == (3, 3)
    assert coded.categories[0] == ("", "3", "OLD")


def test_numbers_with_words_go_beyond_the_largest():
    coded = code_table(TABLE, "sort", numbers=("size",))
    assert coded.sizes == (0, 3)
    np.testing.assert_array_equal(coded.x[:, 0], [3.0, 4.0, 4.0])


def test_columns_of_numbers_stay_numbers():
    coded = code_table(Table(("n", "t"), (("1.5", "a"), ("-2", "b"))), "t")
    assert coded.sizes == (0,)
    assert coded.x.tolist() == [[1.5], [-2.0]]


def test_unknown_columns_and_empty_targets_are_refused():
    with pytest.raises(UnknownName, match="colour"):
        code_table(TABLE, "sort", drop=("color",))
    with pytest.raises(InvalidInput, match="no row"):
        code_table(Table(("a", "b"), (("1", ""),)), "b")
