# SPDX-License-Identifier: Apache-2.0
"""Work is shared, results keep their order, and nobody is waited for in vain."""

import threading
from functools import partial

import pytest

from motion_predictor_ros.crew import Crew


@pytest.mark.parametrize('threads', [1, 2, 5])
def test_results_come_in_the_order_of_the_pieces(threads: int) -> None:
    crew = Crew(threads)
    for count in (0, 1, 20):
        pieces = [partial(pow, each, 2) for each in range(count)]
        assert crew.run(pieces) == [each**2 for each in range(count)]


def test_two_threads_work_at_once() -> None:
    met = threading.Barrier(2, timeout=20.0)
    assert len(Crew(2).run([met.wait, met.wait])) == 2


def test_one_thread_does_not() -> None:
    with pytest.raises(threading.BrokenBarrierError):
        met = threading.Barrier(2, timeout=0.2)
        Crew(1).run([met.wait, met.wait])


def test_a_thread_that_is_busy_elsewhere_is_not_waited_for() -> None:
    crew, begun, over = Crew(2), threading.Event(), threading.Event()

    def keep_it_busy() -> bool:
        begun.set()
        return over.wait(20.0)

    crew._pool.submit(keep_it_busy)
    assert crew.run([begun.wait, begun.wait]) == [True, True]
    assert not over.is_set()
    over.set()


def test_what_goes_wrong_in_any_thread_is_raised() -> None:
    met = threading.Barrier(2, timeout=20.0)

    def fail() -> None:
        if met.wait() == 0:
            raise OSError('no')

    with pytest.raises(OSError, match='no'):
        Crew(2).run([fail, fail])
