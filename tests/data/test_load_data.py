from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from assay import registry
from assay.data import Dataset, available, load_data
from assay.data.catalogue import search_path
from assay.errors import InvalidInput, UnknownName
from assay.registry import register, registered
from assay.result import Record

SHAPES = {
    "digits": (1797, (1, 8, 8), 10),
    "iris": (150, (4,), 3),
    "wine": (178, (13,), 3),
    "breast-cancer": (569, (30,), 2),
    "circles": (5000, (2,), 2),
    "moons": (5000, (2,), 2),
    "blobs": (5000, (2,), 3),
    "five-class": (1000, (20,), 5),
}
STORED = {
    "mnist": (60_000, 10_000, (1, 28, 28), 10),
    "fashion-mnist": (60_000, 10_000, (1, 28, 28), 10),
    "cifar10": (50_000, 10_000, (3, 32, 32), 10),
}
TABLES = {
    "adult": (32_561, 108, 2),
    "adult:target=race": (32_561, 105, 5),
    "gss": (16_127, 101, 3),
    "steak": (331, 40, 5),
}


def need(name):
    if not next(info.found for info in available() if info.name == name):
        pytest.skip(f"{name} is not at hand; point ASSAY_DATA at a folder that has it")


@pytest.mark.parametrize("name", SHAPES)
def test_what_needs_no_files(name):
    data = load_data(name)
    assert (len(data), data.input_shape, data.num_classes) == SHAPES[name]
    assert data.value_range == (0, 1)
    assert data.name == name
    assert set(data.y.tolist()) == set(range(data.num_classes))
    assert load_data(name).digest == data.digest


@pytest.mark.parametrize("name", ["iris", "wine", "breast-cancer", "circles", "five-class"])
def test_tables_span_their_range(name):
    x = load_data(name).x
    assert (x.amin(0) == 0).all()
    assert (x.amax(0) == 1).all()


@pytest.mark.parametrize("name", ["circles", "moons", "blobs", "five-class"])
def test_generators_follow_their_options(name):
    data = load_data(f"{name}:n=60,noise=0.1,seed=5")
    assert len(data) == 60
    assert load_data(f"{name}:n=60,noise=0.1", rng=5).digest == data.digest
    assert load_data(f"{name}:n=60,noise=0.1,seed=5", rng=9).digest == data.digest
    assert load_data(f"{name}:n=60,noise=0.1,seed=6").digest != data.digest
    for bad in ("n=3", "n=many", "noise=-1", "n=99999999999"):
        with pytest.raises(InvalidInput):
            load_data(f"{name}:{bad}")


def test_circles_without_noise_are_circles():
    data = load_data("circles:n=100,noise=0")
    radius = (2 * data.x - 1).norm(dim=1)
    assert torch.allclose(radius, torch.where(data.y == 0, 1.0, 0.5), atol=5e-3)


def test_a_set_without_parts_is_divided_once_and_for_all():
    whole = load_data("digits")
    train, test = (load_data("digits", split=s, rng=r) for s, r in (("train", 1), ("test", 2)))
    assert (len(train), len(test)) == (1438, 359)
    assert (train.name, test.name) == ("digits-train", "digits-test")
    rows = torch.cat([train.x, test.x]).flatten(1)
    assert torch.equal(rows.sum(1).sort().values, whole.x.flatten(1).sum(1).sort().values)
    assert load_data("digits", split="all").digest == whole.digest
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        load_data("digits", split="trian")


def test_limit_draws_nested_random_rows():
    ten, hundred = load_data("digits", limit=10), load_data("digits", limit=100)
    assert torch.equal(ten.x, hundred.x[:10])
    assert len(hundred.y.unique()) == 10
    assert len({tuple(r) for r in load_data("digits", limit=5000).x.flatten(1).tolist()}) == 1797
    assert not torch.equal(load_data("digits", limit=10, rng=1).x, ten.x)
    assert load_data("digits", limit=10, rng=0).digest == ten.digest


@pytest.mark.parametrize("bad", [{"limit": 0}, {"limit": -1}, {"rng": -1}, {"rng": 0.5}, {"rng": True}])
def test_bad_arguments(bad):
    with pytest.raises(InvalidInput):
        load_data("digits", **bad)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("digit", UnknownName, "did you mean 'digits'"),
        ("", UnknownName, "unknown data set"),
        ("moons:count=5", UnknownName, "unknown option"),
        ("digits:n=5", UnknownName, "unknown option"),
        ("digits:5", InvalidInput, "takes nothing but options"),
        ("nowhere/at/all", InvalidInput, "no file or folder"),
        ("absent.npz", InvalidInput, "no file or folder"),
        ("csv", InvalidInput, "needs path"),
        ("csv:absent.csv", InvalidInput, "cannot open"),
    ],
)
def test_specs_that_name_nothing(spec, error, message):
    with pytest.raises(error, match=message):
        load_data(spec)


