# SPDX-License-Identifier: Apache-2.0
"""Lose a person again and again: is there a fresh scene without them, and how soon are they back?

Most losses take the node's way in one process, with their stamps as the clock: decoded, through
the `TransformQueue`, into the `Pipeline`. So every kind of loss can be tried, also on sources
whose messages are not installed. The others go to a live node in a process of its own, and are
judged by what planners receive from it.
"""

import dataclasses
import random
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fuzz.messages import (
    LAYOUTS,
    MAKERS,
    Joints,
    hide,
    rename_classes,
)
from jaxtyping import Float64, Int64
from motion_predictor_ros.msg import PredictedMotionArray, ProbabilityVolumeArray
from sensor_msgs.msg import PointCloud2
from trials.feeder import Feeder, encode_persons, stamp_ns

from motion_predictor_ros.config import DensityConfig, PipelineConfig, SkeletonConfig, VolumeConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.ros.tools.demo import child, local_environment, write_parameters
from motion_predictor_ros.ros.transforms import CHECK_S, LiveTransforms, TransformQueue
from motion_predictor_ros.skeleton.frame import Observation, Rejection, Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout, load_joint_map
from motion_predictor_ros.skeleton.transforms import Rigid, TransformTree

LIMIT_S = 0.6
"""Recovery after the person's return, beyond the second of history that a prediction needs."""

MAX_STRETCH = 1.5
KINDS = {
    'searching': ('native', 'zed'),
    'missing': ('native', 'azure_kinect', 'zed', 'yolo', 'hiros', 'mocap4r2'),
    'class_filtered': ('yolo', 'zed'),
    'transform_late': ('native', 'yolo'),
    'joints_at_origin': ('native', 'zed', 'yolo', 'hiros', 'mocap4r2'),
}
"""Kinds of loss, and the sources that have them."""

_LIVE_KINDS = ('searching', 'missing', 'joints_at_origin')

_BODY = SkeletonLayout.load('body18')
_PERIOD_S, _TF_PERIOD_S, _TF_DELAY_S, _LATENCY_S = 1 / 30, 0.05, 0.02, 0.03
_LOST_S, _WARM_S, _WATCH_S = (0.1, 1.8), 1.3, 2.2
_HISTORY_S = 0.96
_START_S = 1_700_000_000


def _bone_lengths(
    poses: Float64[np.ndarray, 'time joint xyz=3'], bones: Int64[np.ndarray, 'bone two=2']
) -> Float64[np.ndarray, 'time bone']:
    return np.asarray(np.linalg.norm(poses[:, bones[:, 0]] - poses[:, bones[:, 1]], axis=-1))


@dataclass(frozen=True)
class VanishReport:
    """What the losses showed.

    Attributes:
        false_nobody: Fresh scenes without a person within the hold, or while the source lists one.
        impossible_bones: Answers OK with a bone longer than 1.5 times its own length, in the
            observed pose or at any horizon.
        recovery_s_max: Longest from the person's return until they were predicted again, beyond
            the history that was missing; infinite if they never were.
    """

    losses: int
    false_nobody: int
    impossible_bones: int
    recovery_s_max: float


@dataclass
class _Counts:
    losses: int = 0
    false_nobody: int = 0
    impossible_bones: int = 0
    recovery_s_max: float = 0.0


def run_vanish(count: int, live: int, seed: int, config: PipelineConfig) -> VanishReport:
    """Lose a person `count` times, in kinds and for times that are drawn.

    Args:
        live: How many of them in front of a live node.

    Raises:
        MotionPredictorError: The model cannot be loaded, or the node did not start.
    """
    chance, counts = random.Random(seed), _Counts()
    plan: dict[tuple[str, bool], list[str]] = {}
    for _ in range(count - live):
        kind = chance.choice(list(KINDS))
        plan.setdefault((chance.choice(KINDS[kind]), kind == 'transform_late'), []).append(kind)
    for (source, with_tf), kinds in sorted(plan.items()):
        trial = _Offline(source, with_tf, config, chance, counts)
        for kind in kinds:
            trial.lose(kind)
        trial.pipeline.close()
    if live:
        _lose_live([chance.choice(_LIVE_KINDS) for _ in range(live)], config, chance, counts)
    return VanishReport(**vars(counts))


def _lose_live(
    kinds: list[str], config: PipelineConfig, chance: random.Random, counts: _Counts
) -> None:
    """Lose the person of a live node, with volumes, in these ways."""
    environment = local_environment()
    volume = VolumeConfig(enabled='always', voxel_m=0.1)
    config = dataclasses.replace(config, density=DensityConfig(enabled='always'), volume=volume)
    with tempfile.TemporaryDirectory() as folder:
        words = ['--params-file', str(write_parameters(config, Path(folder)))]
        words += ['-p', 'outputs.obstacle_cloud.enabled:=true']
        with child(['predictor_node', '--ros-args', *words], environment) as process:
            feeder = Feeder(int(environment['ROS_DOMAIN_ID']))
            try:
                trial = _Live(feeder, config, chance, counts)
                feeder.wait_for(process)
                for kind in kinds:
                    trial.lose(kind)
            finally:
                feeder.close()


