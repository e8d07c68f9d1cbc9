# SPDX-License-Identifier: Apache-2.0
"""Hold a live node against the replay of the same bag."""

import tempfile
from pathlib import Path

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.evaluation.bag_sources import open_source
from motion_predictor_ros.evaluation.live import LiveComparison, compare_live
from motion_predictor_ros.evaluation.replay import replay
from motion_predictor_ros.ros.demo import run_live

ONE_SKIPPED_M = 1e-3
"""After a skipped observation the solver starts elsewhere, and ends within its tolerance [m]."""


def replay_live(bag: Path, rate: float, config: PipelineConfig) -> LiveComparison:
    """Replay the bag, play it into a live node, and compare what both say.

    Raises:
        MotionPredictorError: The bag cannot be read, or one of the processes failed.
    """
    recorded = open_source(bag, '', config)
    played = replay(recorded.messages, recorded.pipeline)
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / 'live.mcap'
        run_live(bag, recording, rate, config)
        live = compare_live(recording, played)
    if not live.frames:
        raise MotionPredictorError('the live node answered nothing; see its output above')
    return live


def allowed_m(live: LiveComparison) -> float:
    """Return how far the two may be apart [m]: not at all where nothing was skipped."""
    return 0.0 if live.processed_share == 1.0 else ONE_SKIPPED_M
