# SPDX-License-Identifier: Apache-2.0
"""The effect of cameras on predictions: rates, noise, joints out of sight.

A synthetic camera with a rate, noise and hidden joints observes recorded people for a second; its
output goes through the same `PersonBuffer` as on a robot, is predicted from cold, and is scored
by the truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from rich.console import Console
from tqdm import tqdm

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.motion.mocap import predict_windows
from motion_predictor_ros.evaluation.tables import by_group, print_table
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQConfig
from motion_predictor_ros.scoring.metrics import (
    BASELINES,
    Motion,
    Poses,
    mean_joint_error,
    mpjpe_mm,
)
from motion_predictor_ros.skeleton.buffer import PersonBuffer
from motion_predictor_ros.skeleton.frame import SkeletonFrame, Window
from motion_predictor_ros.skeleton.layout import SkeletonLayout

WINDOW_EVERY_S = 1.0
_EARLIER_S = 0.1
"""The camera watches a little longer than the model looks back, as it does on a robot."""


@dataclass(frozen=True)
class Camera:
    """A synthetic camera.

    Attributes:
        noise_m: Standard deviation of each coordinate, white [m].
        hidden: Names of joints that are never observed.
    """

    rate_hz: float = 30.0
    noise_m: float = 0.0
    hidden: tuple[str, ...] = ()


_ARM = ('l_elbow', 'l_wrist')
_LEGS = tuple(f'{side}_{joint}' for side in 'lr' for joint in ('knee', 'ankle', 'foot'))
CAMERAS: Mapping[str, Camera] = {
    **{f'{rate} Hz': Camera(float(rate)) for rate in (15, 20, 25, 30, 60)},
    **{f'30 Hz, noise {mm} mm': Camera(noise_m=mm / 1000.0) for mm in (10, 20, 30)},
    '30 Hz, no left wrist': Camera(hidden=('l_wrist',)),
    '30 Hz, no left forearm': Camera(hidden=_ARM),
    '30 Hz, no legs': Camera(hidden=_LEGS),
}


def evaluate_robustness(
    recordings: Recordings, trained: TrainedMotionDEQ, *, cameras: Mapping[str, Camera] = CAMERAS
) -> dict[str, Any]:
    """Return errors [mm] by camera, method and horizon; those of the model by kind and subject.

    Cameras that hide joints are left out for a model that was not trained for it.

    Raises:
        DataError: The recordings have other joints than the model, or no clip is long enough.
    """
    recordings.check_joints(trained.joint_names)
    shape = trained.module.config
    scenes = _scenes(recordings, shape)
    layout = SkeletonLayout.load(trained.training.get('recipe', {}).get('layout', 'body18'))
    used = {name: item for name, item in cameras.items() if shape.masked or not item.hidden}
    report: dict[str, Any] = {'windows': len(scenes), 'cameras': {}}
    for name, camera in tqdm(used.items(), unit='camera', leave=False, disable=None):
        rng = np.random.default_rng(0)
        windows = [_watch(scene, camera, layout, shape, rng) for scene in scenes]
        truth = np.stack([scene.truth for scene in scenes])
        report['cameras'][name] = _judge(windows, truth, trained, [scene.clip for scene in scenes])
    return report


@dataclass(frozen=True)
class _Scene:
    """A piece of a clip.

    Attributes:
        clip: Where it was cut.
        past: [m] at the recording's rate; the last frame is the present.
        truth: The true future [m], on the model clock.
    """

    clip: Clip
    past: Float64[np.ndarray, 'sample joint xyz=3']
    fps: float
    truth: Motion

    def at(self, age_s: Float64[np.ndarray, ' time']) -> Poses:
        """Return the positions so long ago, straight between recorded frames [m]."""
        place = len(self.past) - 1 - age_s * self.fps
        low = np.clip(np.floor(place).astype(int), 0, len(self.past) - 2)
        part = (place - low)[:, None, None]
        return (1.0 - part) * self.past[low] + part * self.past[low + 1]


def _scenes(recordings: Recordings, shape: MotionDEQConfig) -> list[_Scene]:
    fps = recordings.fps
    stride = round(shape.period_s * fps)
    before = round((shape.past * shape.period_s + _EARLIER_S) * fps)
    every = round(WINDOW_EVERY_S * fps)
    scenes = []
    for clip in recordings.clips:
        last = clip.length - 1 - shape.future * stride
        for present in range(before, last + 1, every):
            here = clip.start + present
            past = recordings.positions[here - before : here + 1].astype(np.float64)
            future = recordings.positions[here + stride :: stride][: shape.future]
            scenes.append(_Scene(clip, past, fps, future.astype(np.float64)))
    if not scenes:
        raise DataError('no clip is long enough for an observation and its future')
    return scenes


def _watch(
    scene: _Scene,
    camera: Camera,
    layout: SkeletonLayout,
    shape: MotionDEQConfig,
    rng: np.random.Generator,
) -> Window:
    """Return the window that a buffer on the robot would return."""
    buffer = PersonBuffer(layout, shape.past, shape.period_s, SkeletonConfig(), len(camera.hidden))
    span_s = (len(scene.past) - 1) / scene.fps
    age_s = np.arange(int(span_s * camera.rate_hz + 1e-6), -1, -1) / camera.rate_hz
    positions_seen = scene.at(age_s)
    positions_seen += camera.noise_m * rng.normal(size=positions_seen.shape)
    positions_seen[:, [layout.joint_names.index(name) for name in camera.hidden]] = np.nan
    for age, positions in zip(age_s, positions_seen, strict=True):
        sure = np.isfinite(positions[:, 0]).astype(np.float32)
        buffer.add(SkeletonFrame('', NS_PER_S * 10 - round(age * NS_PER_S), positions, sure))
    window = buffer.window()
    assert isinstance(window, Window), window
    return window


def _judge(
    windows: Sequence[Window],
    truth: Float[np.ndarray, 'batch horizon joint xyz=3'],
    trained: TrainedMotionDEQ,
    clips: Sequence[Clip],
) -> dict[str, Any]:
    config = trained.module.config
    observed = np.stack([window.positions for window in windows])
    predicted, _ = predict_windows(
        trained, observed, np.stack([window.seen for window in windows])
    )
    predictions = {'motion_deq': predicted}
    predictions |= {name: predict(observed, truth.shape[1]) for name, predict in BASELINES.items()}
    horizons_s = config.period_s * np.arange(1, config.future + 1)
    errors = {name: mean_joint_error(values, truth) for name, values in predictions.items()}
    groups = by_group(
        clips, lambda chosen: {'mpjpe_mm': mpjpe_mm(errors['motion_deq'][chosen], horizons_s)}
    )
    figures = {name: {'mpjpe_mm': mpjpe_mm(values, horizons_s)} for name, values in errors.items()}
    return figures | groups


def print_robustness(report: Mapping[str, Any], console: Console) -> None:
    """Print one row per camera, and constant velocity at 400 and 1000 ms."""
    rows: dict[str, dict[str, float | str]] = {}
    for name, methods in report['cameras'].items():
        model_mm, other = (methods[key]['mpjpe_mm'] for key in ('motion_deq', 'constant_velocity'))
        row: dict[str, float | str] = {f'{ms} ms': error for ms, error in model_mm.items()}
        row['constant velocity'] = ' / '.join(
            f'{other[ms]:.0f}' for ms in ('400', '1000') if ms in other
        )
        rows[name] = row
    print_table(rows, f'MPJPE [mm], {report["windows"]} windows', 'camera', console)
    console.print('constant velocity: at 400 / 1000 ms')
