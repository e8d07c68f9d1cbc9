# SPDX-License-Identifier: Apache-2.0
"""A seeded fuzzer over `Pipeline.step`: every source, calm and hostile by turns.

Stands beside the line. Three promises are held against every message: nothing is raised, whoever
is not in the answer is among the drops that were counted and told, and whatever is in the answer
is finite, on the wire too. And one against every calm stretch: what came before leaves no trace,
everybody is predicted again. The model is small and untrained, for what it says does not matter;
some of the messages go through the whole line with the shipped models, futures and volumes.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
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
from motion_predictor_ros.evaluation.fuzz.checks import non_finite, without_volume
from motion_predictor_ros.evaluation.fuzz.messages import LAYOUTS, MAKERS, Joints, spoil
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.prediction.streaming import MotionDEQPredictor
from motion_predictor_ros.prediction.types import ScenePrediction
from motion_predictor_ros.skeleton.frame import Rejection
from motion_predictor_ros.skeleton.joint_map import load_joint_map
from motion_predictor_ros.skeleton.layout import SkeletonLayout

_BODY = SkeletonLayout.load('body18')
_START_NS = 1_700_000_000 * NS_PER_S
_PERIOD_NS = NS_PER_S // 30
_CALM = (20, 20, 80)
_RECOVERED = 75
"""After so many calm messages everybody must be predicted: a stamp up to a second ahead hides what
comes meanwhile, a window takes another."""

_MODES = ('chaos', 'chaos', 'chaos', 'mirrored', 'millimetres', 'upside_down', 'frame', 'layout')
_IDS = ('0', '1', '2', '3', '41', '999', '21474835')
"""The last is the highest for which 100 x id + joint is an int32."""

_MOST_TOLD, _LONGEST = 20, 500


@dataclass
class FuzzReport:
    """What the fuzzer found.

    Attributes:
        crashes: Messages at which something was raised.
        uncounted_drops: Messages of which somebody is neither answered nor counted.
        non_finite_outputs: Messages whose answer holds NaN, infinity or no probability where there
            should be one.
        unrecovered: Calm stretches at whose end somebody was not predicted.
        answered: Messages that were answered.
        futures: Answers with futures.
        volumes: Volumes in answers.
        drops: Rejections, of messages and of people.
        reasons: Distinct reasons among them.
        told: One line per case, the first few.
    """

    messages: int = 0
    crashes: int = 0
    uncounted_drops: int = 0
    non_finite_outputs: int = 0
    unrecovered: int = 0
    answered: int = 0
    futures: int = 0
    volumes: int = 0
    drops: int = 0
    reasons: int = 0
    told: list[str] = field(default_factory=list)

    def tell(self, kind: str, text: str) -> None:
        """Count one case and keep what is to be said of it."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.told) < _MOST_TOLD:
            self.told.append(f'{kind}: {text}'[:_LONGEST])


Load = Callable[[PipelineConfig, Callable[[Rejection], None]], Pipeline]


def untrained_pipeline(
    config: PipelineConfig, on_drop: Callable[[Rejection], None] = lambda rejection: None
) -> Pipeline:
    """Build a pipeline with a small untrained model that answers fast and means nothing."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    module = MotionDEQ(MotionDEQConfig(channels=8, patterns=8, masked=True)).eval()
    torch.set_default_dtype(before)
    trained = TrainedMotionDEQ('untrained', module, JOINT_NAMES, None, {})
    return Pipeline(config, MotionDEQPredictor(trained, config.prediction), on_drop)


class WholePipelines:
    """Makes pipelines with the shipped models, which are loaded once."""

    def __init__(self) -> None:
        config = PipelineConfig(
            prediction=PredictionConfig(device='cpu'),
            density=DensityConfig(enabled='always', device='cpu'),
            volume=VolumeConfig(enabled=True, voxel_m=0.1),
        )
        self._models = Pipeline.load(config)

    def __call__(
        self, config: PipelineConfig, on_drop: Callable[[Rejection], None] = lambda rejection: None
    ) -> Pipeline:
        """Build a pipeline for this input; one at a time may be in use."""
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
        report: What was found before, to be added to.
    """
    report, reasons = report or FuzzReport(), Counter[str]()
    for place, source in enumerate(sources):
        count = messages * (place + 1) // len(sources) - messages * place // len(sources)
        trial = _Trial(source, load, report)
        stream = Stream(source, seed)
        for message, calm in stream.messages(count):
            trial.step(message, stream.now_ns, calm)
        reasons.update(trial.pipeline.drops)
    report.drops += reasons.total()
    report.reasons = max(report.reasons, len(reasons))
    return report


