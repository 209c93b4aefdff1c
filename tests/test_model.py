import pytest
import torch

from assay.errors import AccessDenied, InvalidInput
from assay.model import (
    Access,
    Model,
    check_embeddings,
    check_inputs,
    check_labels,
    check_scores,
    require,
)


class Fake:
    def __init__(self, access=Access.LABELS):
        self.name, self.access, self.input_shape = "fake", access, (2,)
        self.num_classes, self.digest = 2, "0"

    def labels(self, x):
        return torch.zeros(len(x), dtype=torch.int64)

    def scores(self, x):
        return torch.full((len(x), 2), 0.5)

    def embeddings(self, x):
        return x

    @property
    def module(self):
        return torch.nn.Identity()


def test_levels_contain_what_is_below_them():
    assert Access.LABELS in Access.SCORES
    assert Access.SCORES in Access.WEIGHTS
    assert Access.SCORES not in Access.LABELS
    assert Access.EMBEDDINGS not in Access.WEIGHTS
    assert all(Access.NONE in level for level in Access)


@pytest.mark.parametrize("name", ["none", "LABELS", "Scores", "embeddings", "weights"])
def test_levels_are_parsed_by_name_and_titled_by_it(name):
    assert Access.parse(name).title == name.lower()


def test_combined_levels_have_a_readable_title_and_unknown_ones_are_refused():
    assert Access.parse("scores") | Access.parse("embeddings") == Access.SCORES | Access.EMBEDDINGS
    assert "embeddings" in (Access.SCORES | Access.EMBEDDINGS).title
    with pytest.raises(InvalidInput, match="choose one of"):
        Access.parse("everything")


def test_require_refuses_what_is_not_offered():
    assert isinstance(Fake(), Model)
    require(Fake(Access.SCORES), Access.LABELS, "this")
    with pytest.raises(AccessDenied, match="this needs scores of fake, which offers only labels"):
        require(Fake(), Access.SCORES, "this")


@pytest.mark.parametrize(
    "x",
    [
        [[0.0, 1.0]],
        torch.zeros(3, 2, dtype=torch.int64),
        torch.zeros(3, 3),
        torch.zeros(2),
        torch.tensor(1.0),
        torch.tensor([[0.0, float("nan")]]),
        torch.tensor([[0.0, float("inf")]]),
    ],
)
def test_bad_inputs_are_refused(x):
    with pytest.raises(InvalidInput, match="fake"):
        check_inputs(x, (2,), "fake")


def test_good_inputs_pass_even_when_empty():
    check_inputs(torch.zeros(0, 2), (2,), "fake")
    check_inputs(torch.zeros(3, 2, dtype=torch.float64), (2,), "fake")


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1],
        torch.tensor([0]),
        torch.tensor([[0], [1]]),
        torch.tensor([0.0, 1.0]),
        torch.tensor([True, False]),
        torch.tensor([0, 2]),
        torch.tensor([-1, 0]),
    ],
)
def test_bad_labels_are_refused(labels):
    with pytest.raises(InvalidInput, match="fake answered"):
        check_labels(labels, 2, 2, "fake")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_become_int64(dtype):
    assert check_labels(torch.tensor([0, 1], dtype=dtype), 2, 2, "fake").dtype == torch.int64


@pytest.mark.parametrize(
    "scores",
    [
        [[0.5, 0.5]],
        torch.full((1, 3), 1 / 3),
        torch.tensor([[1, 0]]),
        torch.tensor([[0.5, float("nan")]]),
        torch.tensor([[0.9, 0.2]]),
        torch.tensor([[1.5, -0.5]]),
        torch.tensor([[3.0, 1.0]]),
    ],
)
def test_bad_scores_are_refused(scores):
    with pytest.raises(InvalidInput, match="fake answered scores"):
        check_scores(scores, 1, 2, "fake")


def test_half_precision_answers_become_float32_and_double_stays():
    half = torch.full((1, 2), 0.5, dtype=torch.bfloat16)
    assert check_scores(half, 1, 2, "fake").dtype == torch.float32
    assert check_scores(half.double(), 1, 2, "fake").dtype == torch.float64
    assert check_embeddings(half, 1, "fake").dtype == torch.float32


@pytest.mark.parametrize(
    "features",
    [
        torch.zeros(2),
        torch.zeros(3, 4),
        torch.zeros(2, 3, dtype=torch.int64),
        torch.full((2, 3), float("nan")),
    ],
)
def test_bad_embeddings_are_refused(features):
    with pytest.raises(InvalidInput, match="fake answered embeddings"):
        check_embeddings(features, 2, "fake")
