# SPDX-License-Identifier: Apache-2.0
"""Windows to calibrate and evaluate volumes on: predictions, and the motion that followed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from tqdm import tqdm

from motion_predictor_ros.config import DensityConfig, VolumeConfig
from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.density.recentring import recentre
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.calibration import ModelDigests
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.forecast import BodyForecast, body_forecast, window_frames
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.level_sets import Ranking, WindowField, rank_space, refined
from motion_predictor_ros.volume.reachable import needed_factor
from motion_predictor_ros.volume.voxels import touched

APART_S = 4.0
"""Windows of the same clip begin at least so far apart."""

HORIZONS_S = (0.5, 1.0, 2.0)
"""Coverage is calibrated jointly until each of these."""

FLOOR_M = 0.0
"""Height of the floor in clips; space below it does not count."""

EVERY = 3
"""Predicted frames that share one set of capsules, as `volume.every`."""

_CHUNK, _SEED, _SUBSTEPS = 16, 1, 4


@dataclass(frozen=True)
class Models:
    """Models that predict, and the digests of their files."""

    shape: BodyShape
    futures: CacheFlowPredictor
    likeliest: TrainedMotionDEQ
    digests: ModelDigests

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
        digests = ModelDigests.of(config.weights, config.cache, motion_deq)
        return cls(shape, futures, likeliest, digests)

    @property
    def period_s(self) -> float:
        """Of the model clock [s]."""
        return self.futures.trained.module.config.period_s


@dataclass(frozen=True)
class Case:
    """One window of a clip.

    Attributes:
        truth: [m] points that followed, as long as the clip goes on, at most as the futures.
        observed: [m].
        novelty: As in `Futures`.
    """

    clip: Clip
    forecast: BodyForecast
    truth: Float64[np.ndarray, 'horizon point xyz=3']
    observed: Float64[np.ndarray, 'time joint xyz=3']
    novelty: float
    effective: float

    def lasts(self, until_s: float) -> bool:
        """Tell whether the true motion is known until then."""
        return bool(self.forecast.times_s[len(self.truth)] >= until_s - 1e-6)

    def needed_factor(self, shape: BodyShape, until_s: float) -> float:
        """Return by which factor the reachable set's speeds had to grow to hold until then."""
        last = int(np.searchsorted(self.forecast.times_s, until_s - 1e-6))
        truth, times_s = self.truth[:last], self.forecast.times_s[1 : last + 1]
        return needed_factor(shape, self.forecast.now, truth, times_s, VolumeConfig())

    def true_body(self, shape: BodyShape, window_s: tuple[float, float]) -> Bodies:
        """Return the true body, swept through a window along straight lines between frames."""
        path = np.concatenate([self.forecast.now[None], self.truth])
        times_s = self.forecast.times_s[: len(path)]
        first, last = window_frames(times_s, window_s)
        steps = np.linspace(first, last - 1, (last - 1 - first) * _SUBSTEPS + 1)
        low = np.minimum(steps.astype(int), len(path) - 2)
        part = (steps - low)[:, None, None]
        fine = (1.0 - part) * path[low] + part * path[low + 1]
        instants = np.interp(steps, np.arange(len(times_s)), times_s)
        return bodies(shape, fine[None], np.ones(1), instants, self.forecast.scale)


def windows_of(
    recordings: Recordings, frames: int, period_s: float
) -> list[tuple[Clip, Float64[np.ndarray, '_ joint xyz=3']]]:
    """Cut windows out of all clips, `APART_S` after one another from a random instant on.

    A window goes on beyond its length as far as the clip does. The first instant is random,
    because people stand still where many recordings begin: windows that begin there are harder to
    predict than those at any other time.

    Args:
        frames: Least length; shorter clips have no window.

    Raises:
        DataError: The recordings' rate is no multiple of the model's, or no clip is long enough.
    """
    stride = period_s * recordings.fps
    if abs(stride - round(stride)) > 1e-6:
        raise DataError(f'{recordings.fps} fps is not a multiple of the model clock {period_s} s')
    random, step = np.random.default_rng(_SEED), round(stride)
    apart = round(APART_S * recordings.fps)
    windows = []
    for clip in recordings.clips:
        room = clip.length - (frames - 1) * step
        if room <= 0:
            continue
        for start in range(int(random.integers(min(room, apart))), room, apart):
            frame = slice(clip.start + start, clip.start + clip.length, step)
            windows.append((clip, recordings.positions[frame].astype(np.float64)))
    if not windows:
        raise DataError(f'no clip is as long as a window of {frames * period_s:.2f} s')
    return windows


def cases_of(models: Models, recordings: Recordings, until_s: float = HORIZONS_S[0]) -> list[Case]:
    """Predict windows of recordings.

    Windows that are out of distribution are among them: no level set is published of them.

    Args:
        until_s: The motion that followed is known at least until then.

    Raises:
        DataError: The recordings have other joints than the models, or are too short.
    """
    recordings.check_joints(models.shape.layout.joint_names, 'the models')
    past, period_s = models.futures.past, models.period_s
    windows = windows_of(recordings, past + round(until_s / period_s), period_s)
    models.futures.reset()
    cases: list[Case] = []
    starts = range(0, len(windows), _CHUNK)
    for start in tqdm(starts, leave=False, disable=None):
        cases += _predicted(models, windows[start : start + _CHUNK])
    return cases


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
    weights = np.full(positions.shape[1], 1.0 / positions.shape[1])
    horizons_s, root = models.futures.horizons_s, models.futures.trained.frame.root
    paths = recentre(positions, horizons_s, guesses, root)
    cases = []
    for index, (clip, window) in enumerate(windows):
        forecast = body_forecast(
            models.shape,
            observed[index],
            models.period_s,
            paths[index],
            weights,
            horizons_s,
            guesses[index],
        )
        later = window[past : past + len(horizons_s)]
        truth = models.shape.points(later, forecast.scale)
        novelty = float(draws.distance[index]) / typical
        cases.append(Case(clip, forecast, truth, observed[index], novelty, float(size[index])))
    return cases


def rank_truth(
    shape: BodyShape, case: Case, ranking: Ranking, window_s: tuple[float, float], size_m: float
) -> Float32[np.ndarray, ' voxel']:
    """Return F of the voxels above the floor that the true body touches, ascending."""
    futures = case.forecast.future_bodies(shape, window_s, EVERY)
    likeliest = case.forecast.likeliest_body(shape, window_s, EVERY)
    truth = case.true_body(shape, window_s)
    corners = np.array([body.bounds for body in (futures, likeliest, truth)])
    low, high = corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)
    coarse = VoxelGrid.around(low - 2.0 * size_m, high + 2.0 * size_m, 2.0 * size_m)
    values, _ = rank_space(likeliest, futures, coarse, ranking)
    field = refined(WindowField(coarse, values))
    low, high = truth.bounds
    grid = VoxelGrid.around(low - size_m, high + size_m, size_m)
    inside = touched(truth, grid) & above_floor(grid)
    return np.sort(field.at(grid.centres(inside)))


def above_floor(grid: VoxelGrid) -> Bool[np.ndarray, ' z']:
    """Return which layers of voxels reach above the floor."""
    tops = grid.origin[2] + grid.size_m * np.arange(1, grid.shape[2] + 1)
    return np.asarray(tops > FLOOR_M + 1e-6)
