# SPDX-License-Identifier: Apache-2.0
"""The worker: everything in order, the oldest lost first, no waiting at the end."""

import threading

import pytest

from motion_predictor_ros.ros.diagnostics import Statistics
from motion_predictor_ros.ros.throttled_log import ThrottledLog
from motion_predictor_ros.ros.worker import Worker


def nothing() -> None:
    pass


def test_the_worker_is_prepared_in_its_own_thread_before_start_returns() -> None:
    threads: list[threading.Thread] = []
    worker: Worker[int] = Worker(
        2, lambda items: None, lambda: threads.append(threading.current_thread())
    )
    worker.start()
    assert len(threads) == 1 and threads[0] is not threading.current_thread()
    worker.stop()


def test_a_preparation_that_fails_is_told_to_whoever_starts() -> None:
    worker: Worker[int] = Worker(2, lambda items: None, lambda: exec('1 / 0'))
    with pytest.raises(ZeroDivisionError):
        worker.start()
    worker.stop()


def test_what_waited_is_handed_over_together_and_in_order() -> None:
    done, begun, go_on, ended = [], *(threading.Event() for _ in range(3))

    def work(items: list[int]) -> None:
        done.append(items)
        (ended if begun.is_set() else begun).set()
        go_on.wait(60)

    worker = Worker(10, work, nothing)
    worker.start()
    assert worker.put(0) and begun.wait(60)
    assert all([worker.put(item) for item in (1, 2, 3)])
    go_on.set()
    assert ended.wait(60)
    worker.stop()
    assert done == [[0], [1, 2, 3]]


def test_a_full_worker_loses_the_oldest_and_says_so() -> None:
    done, ended = list[list[int]](), threading.Event()
    worker = Worker(2, lambda items: [done.append(items), ended.set()], nothing)
    assert [worker.put(item) for item in (1, 2, 3)] == [True, True, False]
    worker.start()
    assert ended.wait(60)
    worker.stop()
    assert done == [[2, 3]]


def test_an_idle_worker_stops_without_another_item() -> None:
    worker: Worker[int] = Worker(2, lambda items: None, nothing)
    worker.start()
    stopping = threading.Thread(target=worker.stop, daemon=True)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()


class Lines:
    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, text: str) -> None:
        self.said.append(text)


def test_the_first_of_each_reason_is_said_and_the_flood_is_not() -> None:
    lines = Lines()
    log = ThrottledLog(lines)
    for _ in range(100):
        log.warn('bad_stamp', 'no stamp')
    log.warn('wrong_length', 'too short')
    assert lines.said == ['bad_stamp: no stamp', 'wrong_length: too short']


def test_a_fault_is_complained_of_once_and_an_ordinary_drop_never() -> None:
    statistics = Statistics()
    assert statistics.warning_text() == 'no input yet'
    statistics.received()
    statistics.dropped('superseded', 3)
    assert statistics.warning_text() == ''
    statistics.dropped('bad_stamp')
    assert statistics.warning_text() == 'dropped: bad_stamp 1'
    assert statistics.warning_text() == ''
    assert statistics.values()['drops.superseded'] == '3'
