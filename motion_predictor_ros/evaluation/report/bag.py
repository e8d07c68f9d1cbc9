# SPDX-License-Identifier: Apache-2.0
"""Evaluate a bag: read, replay, score, report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tqdm import tqdm

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.data.bag_sources import open_source
from motion_predictor_ros.evaluation.replay.replay import Case, Replay, replay, score
from motion_predictor_ros.evaluation.report.html import write_html
from motion_predictor_ros.evaluation.report.pictures import draw_scene
from motion_predictor_ros.evaluation.report.tables import bag_report, print_bag_report
from motion_predictor_ros.evaluation.tables import write_json
from motion_predictor_ros.runtime.process_memory import freeze_gc
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.volume.body import BodyShape


@dataclass(frozen=True)
class BagEvaluation:
    """A replayed and scored bag."""

    run: Replay
    cases: list[Case]
    layout: SkeletonLayout
    report: dict[str, Any]
    bag: Path
    up: str

    def save(self, out: Path) -> None:
        """Write report.json and scene.png."""
        write_json(self.report, out / 'report.json')
        horizons_s = self.run.scenes[0][1].horizons_s
        calibrated = {
            (volume.stamp_ns, volume.person_id): volume
            for volumes in self.run.volumes.values()
            for volume in volumes
            if volume.validity is Validity.OK
        }
        draw_scene(self.cases, horizons_s, self.layout, out / 'scene.png', calibrated)

    def save_html(self, path: Path) -> None:
        """Write the page with the replay."""
        write_html(self.report, self.run, self.cases, self.layout, self.up, self.bag.name, path)

    def show(self, console: Console) -> None:
        """Print the tables."""
        print_bag_report(self.report, console)


def evaluate_bag(bag: Path, topic: str, config: PipelineConfig, source: str = '') -> BagEvaluation:
    """Replay a bag through the pipeline and compare predictions with later observations.

    Args:
        source: One of the sources; '' derives it from the types of the bag's topics.

    Raises:
        BagError: The bag cannot be read or holds nothing to score.
        MotionPredictorError: The model, the layout or the source cannot be used.
    """
    recorded = open_source(bag, topic, config, source)
    freeze_gc()  # as in the node, so that latencies are comparable
    bar = tqdm(recorded.messages, unit='frame', leave=False, disable=None)
    run = replay(bar, recorded.pipeline)
    cases = score(run)
    layout = SkeletonLayout.load(config.skeleton.layout)
    body = None
    if run.volumes:
        body = BodyShape.load(config.skeleton.layout), config.volume.every
    report = bag_report(run, cases, body, recorded.reasons)
    if recorded.damage:
        report['not_read'] = recorded.damage
    up = config.skeleton.up
    return BagEvaluation(run, cases, layout, report, bag, up)
