from __future__ import annotations

import gzip

import numpy as np
import pytest

from assay.data import load_data
from assay.data.table import Table, read_table, unit_range
from assay.errors import InvalidInput, UnknownName


def write(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_any_line_ends_blanks_and_blank_lines(tmp_path, end, name):
    path = write(
        tmp_path,
        end.join(["age, job,income", "30, ?, >50K", "", "20, cook, <=50K", "40, ?, <=50K"]) + end,
        name,
    )
    table = read_table(path)
    assert table.columns == ("age", "job", "income")
    assert table.rows == (("30", "?", ">50K"), ("20", "cook", "<=50K"), ("40", "?", "<=50K"))
    data, features = table.encode("income")
    assert features == ("age", "job=?", "job=cook")
    assert data.x.tolist() == [[0.5, 1, 0], [0, 0, 1], [1, 1, 0]]
    assert (data.classes, data.y.tolist(), data.name) == (("<=50K", ">50K"), [1, 0, 0], "t")


def test_a_second_header_row_and_no_header(tmp_path):
    two = write(tmp_path, "id,a,b\n,Response,Response\n1,x,u\n2,y,v\n")
    assert read_table(two, header=2).rows == (("1", "x", "u"), ("2", "y", "v"))
    none = write(tmp_path, "1,u\n2,v\n")
    assert read_table(none, header=0).columns == ("0", "1")
    assert load_data(f"{none}:header=0").y.tolist() == [0, 1]


def test_options_of_a_spec(tmp_path):
    path = write(tmp_path, 'year;id;"a, b";kind\n1;7;3;x\n2;8;4;y\n')
    data = load_data(f'{path}:delimiter=;,target=kind,"drop=year,id"')
    assert (data.input_shape, data.classes) == ((1,), ("x", "y"))
    assert load_data(f'{path}:delimiter=;,"target=a, b"').classes == ("3", "4")
    with pytest.raises(UnknownName, match="did you mean 'kind'"):
        load_data(f"{path}:delimiter=;,target=kid")
    with pytest.raises(UnknownName, match="did you mean 'target'"):
        load_data(f"{path}:taget=kind")
    with pytest.raises(InvalidInput, match="has no value"):
        load_data(f"{path}:delimiter=;,target")
    other = path.rename(tmp_path / "t.data")
    assert len(load_data(f"csv:{other}:delimiter=;")) == 2
    with pytest.raises(InvalidInput, match="csv:PATH"):
        load_data(str(other))


def test_missing_cells_are_refused_dropped_or_a_category(tmp_path):
    path = write(tmp_path, "n,c,y\n1,a,0\n2,,1\n3,b,1\n4,NaN,0\n")
    with pytest.raises(InvalidInput, match=r"2 rows miss values \(row 1, column 'c'\)"):
        load_data(str(path))
    assert load_data(f"{path}:missing=drop").y.tolist() == [0, 1]
    assert load_data(f"{path}:missing=category").input_shape == (4,)
    assert load_data(f"{path}:drop=c").y.tolist() == [0, 1, 1, 0]
    with pytest.raises(InvalidInput, match="missing"):
        load_data(f"{path}:missing=guess")


def test_missing_numbers_and_targets_are_no_category(tmp_path):
    with pytest.raises(InvalidInput, match="column of numbers 'n'"):
        load_data(str(write(tmp_path, "n,y\n1,a\n,b\n2,a\n")) + ":missing=category")
    with pytest.raises(InvalidInput, match="1 rows miss the target"):
        load_data(str(write(tmp_path, "n,y\n1,a\n2,b\n2,\n")) + ":missing=category")
    with pytest.raises(InvalidInput, match="every row"):
        load_data(str(write(tmp_path, "n,y\n1,\n2,\n")) + ":missing=drop")


def test_numbers_can_stay_as_they_are(tmp_path):
    data = load_data(str(write(tmp_path, "n,m,y\n-5,1e3,a\n2,7,b\n")) + ":scale=no")
    assert data.x.tolist() == [[-5, 1000], [2, 7]]
    assert data.value_range == (-5, 1000)


def test_classes_that_are_numbers_sort_as_numbers():
    rows = tuple(("1", str(c)) for c in (10, 9, 2, 10))
    assert Table(("x", "y"), rows).encode()[0].classes == ("2", "9", "10")


def test_an_identifier_is_no_number_and_too_many_texts_are_refused():
    rows = tuple((f"{i}_0", str(i % 2)) for i in range(1001))
    assert Table(("id", "y"), rows[:3]).encode()[1] == ("id=0_0", "id=1_0", "id=2_0")
    with pytest.raises(InvalidInput, match="1,001 different texts"):
        Table(("id", "y"), rows).encode()
    with pytest.raises(InvalidInput, match="must be a class"):
        Table(("x", "y"), tuple(("1", str(i / 7)) for i in range(1001))).encode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "two columns called 'a'"),
        ("a,b\n1,2\n1,2,3\n", "row 1 has 3 cells"),
        ("a,b\ninf,2\n1,3\n", "infinite"),
        ("b\n2\n3\n", "no column beside"),
        ("a,b\n1,2\n2,2\n", "2 classes"),
        ('a,b\n"' + "x" * 200_000 + '",1\n', "as CSV"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(InvalidInput, match=message):
        load_data(str(write(tmp_path, text)))


def test_bad_calls():
    table = Table(("x", "y"), (("1", "a"), ("2", "b")))
    with pytest.raises(InvalidInput, match="cannot be dropped"):
        table.encode("y", drop=("y",))
    with pytest.raises(UnknownName, match="column"):
        table.encode("z")
    with pytest.raises(UnknownName, match="policy"):
        table.encode(missing="whatever")
    with pytest.raises(InvalidInput, match="one character"):
        read_table("x.csv", delimiter="")


def test_unit_range_is_exact_at_both_ends():
    x = np.random.default_rng(0).normal(size=(50, 4)) * [1, 1e-8, 1e8, 0]
    scaled = unit_range(x)
    assert scaled.dtype == np.float32
    assert scaled[:, :3].min(0).tolist() == [0, 0, 0]
    assert scaled[:, :3].max(0).tolist() == [1, 1, 1]
    assert (scaled[:, 3] == 0).all()