class Stream:
    """What one source says: a calm stretch, then a fault, and so on.

    Attributes:
        now_ns: The time of the last message, whatever it says itself.
    """

    def __init__(self, source: str, seed: int) -> None:
        self._source = source
        self._random = random.Random(f'{seed} {source}')
        joints = load_joint_map(LAYOUTS[source], _BODY)
        used = np.asarray(joints.weights.any(axis=0))
        self._names = list(joints.source.joint_names)
        self._used = [name for name, here in zip(self._names, used, strict=True) if here]
        self._inverse = np.linalg.pinv(joints.weights[:, used]) * joints.given
        self.now_ns = _START_NS
        self._people: dict[str, Walker] = {}

    def messages(self, count: int) -> Iterator[tuple[SimpleNamespace, int]]:
        """Yield messages, each with how many calm ones it is in a row; 0 for a hostile one."""
        made = 0
        while made < count:
            self._come_and_go()
            length = min(self._random.choice(_CALM), count - made)
            for calm in range(1, length + 1):
                yield self._next('calm'), calm
            made += length
            mode, length = self._random.choice(_MODES), self._random.randint(10, 90)
            for _ in range(min(length, count - made)):
                yield self._next(mode), 0
            made += min(length, count - made)

    def _come_and_go(self) -> None:
        ids = self._random.sample(_IDS, k=self._random.randint(0, 3))
        self._people = {who: self._people.get(who) or Walker(int(who)) for who in ids}

    def _next(self, mode: str) -> SimpleNamespace:
        self.now_ns += _PERIOD_NS + self._random.randrange(-3_000_000, 3_000_000)
        if mode == 'chaos':
            return self._chaos()
        message = self._message(self.now_ns, mode)
        if mode == 'frame':
            _rename_frames(message, self._random.choice(('camera', '', 'World')))
        if mode == 'layout' and self._source == 'native':
            message.layout = self._random.choice(('coco17', 'no_such', '../body18', ''))
            message.joint_names = self._random.choice(([], message.joint_names[::-1]))
        return message

    def _chaos(self) -> SimpleNamespace:
        """Return a message that is wrong in some way of its own, or not at all."""
        chance, kind = self._random, self._random.randrange(10)
        if kind < 5:
            return spoil(self._message(self.now_ns), chance)
        if kind == 5:
            self._come_and_go()
        if kind == 6:
            return MAKERS[self._source](self.now_ns, {}, self._names)
        if kind < 9:
            back_s = chance.choice((0.0, 0.0, 0.01, 0.5, 3.0, 1e6, -5.0, -1e6, -1e8))
            return self._message(self.now_ns - _PERIOD_NS - round(back_s * NS_PER_S))
        return self._message(self.now_ns)

    def _message(self, stamp_ns: int, mode: str = '') -> SimpleNamespace:
        people = {who: self._joints(walker, mode) for who, walker in self._people.items()}
        return MAKERS[self._source](stamp_ns, people, self._names)

    def _joints(self, walker: Walker, mode: str) -> Joints:
        pose = walker.pose((self.now_ns - _START_NS) / NS_PER_S)
        if mode == 'mirrored':
            pose = pose[list(_BODY.mirror)]
        elif mode == 'millimetres':
            pose = 1000 * pose
        elif mode == 'upside_down':
            pose = pose * [1.0, -1.0, -1.0]
        seen: Float64[np.ndarray, 'seen xyz=3'] = self._inverse @ pose
        return dict(zip(self._used, seen, strict=True))


