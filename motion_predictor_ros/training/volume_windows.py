# SPDX-License-Identifier: Apache-2.0
"""Windows on which volumes are calibrated and judged: what was predicted, and what came true."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from tqdm import tqdm

from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.calibration import ModelDigests
from motion_predictor_ros.volume.coverage import BodyForecast, body_forecast

APART_S = 4.0
"""Windows of the same clip begin at least so far apart."""

_CHUNK, _SEED = 16, 1


@dataclass(frozen=True)
class Models:
    """What predicts, and the files it came from."""

    shape: BodyShape
    futures: CacheFlowPredictor
    likeliest: TrainedMotionDEQ
    bound: ModelDigests

    @classmethod
    def load(cls, config: DensityConfig, motion_deq: str, layout: str = 'body18') -> 'Models':
        """Load everything.

        Raises:
            CheckpointError: A file cannot be used, or not together with the others.
            ConfigError: Joints or clocks of the models differ.
        """
        futures = CacheFlowPredictor.load(config)
        device = next(futures.trained.module.parameters()).device
        likeliest = load_motion_deq(motion_deq, device)
        shape = BodyShape.load(layout)
        names = {futures.joint_names, likeliest.joint_names, shape.layout.joint_names}
        clocks = {futures.trained.module.config.period_s, likeliest.module.config.period_s}
        if len(names) > 1 or len(clocks) > 1:
            raise ConfigError(
                f'{futures.trained.name} and {likeliest.name} have joints or clocks that differ '
                f'from each other or from layout {layout!r}'
            )
        if likeliest.module.config.past > futures.past:
            raise ConfigError(f'{likeliest.name} sees further back than {futures.trained.name}')
        bound = ModelDigests.of(config.weights, config.cache, motion_deq)
        return cls(shape, futures, likeliest, bound)

    @property
    def period_s(self) -> float:
        """Of the model clock [s]."""
        return self.futures.trained.module.config.period_s


@dataclass(frozen=True)
class Case:
    """One window.

    Attributes:
        truth: [m] points that came true, as long as the clip goes on, at most as the futures.
        observed: [m].
        novelty: As in `Futures`.
    """

    clip: Clip
    look: BodyForecast
    truth: Float64[np.ndarray, 'horizon point xyz=3']
    observed: Float64[np.ndarray, 'time joint xyz=3']
    novelty: float
    effective: float


def windows_of(
    recordings: Recordings, frames: int, period_s: float, *, several: bool, seed: int = _SEED
) -> list[tuple[Clip, Float64[np.ndarray, '_ joint xyz=3']]]:
    """Cut one window out of each clip that is long enough, at a random place; or several.

    Several begin `APART_S` after one another, the first at the clip's beginning. A window goes on
    past its `frames` as far as the clip does.

    Raises:
        DataError: The recordings' rate is no multiple of the model's, or no clip is long enough.
    """
    stride = period_s * recordings.fps
    if abs(stride - round(stride)) > 1e-6:
        raise DataError(f'{recordings.fps} fps is not a multiple of the model clock {period_s} s')
    random, step = np.random.default_rng(seed), round(stride)
    found = []
    for clip in recordings.clips:
        room = clip.length - (frames - 1) * step
        if room < 1:
            continue
        apart = round(APART_S * recordings.fps)
        starts = range(0, room, apart) if several else [int(random.integers(room))]
        for start in starts:
            first = clip.start + start
            window = recordings.positions[first : clip.start + clip.length : step]
            found.append((clip, window.astype(np.float64)))
    if not found:
        raise DataError(f'no clip is as long as a window of {frames * period_s:.2f} s')
    return found


def cases_of(
    models: Models,
    recordings: Recordings,
    horizon_s: float,
    *,
    several: bool,
    progress: bool = False,
) -> list[Case]:
    """Predict windows that are true at least until `horizon_s`.

    Raises:
        DataError: The recordings have other joints than the models, or are too short.
    """
    if recordings.joint_names != models.shape.layout.joint_names:
        raise DataError(
            f'recordings have joints {recordings.joint_names}, the models '
            f'{models.shape.layout.joint_names}'
        )
    past, period_s = models.futures.past, models.period_s
    frames = past + round(horizon_s / period_s)
    windows = windows_of(recordings, frames, period_s, several=several)
    models.futures.reset()
    found: list[Case] = []
    starts = range(0, len(windows), _CHUNK)
    for start in tqdm(starts, leave=False, disable=None if progress else True):
        found += _predicted(models, windows[start : start + _CHUNK])
    return found


def _predicted(
    models: Models, windows: Sequence[tuple[Clip, Float64[np.ndarray, '_ joint xyz=3']]]
) -> list[Case]:
    past = models.futures.past
    observed = np.stack([window[:past] for _, window in windows])
    positions, draws, size = models.futures.draw(observed)
    module = models.likeliest.module
    recent = torch.from_numpy(observed[:, -module.config.past :])
    with torch.inference_mode():
        likeliest, _, _ = module(recent.to(next(module.parameters())), SolverSettings())
    guesses = likeliest.double().cpu().numpy()
    typical = float(models.futures.cache.figures['typical_distance'])
    count = positions.shape[1]
    found = []
    for index, (clip, window) in enumerate(windows):
        look = body_forecast(
            models.shape,
            observed[index],
            models.period_s,
            positions[index],
            np.full(count, 1.0 / count),
            draws.log_density[index].double().cpu().numpy(),
            models.futures.horizons_s,
            guesses[index],
        )
        truth = models.shape.points(window[past : past + len(look.times_s)], look.scale)
        novelty = float(draws.distance[index]) / typical
        found.append(Case(clip, look, truth, observed[index], novelty, float(size[index])))
    return found


def fit_for_use(cases: Sequence[Case], times: int) -> list[Case]:
    """Return cases that are true for so many times and not out of distribution, cut to them."""
    return [
        dataclasses.replace(case, truth=case.truth[:times], look=_cut(case.look, times))
        for case in cases
        if len(case.truth) >= times and case.novelty <= 1.0
    ]


def _cut(look: BodyForecast, times: int) -> BodyForecast:
    return dataclasses.replace(
        look,
        times_s=look.times_s[:times],
        ways=look.ways[:, : times + 1],
        mean=look.mean[:times],
        deviation=look.deviation[:times],
        shift=look.shift[:times],
    )
