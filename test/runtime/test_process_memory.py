# SPDX-License-Identifier: Apache-2.0
"""What a long-lived process sets aside is not searched for garbage; what comes later is."""

import gc
import weakref

from motion_predictor_ros.runtime.process_memory import freeze_gc


class Ring:
    """Keeps itself alive until the collector finds it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_lives_is_set_aside_and_what_comes_later_is_collected() -> None:
    early = Ring()
    before = weakref.ref(early)
    try:
        freeze_gc()
        later = Ring()
        after = weakref.ref(later)
        del early, later
        gc.collect()
        assert before() is not None and after() is None
    finally:
        gc.unfreeze()
    gc.collect()
    assert before() is None
