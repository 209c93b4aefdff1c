"""Questions sent ahead of the books: sooner, never answered without a reservation, and bounded waste."""

import asyncio
import threading

import pytest
from serving import Counted, as_json, make_policy, rows, serving

from assay.gateway.account import AccountState
from assay.gateway.server.ahead import Ahead, drop, hand_over
from assay.gateway.store.base import StoreDown


def always(_state):
    return True


# --- what is earned ---------------------------------------------------------------------------
def test_no_more_is_ahead_than_was_served():
    ahead, taken, served = Ahead(most=4), 0, 0
    for step in range(200):
        taken += ahead.take("a", always)
        if step % 3 == 0:
            ahead.served(AccountState("a"))
            served += 1
        assert taken <= served
    assert taken > served / 2


def test_a_refusal_takes_what_was_earned_and_accounts_do_not_share():
    ahead = Ahead()
    for _ in range(5):
        ahead.served(AccountState("a"))
    assert not ahead.take("b", always)
    assert ahead.take("a", always)
    ahead.refused("a")
    assert not ahead.take("a", always)


def test_books_that_would_be_refused_are_not_ahead():
    ahead = Ahead()
    ahead.served(AccountState("a", debt=3.0))
    assert not ahead.take("a", lambda state: state.debt < 1.0)
    assert ahead.take("a", lambda state: state.debt < 5.0)


def test_memory_is_bounded_and_the_longest_unused_go_first():
    ahead = Ahead(accounts=3)
    for name in "abcad":
        ahead.served(AccountState(name))
    assert [ahead.take(name, always) for name in "abcd"] == [True, False, True, True]


def test_none_may_be_ahead_where_it_is_switched_off():
    ahead = Ahead(most=0)
    ahead.served(AccountState("a"))
    assert not ahead.take("a", always)


def test_a_task_has_begun_when_it_is_handed_over_and_can_be_dropped_in_any_state():
    async def question(seen, error=None):
        seen.append("asked")
        if error is not None:
            raise error
        await asyncio.sleep(60)

    async def main():
        seen, complaints = [], []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        pending = asyncio.ensure_future(question(seen))
        await hand_over(pending)
        failed = asyncio.ensure_future(question(seen, OSError("gone")))
        await hand_over(failed)
        assert seen == ["asked", "asked"]
        for task in (pending, failed):
            drop(task)
        await asyncio.sleep(0.01)
        assert pending.cancelled()
        del pending, failed, task
        import gc

        gc.collect()
        await asyncio.sleep(0)
        return complaints

    assert asyncio.run(main()) == []


def test_a_question_of_somebody_who_left_is_given_up():
    async def question(seen):
        seen.append("asked")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("given up")
            raise

    async def main():
        seen = []
        task = asyncio.ensure_future(question(seen))
        asking = asyncio.ensure_future(hand_over(task))
        await asyncio.sleep(0)  # the question has begun, and is not handed over yet
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0.01)
        return list(seen)  # what is left is cancelled when the loop ends

    assert asyncio.run(main()) == ["asked", "given up"]


# --- in the gateway ------------------------------------------------------------------------------
class Watching(Counted):
    """Tells when it is asked, and which questions were given up."""

    def __init__(self):
        super().__init__()
        self.asked, self.given_up = threading.Event(), 0

    async def infer(self, model, version, query):
        self.asked.set()
        try:
            return await super().infer(model, version, query)
        except asyncio.CancelledError:
            self.given_up += 1
            raise


@pytest.fixture
def gateway(tmp_path):
    policy = make_policy(deposit_units=64.0, debt_cap_units=64.0, free_units=64.0)
    with serving(tmp_path, policy, Watching()) as running:
        yield running


def slowed(gateway, monkeypatch, until, seen):
    """Let the store admit beside the loop, and only when somebody has been asked."""
    admit = gateway.store.admit

    def slow(*args, **kwargs):
        if kwargs.get("wait") is False:
            from assay.gateway.store.base import StoreBusy

            msg = "not at once"
            raise StoreBusy(msg)
        seen.append(until.wait(5.0))
        return admit(*args, **{**kwargs, "wait": True})

    monkeypatch.setattr(gateway.store, "admit", slow)


def test_the_model_is_asked_while_the_store_writes(gateway, monkeypatch):
    key, seen = gateway.open_account(), []
    gateway.upstream.asked.clear()
    slowed(gateway, monkeypatch, gateway.upstream.asked, seen)
    assert gateway.infer(rows(1), key=key).status_code == 200
    assert seen == [True]


def test_the_answer_waits_for_the_reservation(gateway, monkeypatch):
    key, release, seen = gateway.open_account(), threading.Event(), []
    gateway.settled()
    count = gateway.upstream.count
    slowed(gateway, monkeypatch, release, seen)

    async def ask():
        headers = {"Authorization": f"Bearer {key}"}
        task = asyncio.ensure_future(
            gateway.http.post("/v2/models/m/infer", json=as_json(rows(1)), headers=headers)
        )
        await asyncio.sleep(0.2)
        early = gateway.upstream.count, task.done()
        release.set()
        return early, (await task).status_code

    assert gateway.run(ask()) == ((count + 1, False), 200)
    gateway.settled()
    assert gateway.upstream.count == count + 1  # the question was asked once


def test_a_paid_question_waits_for_its_claim(tmp_path, monkeypatch):
    with serving(tmp_path, make_policy(), Watching()) as gateway:
        order = []
        admit, infer = gateway.store.admit, gateway.upstream.infer

        def admitted(*args, **kwargs):
            order.append("claim" if kwargs.get("claim") else "admit")
            return admit(*args, **kwargs)

        async def inferred(*args):
            order.append("model")
            return await infer(*args)

        monkeypatch.setattr(gateway.store, "admit", admitted)
        monkeypatch.setattr(gateway.upstream, "infer", inferred)
        gateway.open_account()
        assert order[-2:] == ["claim", "model"]


@pytest.mark.parametrize("ahead", [True, False])
def test_a_flood_of_refused_questions_costs_no_more_than_was_earned(tmp_path, ahead):
    with serving(tmp_path, make_policy(), Watching(), ahead=ahead) as gateway:
        key = gateway.open_account()
        served = gateway.upstream.count
        statuses = []
        for step in range(60):
            statuses.append(gateway.infer(rows(2, step), key=key).status_code)
            gateway.settled()
        assert statuses.count(428) > 40  # the account does not pay
        answered = served + statuses.count(200)
        assert answered <= gateway.upstream.count <= (2 * answered if ahead else answered)


def test_a_store_that_is_down_gives_no_answer_and_gives_questions_up(gateway, monkeypatch):
    key = gateway.open_account()
    for _ in range(3):
        assert gateway.infer(rows(1), key=key).status_code == 200
    gateway.settled()
    earned, count = 4, gateway.upstream.count

    def down(*_args, **_kwargs):
        msg = "no answer"
        raise StoreDown(msg)

    monkeypatch.setattr(gateway.store, "admit", down)
    gateway.upstream.gate = asyncio.Event()  # never set: whoever asks waits
    assert {gateway.infer(rows(1), key=key).status_code for _ in range(20)} == {503}
    assert gateway.upstream.count == count
    assert 1 <= gateway.upstream.given_up <= earned
