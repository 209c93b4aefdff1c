import dataclasses
import hashlib
import importlib.util
import threading
import time

import pytest
from puzzle_samples import KEY, QUERY

from assay.errors import InvalidInput, PaymentRefused
from assay.puzzles import crew
from assay.puzzles.crew import Local, Process, Wasm, choose
from assay.puzzles.difficulty import target64
from assay.puzzles.sha256_puzzle import check, is_solution, solve_one
from assay.puzzles.solver import Solver
from assay.puzzles.tokens import mint, read_claims
from assay.puzzles.worker import SubPuzzle

compiled = pytest.mark.skipif(
    importlib.util.find_spec("wasmtime") is None, reason="wasmtime is not installed"
)
BACKENDS = ["local", "process", pytest.param("wasm", marks=compiled)]
START = hashlib.sha256(b"calpow/1 test vector").digest()


def challenge(bits, k=16, **changes):
    return mint(dataclasses.replace(QUERY, k=k, target64=target64(bits, k), **changes), KEY)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", [10, 17.25])
def test_solutions_are_right(backend, bits):
    token = challenge(bits)
    seen = []
    with Solver(workers=2, backend=backend) as solver:
        for _ in range(2):
            found = solver.solve(token, progress=seen.append)
            check(token, read_claims(token), found.nonces)
            assert found.proof.startswith(token + ";")
            assert found.hashes >= 16
    assert seen[-1].solved == seen[-1].k == 16
    assert seen[-1].expected == pytest.approx(2**bits, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_workers_than_sub_puzzles_share_one(backend):
    token = challenge(18, k=1)
    with Solver(workers=3, backend=backend) as solver:
        found = solver.solve(token)
    check(token, read_claims(token), found.nonces)


def test_rates_are_measured():
    with Solver(workers=1, backend="local") as solver:
        assert 1e4 < solver.rate(QUERY) < 1e8
        token = challenge(18)
        found = solver.solve(token)
        assert solver.rate(QUERY) == pytest.approx(found.hashes / found.seconds, rel=0.2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_search_gives_up_in_time(backend):
    token = challenge(50)
    with Solver(workers=2, backend=backend) as solver:
        started = time.monotonic()
        with pytest.raises(PaymentRefused, match="not found within"):
            solver.solve(token, timeout=0.2)
        assert time.monotonic() - started < 2
        # The searchers are free again.
        solver.solve(challenge(16))


def test_a_search_can_be_cancelled():
    stop = threading.Event()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    with Solver(workers=1, backend="local") as solver, pytest.raises(PaymentRefused, match="cancelled"):
        solver.solve(challenge(50), cancel=stop)
    timer.join()


def test_a_killed_process_does_not_stop_the_search():
    token = challenge(18)
    with Solver(workers=2, backend="process") as solver:
        solver.solve(challenge(17))
        for member in solver._idle["process"]:
            member._child.kill()
            member._child.wait()
        check(token, read_claims(token), solver.solve(token).nonces)


def test_processes_end_with_their_solver():
    solver = Solver(workers=2, backend="process")
    solver.solve(challenge(17))
    children = [member._child for member in solver._idle["process"]]
    assert len(children) == 2
    del solver
    assert all(child.poll() is not None for child in children)


def test_a_failing_observer_ends_the_search():
    def fail(_):
        msg = "observer"
        raise KeyError(msg)

    with Solver(workers=2, backend="local") as solver, pytest.raises(KeyError, match="observer"):
        solver.solve(challenge(50), progress=fail)


@pytest.mark.parametrize("make", [Local, Process, pytest.param(Wasm, marks=compiled)])
def test_all_searchers_find_the_same(make):
    member = make()
    try:
        for index, nonce in enumerate([1995, 1159, 1778, 431]):
            assert member.attempt(SubPuzzle("sha256", START, index, 1 << 52), 0)[0] == nonce
        # Nonces of more than 32 bits, and targets with the highest bit set.
        high = (7 << 32) + 4096
        target = 1 << 51
        found = member.attempt(SubPuzzle("sha256", START, 3, target), high)[0]
        assert found == solve_one(START, 3, target, first=high)
        assert member.attempt(SubPuzzle("sha256", START, 3, (1 << 64) - 1), high)[0] == high
        other = hashlib.sha256(b"other").digest()
        again = member.attempt(SubPuzzle("sha256", other, 63, 1 << 52), 0)[0]
        assert is_solution(other, 63, again, 1 << 52)
    finally:
        member.close()


@compiled
def test_the_compiled_search_stops_at_the_end_of_a_half():
    _, stop, tries = Wasm().attempt(SubPuzzle("sha256", START, 0, 1), (1 << 32) - 64)
    assert (stop, tries) == (1 << 32, 64)


def test_unknown_choices_are_refused(monkeypatch):
    with pytest.raises(InvalidInput, match="unknown backend"):
        Solver(backend="gpu")
    with pytest.raises(InvalidInput, match="at least one worker"):
        Solver(workers=0)
    monkeypatch.setattr(crew.importlib.util, "find_spec", lambda _: None)
    assert choose("sha256") == "process"
    with pytest.raises(InvalidInput, match="wasmtime"):
        Solver(backend="wasm")
