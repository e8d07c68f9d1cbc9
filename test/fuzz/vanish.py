# SPDX-License-Identifier: Apache-2.0
"""Lose a person again and again: is there a fresh scene without them, and how soon are they back?

The messages of a source take the node's way, with their stamps as the clock: decoded, through the
`TransformQueue`, into the `Pipeline`. So every kind of loss can be tried, also on sources whose
messages are not installed. The node publishes a scene unless it is `withheld`.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from fuzz.messages import (
    LAYOUTS,
    MAKERS,
    Joints,
    hide,
    rename_classes,
)
from jaxtyping import Float64

from motion_predictor_ros.config import PipelineConfig, SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.ros.transforms import CHECK_S, TransformQueue
from motion_predictor_ros.skeleton.frame import Observation, Rejection, Validity
from motion_predictor_ros.skeleton.joint_map import load_joint_map
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.transforms import TransformQuery, TransformTree

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

_BODY = SkeletonLayout.load('body18')
_PERIOD_S, _TF_PERIOD_S, _TF_DELAY_S, _LATENCY_S = 1 / 30, 0.05, 0.02, 0.03
_LOST_S, _WARM_S, _WATCH_S = (0.1, 1.8), 1.3, 2.2
_HISTORY_S = 0.96
_START_S = 1_700_000_000


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


def run_vanish(count: int, seed: int, config: PipelineConfig) -> VanishReport:
    """Lose a person `count` times, in kinds and for times that are drawn.

    Raises:
        MotionPredictorError: The model cannot be loaded.
    """
    chance, counts = random.Random(seed), _Counts()
    plan: dict[tuple[str, bool], list[str]] = {}
    for _ in range(count):
        kind = chance.choice(list(KINDS))
        plan.setdefault((chance.choice(KINDS[kind]), kind == 'transform_late'), []).append(kind)
    for (source, with_tf), kinds in sorted(plan.items()):
        trial = _Trial(source, with_tf, config, chance, counts)
        for kind in kinds:
            trial.lose(kind)
        trial.pipeline.close()
    return VanishReport(**vars(counts))


class _Transforms:
    """/tf at 20 Hz, 20 ms late, with pauses."""

    def __init__(self) -> None:
        self.tree = TransformTree()

    def is_known(self, query: TransformQuery) -> bool:
        """Whether the tree has it."""
        return self.tree.knows(*query)

    def clear(self) -> None:
        """Forget moving frames."""
        self.tree.clear()


class _Trial:
    """One source before one pipeline, with the losses one after the other."""

    def __init__(
        self,
        source: str,
        with_tf: bool,
        config: PipelineConfig,
        chance: random.Random,
        counts: _Counts,
    ) -> None:
        layout = '' if source in ('native', 'zed', 'azure_kinect') else LAYOUTS[source]
        self._hold_s = config.person_hold_s
        self._source, self._with_tf = source, with_tf
        self._chance, self._counts = chance, counts
        joints = load_joint_map(LAYOUTS[source], _BODY)
        used = np.asarray(joints.weights.any(axis=0))
        self._names = list(joints.source.joint_names)
        self._used = [name for name, is_used in zip(self._names, used, strict=True) if is_used]
        self._inverse = np.linalg.pinv(joints.weights[:, used]) * joints.given
        self._given = joints.given
        self._walker = Walker(chance.randrange(1000))
        self._now_s = 0.0
        self._tf_s, self._published_tf_s = 0.0, 0.0
        self._transforms = _Transforms()
        self._config = PipelineConfig(
            SkeletonConfig(source_layout=layout, classes='person'),
            config.prediction,
            config.density,
            source=source,
            fixed_frame='map' if with_tf else '',
            person_hold_s=config.person_hold_s,
        )
        self.pipeline = Pipeline.load(self._config, lookup=self._transforms.tree.lookup)
        self._queue: TransformQueue[Observation | Rejection] = TransformQueue(
            self._transforms, self._accept, config.transform_wait_s, 50, lambda: self._now_s
        )
        self._scenes: list[Scene] = []

    def lose(self, kind: str) -> None:
        """Show the person, lose them, show them again, and judge the scenes."""
        lost_s = self._chance.uniform(*_LOST_S)
        self._show(_WARM_S)
        last_s = self._now_s - _PERIOD_S
        self._scenes.clear()
        self._show(lost_s, kind)
        return_s = self._now_s
        self._show(_WATCH_S)
        self._counts.losses += 1
        self._counts.false_nobody += sum(
            self._is_false_nobody(scene, kind, last_s, return_s) for scene in self._scenes
        )
        missing_s = _HISTORY_S if return_s - last_s > self._config.skeleton.max_gap_s else 0.0
        back_s = self._first_ok_s(return_s) - return_s - missing_s
        self._counts.recovery_s_max = max(self._counts.recovery_s_max, back_s)

    def _is_false_nobody(self, scene: Scene, kind: str, last_s: float, return_s: float) -> bool:
        """Whether planners would get an empty scene that is not earned."""
        if scene.prediction.people or scene.withheld:
            return False
        listed = kind in ('searching', 'joints_at_origin')
        stamp_s = scene.prediction.stamp_ns / NS_PER_S - _START_S
        return listed or stamp_s - last_s <= self._hold_s or stamp_s >= return_s - 1e-6

    def _first_ok_s(self, return_s: float) -> float:
        """Return the first time after the return at which the person was predicted [s]."""
        times_s = [
            scene.prediction.stamp_ns / NS_PER_S - _START_S
            for scene in self._scenes
            if any(person.validity == Validity.OK for person in scene.prediction.people)
        ]
        return min((time_s for time_s in times_s if time_s >= return_s - 1e-6), default=np.inf)

    def _show(self, seconds: float, kind: str = '') -> None:
        """Publish messages for a while, and the transforms beside them; the queue is checked."""
        end_s = self._now_s + seconds
        while self._now_s < end_s:
            stamp_s = self._now_s
            message = self._message(stamp_s, kind)
            for at_s in self._ticks(stamp_s + _LATENCY_S):
                self._now_s = at_s
                self._publish_transforms(kind)
                self._queue.flush()
            received_ns = self._ns(self._now_s)
            decoded = self.pipeline.skeleton.decode(message, received_ns)
            if decoded is not None:
                self._queue.put(decoded, self.pipeline.skeleton.transform_query(decoded))
            self._now_s = stamp_s + _PERIOD_S

    def _ticks(self, until_s: float) -> Iterator[float]:
        at_s = self._now_s
        while at_s < until_s:
            yield at_s
            at_s += CHECK_S
        yield until_s

    def _publish_transforms(self, kind: str) -> None:
        while self._with_tf and self._tf_s + _TF_DELAY_S <= self._now_s:
            stamp_ns = self._ns(self._tf_s)
            if kind != 'transform_late':
                moved = MAKERS['tf'](stamp_ns, {'x': {'camera': np.zeros(3)}}, [])
                moved.transforms[0].child_frame_id = 'world'
                moved.transforms[0].header.frame_id = 'map'
                self._transforms.tree.add(moved)
            self._tf_s += _TF_PERIOD_S

    def _message(self, stamp_s: float, kind: str) -> SimpleNamespace:
        stamp_ns, make = self._ns(stamp_s), MAKERS[self._source]
        pose = self._walker.pose(stamp_s)
        person = {'7': self._joints(pose, kind)}
        if kind == 'missing':
            person = {}
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

    def _accept(self, decoded: Observation | Rejection) -> None:
        """Take an observation in as the worker does, and judge the bones of its answer."""
        scene = self.pipeline.predict() if self.pipeline.accept(decoded) else None
        if scene is None:
            return
        self._scenes.append(scene)
        for person in scene.prediction.people:
            if person.validity == Validity.OK and person.window is not None:
                assert person.positions is not None
                observed = np.where(
                    person.window.seen[:, None], person.window.positions[-1], np.nan
                )
                poses = np.concatenate([observed[None], person.positions])
                self._counts.impossible_bones += self._has_long_bone(poses)

    def _has_long_bone(self, poses: Float64[np.ndarray, 'pose joint xyz=3']) -> bool:
        """Whether a bone whose joints the source has is too long in any pose."""
        bones = np.array([bone for bone in _BODY.bones if self._given[list(bone)].all()])
        own = self._walker.max_bone_lengths(bones)
        lengths = np.linalg.norm(poses[:, bones[:, 0]] - poses[:, bones[:, 1]], axis=-1)
        return bool((lengths > MAX_STRETCH * own).any())

    @staticmethod
    def _ns(time_s: float) -> int:
        return round((_START_S + time_s) * NS_PER_S)
