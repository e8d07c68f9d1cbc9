# SPDX-License-Identifier: Apache-2.0
"""Give up futures, volumes, then rate where the machine is too slow; say each change once."""

from collections.abc import Mapping

from rclpy.impl.rcutils_logger import RcutilsLogger

from motion_predictor_ros.config import DegradationConfig
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.runtime.load_shedding import FULL, Degradation, degradation_levels


class LoadShedder:
    """Sets the level of a pipeline after each of its answers, from what that took."""

    def __init__(
        self,
        pipeline: Pipeline,
        config: DegradationConfig,
        stale_after_s: float,
        logger: RcutilsLogger,
    ) -> None:
        """Begin with everything done.

        Args:
            stale_after_s: Answers must come more often than that.
        """
        has = pipeline.density is not None, pipeline.volume is not None
        levels = degradation_levels(*has, stale_after_s)
        self._pipeline, self._logger = pipeline, logger
        self._decision, self._last = Degradation(levels, config), len(levels) - 1
        self._from_ns, self._changes = 0, 0
        pipeline.level = FULL

    def answered(self, stamp_ns: int, done_s: float, stages_ms: Mapping[str, float]) -> None:
        """Note one answer, and set the level for the next.

        Args:
            stamp_ns: Of the observation.
            done_s: When all work on it was done, on the monotonic clock [s].
            stages_ms: What each stage took, all of the work together [ms].
        """
        stages_s = {name: spent / 1000.0 for name, spent in stages_ms.items()}
        change = self._decision.answered(done_s, stages_s)
        if change is None:
            return
        self._pipeline.level = change.level
        self._from_ns, self._changes = stamp_ns, self._changes + 1
        if change.worse:
            self._logger.warning(f'too slow: {change.level.name}; {change.reason}')
        else:
            self._logger.info(f'fast enough: {change.level.name} given up; {change.reason}')

    @property
    def warning_text(self) -> str:
        """What is given up and why; empty if nothing is."""
        if not self._decision.number:
            return ''
        return f'too slow: {self._decision.level.name}; {self._decision.reason}'

    def facts(self) -> dict[str, str]:
        """Report the level, since which stamp it is taken, and how busy the node is."""
        facts = {
            'degradation': self._decision.level.name,
            'degradation_level': f'{self._decision.number} of {self._last}',
            'degradation_changes': str(self._changes),
            'busy': f'{self._decision.load:.2f}',
        }
        return facts | ({'degradation_after_ns': str(self._from_ns)} if self._changes else {})
