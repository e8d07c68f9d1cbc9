# SPDX-License-Identifier: Apache-2.0
"""A seeded fuzzer over `Pipeline.step`: every source, valid and hostile phases in turn.

Requirements on every message: no exception; every person is answered or is among the counted and
reported drops; the answer is finite, in float32 too; no answer is empty while the message lists
people, or a person was observed or listed less than the hold before. Requirement on every valid
phase: earlier faults leave no trace, and all people are predicted again. The model is small and
untrained, since its output does not matter; some messages go through the whole pipeline with the
shipped models, futures and volumes.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from fuzz.checks import non_finite, without_volume
from fuzz.messages import (
    LAYOUTS,
    MAKERS,
    Joints,
    corrupt,
    delay_person,
    doubt,
    hide,
    rename_classes,
)
from jaxtyping import Float64

from motion_predictor_ros.config import (
    DensityConfig,
    PipelineConfig,
    PredictionConfig,
    SkeletonConfig,
    VolumeConfig,
)
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.synthetic import JOINT_NAMES, Walker
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.prediction.streaming import MotionDEQPredictor
from motion_predictor_ros.prediction.types import ScenePrediction
from motion_predictor_ros.skeleton.frame import Rejection
from motion_predictor_ros.skeleton.layout import SkeletonLayout, load_joint_map

_BODY = SkeletonLayout.load('body18')
_START_NS = 1_700_000_000 * NS_PER_S
_PERIOD_NS = NS_PER_S // 30
_VALID_LENGTHS = (20, 20, 80)
_RECOVERED = 75
"""Number of valid messages after which all people must be predicted: a stamp up to a second ahead
hides the following ones, and a window takes another second."""

_MODES = (
    *('chaos', 'chaos', 'chaos', 'mirrored', 'millimetres', 'upside_down', 'frame', 'layout'),
    *('hidden', 'missing', 'joint_at_origin', 'joint_on_wall', 'hips', 'confidence', 'class'),
    *('lag', 'child', 'curled', 'robot', 'odd_frame', 'joint_at_camera', 'jump_ahead'),
    *('other_camera', 'joints_at_one_place', 'joints_at_root'),
)
_IDS = ('0', '1', '2', '3', '41', '999', '21474835')
"""The last one is the highest for which 100 x id + joint is an int32."""

_MISSING, _ODD = 0.3, 0.15
"""Share of messages, or of poses, that a mode spoils; a pose is spoilt in single joints."""

_CAMERA = (0.1, -0.2, 1.5)
"""Where a joint is put that is seen right before the lens [m]."""

_MAX_CASES, _MAX_LENGTH = 20, 500


@dataclass
class FuzzReport:
    """Result of fuzzing.

    Attributes:
        crashes: Messages that raised an exception.
        uncounted_drops: Messages with a person who is neither answered nor counted.
        non_finite_outputs: Messages whose answer holds NaN, infinity or an invalid probability.
        false_nobody: Empty answers although the message lists people, or a person was observed
            or listed less than the hold before.
        unrecovered: Valid phases at whose end a person was not predicted.
        answered: Messages that were answered.
        futures: Answers with futures.
        volumes: Volumes in answers.
        drops: Rejections, of messages and of people.
        reasons: Distinct reasons among them.
        cases: One line per violation, the first few.
    """

    messages: int = 0
    crashes: int = 0
    uncounted_drops: int = 0
    non_finite_outputs: int = 0
    false_nobody: int = 0
    unrecovered: int = 0
    answered: int = 0
    futures: int = 0
    volumes: int = 0
    drops: int = 0
    reasons: int = 0
    cases: list[str] = field(default_factory=list)

    def add_case(self, kind: str, text: str) -> None:
        """Count a violation, and keep its description."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.cases) < _MAX_CASES:
            self.cases.append(f'{kind}: {text}'[:_MAX_LENGTH])


Load = Callable[[PipelineConfig, Callable[[Rejection], None]], Pipeline]