class _Transforms(LiveTransforms):
    """/tf at 20 Hz, 20 ms late, with pauses."""

    def __init__(self) -> None:
        self.tree = TransformTree()

    def lookup(self, target: str, source: str, stamp_ns: int) -> Rigid:
        """Look up in the tree."""
        return self.tree.lookup(target, source, stamp_ns)

    def clear(self) -> None:
        """Forget moving frames."""
        self.tree.clear()

    def close(self) -> None:
        """There is nothing to unsubscribe."""


@dataclass(frozen=True)
class _Answer:
    """What planners hear of one observation: whether there is nobody, or somebody predicted."""

    stamp_s: float
    is_empty: bool
    is_ok: bool


class _Trial(ABC):
    """One source, with the losses one after the other."""

    def __init__(
        self, source: str, config: PipelineConfig, chance: random.Random, counts: _Counts
    ) -> None:
        self._hold_s, self._max_gap_s = config.person_hold_s, config.skeleton.max_gap_s
        self._source, self._chance, self._counts = source, chance, counts
        joints = load_joint_map(LAYOUTS[source], _BODY)
        used = np.asarray(joints.weights.any(axis=0))
        self._names = list(joints.source.joint_names)
        self._used = [name for name, is_used in zip(self._names, used, strict=True) if is_used]
        self._inverse = np.linalg.pinv(joints.weights[:, used]) * joints.given
        self._given = joints.given
        self._walker = Walker(chance.randrange(1000))
        self._now_s, self._sent_s = 0.0, 0.0
        self._answers: list[_Answer] = []

    @abstractmethod
    def _show(self, seconds: float, kind: str = '') -> None:
        """Publish messages for a while, and collect the answers."""

    def lose(self, kind: str) -> None:
        """Show the person, lose them, show them again, and judge the answers."""
        lost_s = self._chance.uniform(*_LOST_S)
        self._show(_WARM_S)
        last_s = self._sent_s
        self._answers.clear()
        self._show(lost_s, kind)
        return_s = self._now_s
        self._show(_WATCH_S)
        self._counts.losses += 1
        self._counts.false_nobody += sum(
            self._is_false_nobody(answer, kind, last_s, return_s) for answer in self._answers
        )
        missing_s = _HISTORY_S if return_s - last_s > self._max_gap_s else 0.0
        back_s = self._first_ok_s(return_s) - return_s - missing_s
        self._counts.recovery_s_max = max(self._counts.recovery_s_max, back_s)

    def _is_false_nobody(self, answer: _Answer, kind: str, last_s: float, return_s: float) -> bool:
        """Whether planners hear that nobody is there, and it is not earned."""
        listed = kind in ('searching', 'joints_at_origin')
        held, back = answer.stamp_s - last_s <= self._hold_s, answer.stamp_s >= return_s - 1e-6
        return answer.is_empty and (listed or held or back)

    def _first_ok_s(self, return_s: float) -> float:
        """Return the first time after the return at which the person was predicted [s]."""
        times_s = [answer.stamp_s for answer in self._answers if answer.is_ok]
        return min((time_s for time_s in times_s if time_s >= return_s - 1e-6), default=np.inf)

    def _message(self, stamp_s: float, kind: str) -> SimpleNamespace:
        stamp_ns, make = self._ns(stamp_s), MAKERS[self._source]
        pose = self._walker.pose(stamp_s)
        person = {} if kind == 'missing' else {'7': self._joints(pose, kind)}
        message = make(stamp_ns, person, self._names)
        if kind == 'searching':
            message = hide(message, self._source, self._chance)
        elif kind == 'class_filtered':
            message = rename_classes(message, self._source, 'chair')
        return message

    def _joints(self, pose: Float64[np.ndarray, 'joint xyz=3'], kind: str) -> Joints:
        positions = self._inverse @ pose
        if kind == 'joints_at_origin':
            count = self._chance.randint(1, len(self._used))
            positions[self._chance.sample(range(len(self._used)), count)] = 0.0
        return dict(zip(self._used, positions, strict=True))

    def _check_bones(
        self,
        observed: Float64[np.ndarray, 'joint xyz=3'],
        positions: Float64[np.ndarray, 'horizon joint xyz=3'],
    ) -> None:
        """Count an answer with a bone, of joints that the source has, that is too long."""
        poses = np.concatenate([observed[None], positions])
        bones = np.array([bone for bone in _BODY.bones if self._given[list(bone)].all()])
        strides = np.array([self._walker.pose(time_s) for time_s in np.linspace(0.0, 2.0, 100)])
        own = _bone_lengths(strides, bones).max(axis=0)  # limbs swing, they do not turn
        lengths = _bone_lengths(poses, bones)
        self._counts.impossible_bones += bool((lengths > MAX_STRETCH * own).any())

    @staticmethod
    def _ns(time_s: float) -> int:
        return round((_START_S + time_s) * NS_PER_S)

    @staticmethod
    def _seconds(stamp_ns: int) -> float:
        return (stamp_ns - _START_S * NS_PER_S) / NS_PER_S


