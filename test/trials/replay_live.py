# SPDX-License-Identifier: Apache-2.0
"""Compare a live node with the replay of the same bag."""

import dataclasses
import tempfile
from pathlib import Path

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.data.bag_sources import open_source
from motion_predictor_ros.data.bags import BagWriter, skeleton_messages
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.evaluation.replay.live import LiveComparison, compare_live
from motion_predictor_ros.evaluation.replay.replay import replay
from motion_predictor_ros.ros.tools.demo import run_live

ONE_SKIPPED_M = 1e-3
"""Bound after a skipped observation: the solve starts elsewhere, and ends within tolerance [m]."""


def replay_live(
    bag: Path, rate: float, config: PipelineConfig, people: int | None = None
) -> LiveComparison:
    """Replay the bag, play it into a live node, and compare the predictions.

    Args:
        people: Largest number of people in a SkeletonArray; messages without people are left out.
            None: the bag as it is.

    Raises:
        MotionPredictorError: The bag cannot be read, or one of the processes failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        if people is not None:
            bag = with_fewer(bag, people, Path(folder) / 'fewer.mcap')
        recorded = open_source(bag, '', config)
        played = replay(recorded.messages, recorded.pipeline)
        recording = Path(folder) / 'live.mcap'
        run_live(bag, recording, rate, config)
        live = compare_live(recording, played)
    if not live.frames:
        raise MotionPredictorError('the live node answered nothing; see its output above')
    return live


def with_fewer(bag: Path, people: int, out: Path) -> Path:
    """Write the first people of each non-empty SkeletonArray to another bag.

    Raises:
        BagError: The bag cannot be read, or holds no such messages on exactly one topic.
    """
    with BagWriter(out) as writer:
        for record in skeleton_messages(bag):
            message = record.message
            if len(message.persons):
                kept = dataclasses.replace(message, persons=message.persons[:people])
                writer.write(record.topic, record.msgtype, record.stamp_ns, kept)
    return out


def allowed_m(live: LiveComparison) -> float:
    """Return the allowed difference of the two [m]: zero where nothing was skipped."""
    return 0.0 if live.processed_share == 1.0 else ONE_SKIPPED_M