def untrained_pipeline(
    config: PipelineConfig, on_drop: Callable[[Rejection], None] = lambda rejection: None
) -> Pipeline:
    """Build a pipeline with a small untrained model, whose output is meaningless."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    module = MotionDEQ(MotionDEQConfig(channels=8, patterns=8, masked=True)).eval()
    torch.set_default_dtype(before)
    trained = TrainedMotionDEQ('untrained', module, JOINT_NAMES, None, {})
    return Pipeline(config, MotionDEQPredictor(trained, config.prediction), on_drop)


class WholePipelines:
    """Builds pipelines with the shipped models, which are loaded once."""

    def __init__(self) -> None:
        config = PipelineConfig(
            prediction=PredictionConfig(device='cpu'),
            density=DensityConfig(enabled='always', device='cpu'),
            volume=VolumeConfig(enabled='always', voxel_m=0.1),
        )
        self._models = Pipeline.load(config)

    def __call__(
        self, config: PipelineConfig, on_drop: Callable[[Rejection], None] = lambda rejection: None
    ) -> Pipeline:
        """Build a pipeline for this input; only one at a time may be in use."""
        models = self._models
        models.predictor.reset()
        return Pipeline(
            config, models.predictor, on_drop, density=models.density, volume=models.volume
        )


def fuzz(
    messages: int,
    seed: int,
    load: Load = untrained_pipeline,
    report: FuzzReport | None = None,
    sources: Sequence[str] = tuple(LAYOUTS),
) -> FuzzReport:
    """Step a pipeline of every source through its share of the messages.

    Args:
        report: An earlier result to add to.
    """
    report, reasons = report or FuzzReport(), Counter[str]()
    for index, source in enumerate(sources):
        count = messages * (index + 1) // len(sources) - messages * index // len(sources)
        trial = _Trial(source, load, report)
        stream = Stream(source, seed)
        for message, valid in stream.messages(count):
            trial.step(message, stream.now_ns, valid)
        reasons.update(trial.pipeline.skeleton.drops)
    report.drops += reasons.total()
    report.reasons = max(report.reasons, len(reasons))
    return report


class Stream:
    """Messages of one source: a valid phase, then a fault, and so on.

    Attributes:
        now_ns: True time of the last message, independent of its stamp.
    """

    def __init__(self, source: str, seed: int) -> None:
        self._source = source
        self._random = random.Random(f'{seed} {source}')
        joints = load_joint_map(LAYOUTS[source], _BODY)
        used = np.asarray(joints.weights.any(axis=0))
        self._names = list(joints.source.joint_names)
        self._used = [name for name, is_used in zip(self._names, used, strict=True) if is_used]
        self._inverse = np.linalg.pinv(joints.weights[:, used]) * joints.given
        self.now_ns = _START_NS
        self._people: dict[str, Walker] = {}

    def messages(self, count: int) -> Iterator[tuple[SimpleNamespace, int]]:
        """Yield messages, with the number of valid ones in a row; 0 for a hostile one."""
        count_so_far = 0
        while count_so_far < count:
            self._change_people()
            length = min(self._random.choice(_VALID_LENGTHS), count - count_so_far)
            for valid in range(1, length + 1):
                yield self._next('valid'), valid
            count_so_far += length
            mode, length = self._random.choice(_MODES), self._random.randint(10, 90)
            for _ in range(min(length, count - count_so_far)):
                yield self._next(mode), 0
            count_so_far += min(length, count - count_so_far)

    def _change_people(self) -> None:
        ids = self._random.sample(_IDS, k=self._random.randint(0, 3))
        self._people = {
            person_id: self._people.get(person_id) or Walker(int(person_id)) for person_id in ids
        }

    def _next(self, mode: str) -> SimpleNamespace:
        self.now_ns += _PERIOD_NS + self._random.randrange(-3_000_000, 3_000_000)
        if mode == 'chaos':
            return self._chaos()
        if mode == 'jump_ahead' and self._random.random() < _ODD:
            return MAKERS[self._source](self.now_ns + 20 * NS_PER_S, {}, self._names)
        message = self._message(self.now_ns, mode)
        if mode == 'other_camera':
            _rename_frames(message, 'camera')
        if mode == 'frame':
            _rename_frames(message, self._random.choice(('camera', '', 'World', '/world')))
        if mode == 'layout' and self._source == 'native':
            message.layout = self._random.choice(('coco17', 'no_such', '../body18', ''))
            message.joint_names = self._random.choice(([], message.joint_names[::-1]))
        return self._spoil_people(message, mode)

    def _spoil_people(self, message: SimpleNamespace, mode: str) -> SimpleNamespace:
        """Return the message with this mode's fault of people, where its source can have it."""
        source, chance = self._source, self._random
        if mode == 'hidden':
            return hide(message, source, chance)
        if mode == 'class':
            return rename_classes(message, source, chance.choice(('Human', 'worker', 'chair', '')))
        if mode == 'confidence':
            return doubt(message, source, chance)
        if mode == 'lag':
            return delay_person(message, source, chance.choice((25, 180, 300, 1500)) * 1_000_000)
        if mode in ('missing', 'other_camera') and chance.random() < _MISSING:
            return MAKERS[source](self.now_ns, {}, self._names)
        if mode == 'robot' and source == 'tf':
            links = {name: np.zeros(3) for name in ('head', 'torso', 'r_wrist')}
            robot = MAKERS[source](self.now_ns, {'lift_link': links}, self._names)
            message.transforms += robot.transforms
        if mode == 'odd_frame' and source == 'tf':
            stamp_ns = chance.choice((0, self.now_ns - 3 * NS_PER_S // 2, self.now_ns + NS_PER_S))
            frame = MAKERS[source](stamp_ns, {'link': {'base': np.zeros(3)}}, [])
            message.transforms += frame.transforms
        return message

    def _chaos(self) -> SimpleNamespace:
        """Return a message that is malformed in some way, or valid."""
        chance, kind = self._random, self._random.randrange(10)
        if kind < 5:
            return corrupt(self._message(self.now_ns), chance)
        if kind == 5:
            self._change_people()
        if kind == 6:
            return MAKERS[self._source](self.now_ns, {}, self._names)
        if kind < 9:
            back_s = chance.choice((0.0, 0.0, 0.01, 0.5, 3.0, 1e6, -5.0, -1e6, -1e8))
            return self._message(self.now_ns - _PERIOD_NS - round(back_s * NS_PER_S))
        return self._message(self.now_ns)

    def _message(self, stamp_ns: int, mode: str = '') -> SimpleNamespace:
        people = {
            person_id: self._joints(walker, mode) for person_id, walker in self._people.items()
        }
        return MAKERS[self._source](stamp_ns, people, self._names)

    def _joints(self, walker: Walker, mode: str) -> Joints:
        pose = walker.pose((self.now_ns - _START_NS) / NS_PER_S)
        if mode == 'mirrored':
            pose = pose[list(_BODY.mirror)]
        elif mode == 'millimetres':
            pose = 1000 * pose
        elif mode == 'upside_down':
            pose = pose * [1.0, -1.0, -1.0]
        elif mode == 'child':
            pose = 0.55 * pose
        elif mode == 'curled':
            pose = pose[0] + 0.4 * (pose - pose[0])
        pose = self._with_odd_joints(pose, mode)
        positions: Float64[np.ndarray, 'seen xyz=3'] = self._inverse @ pose
        return dict(zip(self._used, positions, strict=True))

    def _with_odd_joints(
        self, pose: Float64[np.ndarray, 'joint xyz=3'], mode: str
    ) -> Float64[np.ndarray, 'joint xyz=3']:
        """Put joints where no body has them, now and then [m]."""
        if self._random.random() > _ODD:
            return pose
        odd, joint = pose.copy(), self._random.randrange(len(pose))
        if mode == 'joint_at_origin':
            odd[joint] = 0.0
        elif mode == 'joint_at_camera':
            odd[joint] = _CAMERA
        elif mode == 'joint_on_wall':
            odd[joint] += [0.0, self._random.uniform(0.5, 5.0), 0.0]
        elif mode in ('joints_at_one_place', 'joints_at_root'):
            count = self._random.randint(2, len(pose) // 2)
            joints = self._random.sample(range(1, len(pose)), count)
            odd[joints] = -1.0 if mode == 'joints_at_one_place' else pose[0]
        elif mode == 'hips':
            odd[[_BODY.joint_names.index(name) for name in ('l_hip', 'r_hip')]] = 0.0
        return odd


class _Trial:
    """One pipeline, and the requirements on it."""

    def __init__(self, source: str, load: Load, report: FuzzReport) -> None:
        wanted = '' if source in ('native', 'zed', 'azure_kinect') else LAYOUTS[source]
        # Otherwise a stray first message would set the frame.
        skeleton = SkeletonConfig(frame='world', source_layout=wanted)
        prediction = PredictionConfig(device='cpu')
        config = PipelineConfig(skeleton, prediction, source=source)
        self._source, self._report = source, report
        self._names = SkeletonLayout.load(LAYOUTS[source]).joint_names
        self._rejected: list[Rejection] = []
        self._hold_ns = round(config.person_hold_s * NS_PER_S)
        self._observed_ns = self._listed_ns = -self._hold_ns
        self.pipeline = load(config, self._rejected.append)

    def step(self, message: SimpleNamespace, received_ns: int, valid: int) -> None:
        """Step the pipeline, and check the answer."""
        self._report.messages += 1
        self._rejected.clear()
        before = self.pipeline.skeleton.drops.total()
        try:
            answer = self.pipeline.step(message, received_ns)
        except Exception as error:
            self._report.add_case('crashes', f'{self._source}: {type(error).__name__}: {error}')
            self.pipeline.reset()
            return
        latest = self.pipeline.skeleton.latest
        if self._source != 'tf' and _person_ids(self._source, message, self._names):
            # The hold counts by stamps, which a fault may have set back.
            self._listed_ns = min(received_ns, latest.stamp_ns if latest else received_ns)
        scene = None if answer is None else answer.prediction
        missing = self._missing(message, scene, valid)
        if missing or self.pipeline.skeleton.drops.total() - before != len(self._rejected):
            dropped = [f'{drop.person_id}: {drop.reason}' for drop in self._rejected]
            self._report.add_case(
                'uncounted_drops', f'{self._source}: {missing}; reported {dropped}'
            )
        if answer is not None:
            self._check(answer, valid)
            self._check_nobody(answer, received_ns)

    def _check_nobody(self, answer: Scene, true_ns: int) -> None:
        """Count an empty answer that the source has not earned."""
        assert self.pipeline.skeleton.latest is not None
        stamp_ns = answer.prediction.stamp_ns
        if self.pipeline.skeleton.latest.people:
            self._observed_ns = stamp_ns
        refused = {drop.reason for drop in self._rejected} - _COSTS_NOBODY
        recent = 0 <= stamp_ns - self._observed_ns <= self._hold_ns
        # Two messages less: stamps jitter.
        recent |= 0 <= true_ns - self._listed_ns <= self._hold_ns - 2 * _PERIOD_NS
        if not (answer.prediction.people or answer.withheld) and (refused or recent):
            reason = 'a person was there a moment ago' if recent else f'refused: {refused}'
            self._report.add_case('false_nobody', f'{self._source}: {reason}')

    def _check(self, answer: Scene, valid: int) -> None:
        """Check the content of an answer."""
        report, people = self._report, answer.prediction.people
        report.answered += 1
        report.futures += answer.futures is not None
        report.volumes += len(answer.volumes or ())
        if names := non_finite(answer):
            report.add_case('non_finite_outputs', f'{self._source}: {", ".join(names)}')
        if missing := without_volume(answer):
            report.add_case('uncounted_drops', f'{self._source}: no volume of {missing}')
        if valid == _RECOVERED and any(person.positions is None for person in people):
            states = [(person.person_id, person.validity.name, person.reason) for person in people]
            report.add_case('unrecovered', f'{self._source}: {states}')

    def _missing(
        self, message: SimpleNamespace, scene: ScenePrediction | None, valid: int
    ) -> set[str]:
        """Return people neither answered nor reported as dropped; empty id: the whole message."""
        settled = valid >= _RECOVERED
        if self._source == 'tf' and not settled:
            return set()  # people whose frames have not all arrived are waited for
        if scene is None:
            return set() if self._rejected or self._is_empty(message) else {''}
        presence = self.pipeline.skeleton.presence
        accounted = {frame.person_id for frame in presence.observed}
        accounted |= {person.frame.person_id for person in presence.held if person.is_refused}
        accounted |= {
            drop.person_id for drop in self._rejected if not drop.reason.startswith('joint_')
        }
        return _person_ids(self._source, message, self._names) - accounted

    def _is_empty(self, message: SimpleNamespace) -> bool:
        return self._source == 'tf' and not message.transforms


def _person_ids(source: str, message: Any, names: tuple[str, ...]) -> set[str]:
    """Return the ids in a message, decoded independently of the pipeline's reader."""
    if source == 'native':
        return {person.person_id for person in message.persons}
    if source == 'azure_kinect':
        return {str(marker.id // 100) for marker in message.markers if marker.action not in (2, 3)}
    if source == 'zed':
        people = [
            item for item in message.objects if item.skeleton_available or _is_human(item.label)
        ]
        return {str(item.label_id) if item.label_id >= 0 else '' for item in people}
    if source == 'yolo':
        people = [
            detection
            for detection in message.detections
            if detection.keypoints3d.data or _is_human(detection.class_name)
        ]
        return {detection.id for detection in people}
    if source == 'pose_array':
        return {'person'} if message.poses else set()
    if source == 'hiros':
        return {str(skeleton.id) if skeleton.id >= 0 else '' for skeleton in message.skeletons}
    if source == 'mocap4r2':
        named = [marker.marker_name.rpartition('_') for marker in message.markers]
    else:
        named = [transform.child_frame_id.rpartition('_') for transform in message.transforms]
    return {person_id for joint, _, person_id in named if joint in names and person_id}


def _is_human(name: str) -> bool:
    return name.strip().casefold() in ('person', '')


_COSTS_NOBODY = frozenset(
    (
        *('rate_limited', 'upside_down', 'mirrored', 'other_class', 'class_filtered'),
        *('robot_frame', 'joint_at_origin', 'joint_same_place', 'joint_non_finite'),
        *('joint_confidence', 'joint_bone_length', 'joint_jump'),
    )
)
"""Drops after which the message may still list nobody."""


def _rename_frames(message: Any, name: str) -> None:
    """Set another frame in every header, and in the keypoints of yolo_ros."""
    if isinstance(message, list):
        for item in message:
            _rename_frames(item, name)
    elif isinstance(message, SimpleNamespace):
        for key, value in vars(message).items():
            if key == 'frame_id':
                message.frame_id = name
            else:
                _rename_frames(value, name)