class _Offline(_Trial):
    """Losses in front of a pipeline, in the time of the stamps."""

    def __init__(
        self,
        source: str,
        with_tf: bool,
        config: PipelineConfig,
        chance: random.Random,
        counts: _Counts,
    ) -> None:
        super().__init__(source, config, chance, counts)
        layout = '' if source in ('native', 'zed', 'azure_kinect') else LAYOUTS[source]
        self._with_tf = with_tf
        self._tf_s = 0.0
        self._transforms = _Transforms()
        config = PipelineConfig(
            SkeletonConfig(source_layout=layout, classes='person'),
            config.prediction,
            config.density,
            source=source,
            fixed_frame='map' if with_tf else '',
            person_hold_s=config.person_hold_s,
        )
        self.pipeline = Pipeline.load(config, lookup=self._transforms.tree.lookup)
        self._queue: TransformQueue[Observation | Rejection] = TransformQueue(
            self._transforms, self._accept, config.transform_wait_s, 50, lambda: self._now_s
        )

    def _show(self, seconds: float, kind: str = '') -> None:
        """Publish messages for a while, and the transforms beside them; the queue is checked."""
        end_s = self._now_s + seconds
        while self._now_s < end_s:
            self._sent_s = self._now_s
            message = self._message(self._sent_s, kind)
            for at_s in self._ticks(self._sent_s + _LATENCY_S):
                self._now_s = at_s
                self._publish_transforms(kind)
                self._queue.flush()
            decoded = self.pipeline.skeleton.decode(message, self._ns(self._now_s))
            if decoded is not None:
                self._queue.put(decoded, self.pipeline.skeleton.transform_query(decoded))
            self._now_s = self._sent_s + _PERIOD_S

    def _ticks(self, until_s: float) -> Iterator[float]:
        at_s = self._now_s
        while at_s < until_s:
            yield at_s
            at_s += CHECK_S
        yield until_s

    def _publish_transforms(self, kind: str) -> None:
        while self._with_tf and self._tf_s + _TF_DELAY_S <= self._now_s:
            if kind != 'transform_late':
                moved = MAKERS['tf'](self._ns(self._tf_s), {'x': {'camera': np.zeros(3)}}, [])
                moved.transforms[0].child_frame_id = 'world'
                moved.transforms[0].header.frame_id = 'map'
                self._transforms.tree.add(moved)
            self._tf_s += _TF_PERIOD_S

    def _accept(self, decoded: Observation | Rejection) -> None:
        """Take an observation in as the worker does, and judge the bones of its answer."""
        scene = self.pipeline.predict() if self.pipeline.accept(decoded) else None
        if scene is None:
            return
        people = scene.prediction.people
        self._answers.append(
            _Answer(
                self._seconds(scene.prediction.stamp_ns),
                not people and not scene.withheld,
                any(person.validity == Validity.OK for person in people),
            )
        )
        for person in people:
            if person.validity == Validity.OK and person.window is not None:
                assert person.positions is not None
                window = person.window
                observed = np.where(window.seen[:, None], window.positions[-1], np.nan)
                self._check_bones(observed, person.positions)


class _Live(_Trial):
    """Losses in front of a live node, in real time."""

    def __init__(
        self, feeder: Feeder, config: PipelineConfig, chance: random.Random, counts: _Counts
    ) -> None:
        super().__init__('native', config, chance, counts)
        self._feeder = feeder
        subscribe = feeder.node.create_subscription
        subscribe(PredictedMotionArray, 'predicted_motion', self._on_motion, 50)
        subscribe(ProbabilityVolumeArray, 'probability_volumes', self._on_volumes, 50)
        subscribe(PointCloud2, 'obstacle_cloud', self._on_cloud, 50)

    def _show(self, seconds: float, kind: str = '') -> None:
        """Publish messages for a while; answers come meanwhile."""
        self._now_s = self._clock_s()
        end_s = self._now_s + seconds
        while self._now_s < end_s:
            persons = encode_persons(self._message(self._now_s, kind))
            self._sent_s = self._seconds(self._feeder.publish(persons, self._names))
            self._feeder.spin(_PERIOD_S)
            self._now_s = self._clock_s()

    def _clock_s(self) -> float:
        return self._seconds(self._feeder.node.get_clock().now().nanoseconds)

    def _on_motion(self, message: Any) -> None:
        predicted = [p for p in message.persons if p.validity == Validity.OK]
        self._note(message, not message.persons, bool(predicted))
        for person in predicted:
            observed = np.array(person.observed).reshape(-1, 3)
            observed[~np.array(person.seen)] = np.nan
            self._check_bones(observed, np.array(person.positions).reshape(-1, len(observed), 3))

    def _on_volumes(self, message: Any) -> None:
        self._note(message, not message.persons)

    def _on_cloud(self, message: Any) -> None:
        self._note(message, not message.width)

    def _note(self, message: Any, is_empty: bool, is_ok: bool = False) -> None:
        self._answers.append(_Answer(self._seconds(stamp_ns(message)), is_empty, is_ok))
