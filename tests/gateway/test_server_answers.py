"""Output defences and models, or requests, that show labels alone."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import CLASSES, INFER, Counted, as_json, make_policy, rows, serving, solve

from assay.errors import InvalidInput
from assay.gateway.policy import Defence
from assay.gateway.server.replies import OutputTensor, encode_reply
from assay.gateway.server.setup import open_gateway
from assay.gateway.upstream.base import Answer, ModelInfo, TensorInfo

SCORES = TensorInfo("scores", "FP32", (-1, CLASSES))
LABELS = TensorInfo("labels", "INT64", (-1,))
MARKED = (Defence(name="dawn", settings={"rate": 0.5}),)


class Labelled(Counted):
    """Answers the outputs that it is asked for: scores, labels, or both."""

    def __init__(self, *outputs, classes=None):
        super().__init__()
        self.info = ModelInfo("m", self.info.inputs, outputs, ("1",), stated_classes=classes)

    async def infer(self, model, version, query):
        self.count += 1
        logits = query.inputs[0].array.astype(np.float64) @ self.weight
        scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        known = {
            "scores": OutputTensor("scores", "FP32", scores.astype(np.float32)),
            "labels": OutputTensor("labels", "INT64", scores.argmax(1)),
        }
        wanted = query.outputs or [one.name for one in self.info.outputs]
        return Answer(*encode_reply({"model_name": model}, [known[name] for name in wanted]))

    def truth(self, x):
        return (x.astype(np.float64) @ self.weight).argmax(1)


def ask(gateway, x, **members):
    body = as_json(x, **members)
    asked = gateway.post(INFER, json=body)
    assert asked.status_code == 428, asked.text
    answer = gateway.post(INFER, json=body, headers={"PoW-Proof": solve(asked.json()["challenge"])})
    assert answer.status_code == 200, answer.text
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer.json()["outputs"]}


def test_who_asks_labels_alone_sees_the_same_marks_as_who_asks_scores(tmp_path):
    upstream = Labelled(SCORES, LABELS)
    with serving(tmp_path, make_policy(answers=MARKED), upstream) as gateway:
        x = rows(8)
        labels = ask(gateway, x, outputs=[{"name": "labels"}])
        assert labels.keys() == {"labels"}
        scores = ask(gateway, x, outputs=[{"name": "scores"}])
        both = ask(gateway, x)
        assert labels["labels"].tolist() == both["labels"].tolist() == scores["scores"].argmax(1).tolist()
        # Marks there are: half of the labels are wrong.
        assert 0 < wrong(gateway, upstream) < 32


@pytest.mark.parametrize("name", ["rounding", "top-1", "reverse-sigmoid"])
def test_a_request_for_labels_is_answered_whatever_happens_to_scores(tmp_path, name):
    upstream = Labelled(SCORES, LABELS)
    with serving(tmp_path, make_policy(answers=(Defence(name=name),)), upstream) as gateway:
        shown = ask(gateway, rows(4), outputs=[{"name": "labels"}])
        assert shown["labels"].tolist() == upstream.truth(rows(4)).tolist()
        gateway.settled()
        assert gateway.store.queries(limit=1)[0].status == "settled"


def test_a_model_of_labels_whose_classes_are_known_can_be_marked(tmp_path):
    upstream = Labelled(LABELS, classes=CLASSES)
    policy = make_policy(answers=MARKED).model_copy(update={"model": "m"})
    with serving(tmp_path, policy, upstream) as gateway:
        assert set(ask(gateway, rows(8))["labels"].tolist()) <= set(range(CLASSES))
        assert 0 < wrong(gateway, upstream) < 32


def wrong(gateway, upstream):
    """Return how many of 32 answers are marked: enough that a random key marks some and not all."""
    batches = [rows(8, seed=seed) for seed in range(4)]
    return sum(int((ask(gateway, x)["labels"] != upstream.truth(x)).sum()) for x in batches)


def start(folder, policy, upstream):
    gateway = open_gateway(
        policy, upstream=upstream, store=f"sqlite:///{folder}/g.db", keys=folder / "gateway.keys"
    )

    async def begin():
        try:
            await gateway.start()
        finally:
            await gateway.close()

    asyncio.run(begin())


@pytest.mark.parametrize(
    ("answers", "classes", "words"),
    [
        ((Defence(name="rounding"),), CLASSES, "rounding needs scores, but m answers labels only"),
        ((Defence(name="top-1"), Defence(name="noise")), CLASSES, "noise needs scores"),
        (MARKED, None, "dawn needs the number of classes"),
    ],
)
def test_a_policy_that_cannot_work_on_labels_is_refused_at_the_start(tmp_path, answers, classes, words):
    policy = make_policy(answers=answers).model_copy(update={"model": "m"})
    with pytest.raises(InvalidInput, match=words):
        start(tmp_path, policy, Labelled(LABELS, classes=classes))
    # Controls: the same policy in front of scores, and no defence in front of labels.
    start(tmp_path, policy, Labelled(SCORES))
    start(tmp_path, make_policy(version=2).model_copy(update={"model": "m"}), Labelled(LABELS))


def test_a_model_that_no_policy_names_is_refused_before_anything_is_paid(tmp_path):
    upstream = Labelled(LABELS, classes=CLASSES)
    with serving(tmp_path, make_policy(answers=(Defence(name="rounding"),)), upstream) as gateway:
        refused = gateway.infer(rows(1))
        assert refused.status_code == 503
        assert "needs scores" in refused.json()["detail"]
        assert upstream.count == 0


def test_a_server_that_is_not_there_yet_does_not_keep_the_gateway_from_starting(tmp_path, caplog):
    from assay.gateway.upstream.base import UpstreamDown

    class Late(Labelled):
        async def metadata(self, model, version=None):
            msg = "not there yet"
            raise UpstreamDown(msg)

    start(tmp_path, make_policy(answers=MARKED).model_copy(update={"model": "m"}), Late(SCORES))
    assert "not there yet" in caplog.text


def test_the_number_of_classes_is_read_from_the_description():
    x = (TensorInfo("x", "FP32", (-1, 2)),)
    for outputs, classes, labels_only in [
        ((), None, False),
        ((SCORES,), CLASSES, False),
        ((SCORES, LABELS), CLASSES, False),
        ((LABELS,), None, True),
        ((TensorInfo("p", "FP64", (-1,)),), 2, False),
        ((TensorInfo("p", "FP64", (-1, 1)),), 2, False),
        ((TensorInfo("p", "FP32", (-1, -1)),), None, False),
        ((SCORES, TensorInfo("features", "FP32", (-1, 64))), None, False),
        ((TensorInfo("name", "BYTES", (-1,)),), None, False),
    ]:
        info = ModelInfo("m", x, outputs)
        assert (info.classes, info.labels_only) == (classes, labels_only), outputs
    assert json.dumps(ModelInfo("m", x, (LABELS,), stated_classes=3).content())