class _Trial:
    """One pipeline, and what it must hold to."""

    def __init__(self, source: str, load: Load, report: FuzzReport) -> None:
        wanted = '' if source in ('native', 'zed', 'azure_kinect') else LAYOUTS[source]
        # Otherwise a stray first message would choose the frame.
        skeleton = SkeletonConfig(frame='world', source_layout=wanted)
        prediction = PredictionConfig(device='cpu')
        config = PipelineConfig(skeleton, prediction, source=source)
        self._source, self._report = source, report
        self._names = SkeletonLayout.load(LAYOUTS[source]).joint_names
        self._rejected: list[Rejection] = []
        self.pipeline = load(config, self._rejected.append)

    def step(self, message: SimpleNamespace, received_ns: int, calm: int) -> None:
        """Step, and hold the answer against the promises."""
        self._report.messages += 1
        self._rejected.clear()
        before = self.pipeline.drops.total()
        try:
            answer = self.pipeline.step(message, received_ns)
        except Exception as error:
            self._report.tell('crashes', f'{self._source}: {type(error).__name__}: {error}')
            self.pipeline.reset()
            return
        scene = None if answer is None else answer.prediction
        missing = self._missing(message, scene, calm)
        if missing or self.pipeline.drops.total() - before != len(self._rejected):
            said = [f'{each.person_id}: {each.reason}' for each in self._rejected]
            self._report.tell('uncounted_drops', f'{self._source}: {missing}; told {said}')
        if answer is not None:
            self._hold(answer, calm)

    def _hold(self, answer: Scene, calm: int) -> None:
        """Hold what is in an answer against the promises."""
        report, people = self._report, answer.prediction.people
        report.answered += 1
        report.futures += answer.futures is not None
        report.volumes += len(answer.volumes or ())
        if found := non_finite(answer):
            report.tell('non_finite_outputs', f'{self._source}: {", ".join(found)}')
        if lost := without_volume(answer):
            report.tell('uncounted_drops', f'{self._source}: no volume of {lost}')
        if calm == _RECOVERED and any(each.positions is None for each in people):
            why = [(each.person_id, each.validity.name, each.reason) for each in people]
            report.tell('unrecovered', f'{self._source}: {why}')

    def _missing(
        self, message: SimpleNamespace, scene: ScenePrediction | None, calm: int
    ) -> set[str]:
        """Return who is neither answered nor told to be dropped; '' is the whole message."""
        settled = calm >= _RECOVERED
        if self._source == 'tf' and not settled:
            return set()  # who has not moved everywhere yet is waited for
        if scene is None:
            return set() if self._rejected or self._nothing_new(message) else {''}
        told = {each.person_id for each in scene.people}
        told |= {each.person_id for each in self._rejected}
        return _who(self._source, message, self._names) - told

    def _nothing_new(self, message: SimpleNamespace) -> bool:
        return self._source == 'tf' and not message.transforms


def _who(source: str, message: Any, names: tuple[str, ...]) -> set[str]:
    """List the ids in a message, read here on its own and not by the pipeline's reader."""
    if source == 'native':
        return {each.person_id for each in message.persons}
    if source == 'azure_kinect':
        return {str(each.id // 100) for each in message.markers if each.action not in (2, 3)}
    if source == 'zed':
        return {str(each.label_id) for each in message.objects}
    if source == 'yolo':
        people = [each for each in message.detections if each.class_name in ('person', '')]
        return {each.id for each in people}
    if source == 'pose_array':
        return {'person'} if message.poses else set()
    if source == 'hiros':
        return {str(each.id) for each in message.skeletons}
    if source == 'mocap4r2':
        named = [each.marker_name.rpartition('_') for each in message.markers]
    else:
        named = [each.child_frame_id.rpartition('_') for each in message.transforms]
    return {who for joint, _, who in named if joint in names and who}


def _rename_frames(message: Any, name: str) -> None:
    """Give every header, and the keypoints of yolo_ros, another frame."""
    if isinstance(message, list):
        for each in message:
            _rename_frames(each, name)
    elif isinstance(message, SimpleNamespace):
        for key, value in vars(message).items():
            if key == 'frame_id':
                message.frame_id = name
            else:
                _rename_frames(value, name)