def test_our_own_archives_load_by_path(tmp_path):
    data = load_data("iris")
    data.save(tmp_path / "mine.npz")
    assert load_data(str(tmp_path / "mine.npz")).digest == data.digest
    assert load_data(f"npz:{tmp_path}/mine.npz").digest == data.digest
    assert len(load_data(f"{tmp_path}/mine.npz", split="test")) == 30


def test_a_path_may_contain_colons_and_equal_signs(tmp_path):
    place = tmp_path / "a:b=c d"
    place.mkdir()
    load_data("iris").save(place / "x.npz")
    assert len(load_data(f"npz:{place}/x.npz")) == 150
    assert len(load_data(f"{place}/x.npz")) == 150


def test_plug_ins_are_sources_like_ours(monkeypatch):
    # A copy, so that no other test meets this source.
    monkeypatch.setattr(registry, "_entries", {(e.kind, e.name): e for e in registered("source")})

    @register("example-source", kind="source")
    def example_source(rows: int = 4, seed: int = 0) -> Dataset:
        """Rows of noise."""
        x = torch.rand(rows, 2, generator=torch.Generator().manual_seed(seed))
        return Dataset(x, torch.arange(rows) % 2, ("a", "b"), name="noise")

    assert len(load_data("example-source:rows=6")) == 6
    info = next(i for i in available() if i.name == "example-source")
    assert (info.found, info.summary) == (True, "Rows of noise.")


def test_missing_sets_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    monkeypatch.setattr("assay.data.catalogue.search_path", lambda: [tmp_path])
    for info in (i for i in available() if i.kind == "stored"):
        assert (info.found, info.where) == (False, "")
        with pytest.raises(InvalidInput, match="ASSAY_DATA") as caught:
            load_data(info.name)
        assert info.how in str(caught.value)


def test_the_search_path_takes_several_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("ASSAY_DATA", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert search_path()[:2] == [tmp_path / "a", tmp_path / "b"]
    (tmp_path / "b").mkdir()
    x = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    np.savez(tmp_path / "b" / "mnist.npz", x_train=x, y_train=[0, 1], x_test=x, y_test=[0, 1])
    assert len(load_data("mnist")) == 4
    info = next(i for i in available() if i.name == "mnist")
    assert (info.found, info.where) == (True, str(tmp_path / "b" / "mnist.npz"))


def test_stored_tables_are_read_from_small_files_of_the_same_form(monkeypatch, tmp_path):
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    (tmp_path / "aws_adult.csv").write_text("age,job,race,income\n30, ?, W, <=50K\n40, cook, B, >50K\n\n")
    assert load_data("adult").classes == ("<=50K", ">50K")
    assert load_data("adult:target=race").classes == ("B", "W")
    with pytest.raises(UnknownName):
        load_data("adult:target=age")
    (tmp_path / "steak.csv").write_text(
        "RespondentID,Age,How do you like your steak prepared?\n,Response,Response\n"
        "1,> 60,Rare\n2,,Well\n3,18-29,Well\n"
    )
    steak = load_data("steak")
    assert (len(steak), steak.input_shape, steak.classes) == (2, (2,), ("Rare", "Well"))
    (tmp_path / "GSShappiness.csv").write_text(
        "year,id,age,Happiness of marriage\r2006,1,89 OR OLDER,HAPPY\r2006,2,20,\r2006,3,20,SAD\r"
    )
    assert load_data("gss").input_shape == (2,)


def test_listing_sources_imports_no_library_that_a_source_needs():
    code = "import sys, assay.data; assay.data.available(); print({'sklearn', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_source_describes_itself_and_survives_json():
    infos = available()
    assert [i.name for i in infos] == sorted(e.name for e in registered("source"))
    for info in infos:
        assert isinstance(info, Record)
        assert type(info).from_dict(info.to_dict()) == info
        assert info.size
        assert info.how
        assert info.summary.endswith(("]", ".", "]."))


@pytest.mark.parametrize("name", STORED)
def test_stored_images(name):
    need(name)
    test = load_data(name, split="test")
    rows, shape, classes = STORED[name][1:]
    assert (len(test), test.input_shape, test.num_classes) == (rows, shape, classes)
    assert test.y.bincount().min() > rows // classes // 2
    assert test.value_range == (0, 1)


@pytest.mark.parametrize("name", TABLES)
def test_stored_tables(name):
    need(name.partition(":")[0])
    data = load_data(name)
    assert (len(data), *data.input_shape, data.num_classes) == TABLES[name]
