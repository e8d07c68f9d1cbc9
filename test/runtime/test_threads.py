# SPDX-License-Identifier: Apache-2.0
"""Work is shared, results keep their order, and nobody is waited for in vain."""

import os
import subprocess
import sys
import threading
from functools import partial

import pytest

from motion_predictor_ros.runtime.threads import WorkerPool


@pytest.mark.parametrize('threads', [1, 2, 5])
def test_results_come_in_the_order_of_the_pieces(threads: int) -> None:
    pool = WorkerPool(threads)
    for count in (0, 1, 20):
        pieces = [partial(pow, each, 2) for each in range(count)]
        assert pool.run(pieces) == [each**2 for each in range(count)]


def test_two_threads_work_at_once() -> None:
    met = threading.Barrier(2, timeout=20.0)
    assert len(WorkerPool(2).run([met.wait, met.wait])) == 2


def test_one_thread_does_not() -> None:
    with pytest.raises(threading.BrokenBarrierError):
        met = threading.Barrier(2, timeout=0.2)
        WorkerPool(1).run([met.wait, met.wait])


def test_a_thread_that_is_busy_elsewhere_is_not_waited_for() -> None:
    pool, begun, over = WorkerPool(2), threading.Event(), threading.Event()

    def keep_it_busy() -> bool:
        begun.set()
        return over.wait(20.0)

    pool._pool.submit(keep_it_busy)
    assert pool.run([begun.wait, begun.wait]) == [True, True]
    assert not over.is_set()
    over.set()


def test_what_goes_wrong_in_any_thread_is_raised() -> None:
    met = threading.Barrier(2, timeout=20.0)

    def fail() -> None:
        if met.wait() == 0:
            raise OSError('no')

    with pytest.raises(OSError, match='no'):
        WorkerPool(2).run([fail, fail])


def test_a_piece_is_done_beside_the_callers_work() -> None:
    met = threading.Barrier(2, timeout=20.0)
    with WorkerPool(2).submit(met.wait) as result:
        mine = met.wait()
        assert {mine, result()} == {0, 1} and result() == result()


def test_with_one_thread_the_piece_is_done_when_it_is_asked_for() -> None:
    done = []
    with WorkerPool(1).submit(lambda: done.append(threading.get_ident())) as result:
        assert not done
        result()
    assert done == [threading.get_ident()]


def test_a_piece_that_no_thread_began_is_done_by_who_asks() -> None:
    pool, over = WorkerPool(2), threading.Event()
    pool._pool.submit(over.wait, 20.0)
    with pool.submit(threading.get_ident) as result:
        assert result() == threading.get_ident()
    over.set()
    with pool.submit(threading.get_ident) as result:
        pool._pool.submit(int).result()  # it was begun before this
        assert result() != threading.get_ident()  # control


def test_nobody_leaves_while_the_piece_is_being_done() -> None:
    begun, over = threading.Event(), threading.Event()

    def piece() -> None:
        begun.set()
        over.wait(20.0)
        done.append(True)

    done: list[bool] = []
    with pytest.raises(OSError, match='lost'), WorkerPool(2).submit(piece):
        assert begun.wait(20.0) and not done
        over.set()
        raise OSError('lost')
    assert done == [True]


def test_a_piece_may_run_pieces_of_its_own() -> None:
    pool, met = WorkerPool(2), threading.Barrier(2, timeout=20.0)

    def piece() -> tuple[int, list[int]]:
        met.wait()  # one in each thread
        return threading.get_ident(), pool.run([threading.get_ident] * 5)

    (one, own), (other, others) = pool.run([piece, piece])
    assert one != other
    assert set(own) | set(others) <= {one, other}


def work_while_the_caller_is_between_its_pieces(pool: WorkerPool, timeout_s: float) -> None:
    met, asked = threading.Barrier(2, timeout=timeout_s), list[str]()

    def meet(place: str) -> None:
        if place not in asked:
            asked.append(place)
            met.wait()

    def piece() -> None:
        if threading.current_thread() is not threading.main_thread():
            meet('in a piece')

    pool.run([piece] * 5, partial(meet, 'between'))


def test_other_threads_work_on_while_the_caller_is_between_its_pieces() -> None:
    work_while_the_caller_is_between_its_pieces(WorkerPool(2), 20.0)
    with pytest.raises(threading.BrokenBarrierError):  # control
        work_while_the_caller_is_between_its_pieces(WorkerPool(1), 0.2)


@pytest.mark.parametrize(('pieces', 'times'), [(0, 0), (1, 0), (4, 3)])
def test_between_the_pieces_of_one_thread_is_one_time_fewer(pieces: int, times: int) -> None:
    calls: list[int] = []
    WorkerPool(1).run([int] * pieces, lambda: calls.append(1))
    assert len(calls) == times


def test_the_pieces_begun_last_are_done_first() -> None:
    pool, order = WorkerPool(1), list[str]()
    older = [partial(order.append, 'older')] * 3

    def between() -> None:
        if 'newer' not in order:
            pool.run([pool._work, partial(order.append, 'newer')])  # as a thread does it

    pool.run(older, between)
    assert order == ['older', 'newer', 'older', 'older']
    order.clear()
    pool.run([*older, partial(order.append, 'newer')])
    assert order == ['older', 'older', 'older', 'newer']  # control


@pytest.mark.parametrize('threads', [1, 3])
def test_what_goes_wrong_between_pieces_is_raised_once_all_are_done(threads: int) -> None:
    failed, done = threading.Event(), list[int]()

    def piece() -> None:
        if threading.current_thread() is not threading.main_thread():
            assert failed.wait(20.0)
        done.append(1)

    def fail() -> None:
        failed.set()
        raise OSError('no')

    with pytest.raises(OSError, match='no'):
        WorkerPool(threads).run([piece] * 9, fail)
    assert len(done) == 9


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='needs two cores')
def test_threads_are_kept_off_the_core_of_the_caller() -> None:
    every, pool = os.sched_getaffinity(0), WorkerPool(2)
    pool._pool.submit(int).result()  # somebody is there
    try:
        for core in sorted(every)[:2]:
            os.sched_setaffinity(0, {core})
            with pool.submit(int):
                pass
            pool.run([int, int])
            kept_to = pool._pool.submit(os.sched_getaffinity, 0).result()
            assert kept_to == every - {core}
    finally:
        os.sched_setaffinity(0, every)
    assert (
        WorkerPool(2)._pool.submit(os.sched_getaffinity, 0).result() == every
    )  # control: none called


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='needs two cores')
def test_where_cores_may_not_be_chosen_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(thread: int, cores: set[int]) -> None:
        asked.append(thread)
        raise PermissionError

    pool = WorkerPool(2)
    pool._pool.submit(int).result()
    monkeypatch.setattr(os, 'sched_setaffinity', refuse)
    for _ in range(3):
        with pool.submit(partial(int, 3)) as result:
            assert result() == 3
    assert len(asked) == 1


_COUNT = """
import ctypes, threading, torch
from motion_predictor_ros.runtime.threads import WorkerPool
torch.set_num_threads(1)
with open('/proc/self/maps') as maps:
    path = next(line.split(maxsplit=5)[-1].strip() for line in maps if 'gomp' in line)
count = ctypes.CDLL(path).omp_get_max_threads
fresh = []
thread = threading.Thread(target=lambda: fresh.append(count()))
thread.start(), thread.join()
print(fresh[0], WorkerPool(2)._pool.submit(count).result())
"""


def test_torchs_number_of_threads_holds_in_a_crew() -> None:
    environment = {**os.environ, 'OMP_NUM_THREADS': '3'}
    done = subprocess.run(
        [sys.executable, '-c', _COUNT], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ['3', '1']  # control: a thread of one's own would take three


def test_pieces_of_a_piece_are_shared_with_the_caller_that_waits_for_it() -> None:
    pool, met = WorkerPool(2), threading.Barrier(2, timeout=20.0)
    began = threading.Event()

    def nested() -> list[int]:
        began.set()
        return pool.run([met.wait, met.wait])  # neither ends alone

    with pool.submit(nested) as result:
        assert began.wait(20.0)
        assert sorted(result()) == [0, 1]
    pool.close()


def test_closing_a_pool_ends_its_threads() -> None:
    before = threading.active_count()
    pools = [WorkerPool(3) for _ in range(5)]
    for pool in pools:
        met = threading.Barrier(3, timeout=20.0)
        pool.run([met.wait] * 3)
    assert threading.active_count() == before + 10  # control
    for pool in pools:
        pool.close()
    assert threading.active_count() == before
