# SPDX-License-Identifier: Apache-2.0
"""Thresholds of the level sets for each promise, bound by hash to the models they judge.

Stage: volume. F ranks space (`level_sets.py`); n clips of people whom no model has seen say where
the volumes {F >= tau} have to end. A clip gives windows some seconds apart. Their
weights w_i sum to n; a long clip weighs more than a short one, but less than by its windows. A
promise is one at a random instant of a new person's clip, and approximate. Two promises:

* coverage, level 1 - alpha: the whole body stays inside, jointly in all windows until the horizon.
  m_ij is the lowest F that body i reaches in window j, R_ij the weight of all m_kj <= m_ij, and
  r_i = min over j of a_j R_ij (max-rank). r is the largest r_i such that the weight of all
  r_k <= r_i is at most (n + 1) alpha; tau_j is the lowest m_ij with a_j R_ij >= r. a is 1 in the
  last window and `EARLY_WEIGHT` before: early volumes are small, and cost little to be left more
  rarely.
* risk, share alpha: of the space that the body fills in a window, at most alpha lies outside, in
  expectation: the largest tau with (n mean_i L_i(tau) + 1) / (n + 1) <= alpha, L_i the missed
  share. The expectation is one over time, so all windows weigh the same.

Both need n >= 1 / alpha - 1 and hold for people exchangeable with those of the calibration. Clips
of one person are not independent, so that coverage of few new people varies more than n says.
Thresholds are taken among clips of people who moved about as fast (Mondrian), so that fast and
slow people each have their promise.

The collision service has a calibration of its own (`CollisionCalibration`): a few dozen futures
are fewer and vary less than people do, and none of them meets many a robot that people meet.

References:
    Timans et al. (2024), Max-rank: efficient multiple testing for conformal prediction.
    Angelopoulos et al. (2024), Conformal risk control.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.resources import is_shipped, resolve_file
from motion_predictor_ros.volume.forecast import BodyForecast
from motion_predictor_ros.volume.level_sets import Ranking

KIND = 'volume_calibration'
FORMAT = 3

LEVELS = (0.8, 0.9, 0.95, 0.99)
"""Levels of coverage that are reported; any other that clips suffice for can be asked for."""

RISKS = (0.05, 0.02, 0.01, 0.005)
"""Shares of missed space that are reported; any other can be asked for."""

Promise = Literal['coverage', 'risk']

SHARES = (0.0, *np.geomspace(0.001, 1.0, 40).tolist())
"""Shares of a body's space at which the field is kept."""

SOFTNESS_M = 0.01
"""h: how near a future passes before it counts [m]; chosen on split `val`."""

_NO_SCORE = 1e-30

EARLY_WEIGHT = 2.0
"""a of all windows but the last; chosen on split `val`."""

_GROUPS, _GROUP_CLIPS = 3, 5.0
"""Groups of speed are at most so many, of at least this number of clips over alpha each."""


@dataclass(frozen=True)
class ModelDigests:
    """First digits of the hashes of the weight files that a calibration was made with."""

    density: str
    cache: str
    prediction: str

    @classmethod
    def of(cls, density: str, cache: str, prediction: str) -> 'ModelDigests':
        """Return the hashes of weight files by name or path.

        Raises:
            CheckpointError: There is no such file.
        """
        return cls(*(file_digest(name) for name in (density, cache, prediction)))


@dataclass(frozen=True)
class HorizonCalibration:
    """Windows of held-out people until one horizon.

    Attributes:
        horizon_s: Coverage holds jointly until then [s].
        windows_s: From, to, of each window [s].
        voxels_m: Edges of voxels in each window [m].
        ranking: Of the field that the profiles are of.
        profiles: Field values below which `SHARES` of the space lie that the body filled; the
            first is the lowest.
        speeds: [m/s] mean of the points observed last.
        factors: On the reachable set's speeds that each window needed.
        weights: Of windows; they sum to the number of clips.
    """

    horizon_s: float
    windows_s: tuple[tuple[float, float], ...]
    voxels_m: tuple[float, ...]
    ranking: Ranking
    profiles: Float64[np.ndarray, 'case window share']
    speeds: Float64[np.ndarray, ' case']
    factors: Float64[np.ndarray, ' case']
    weights: Float64[np.ndarray, ' case']

    @property
    def clips(self) -> int:
        """Return n."""
        return round(float(self.weights.sum()))

    def thresholds(
        self, promise: Promise, value: float, forecast: BodyForecast
    ) -> tuple[float, ...]:
        """Return tau of each window.

        Args:
            promise: What is promised.
            value: Level of coverage, or share of space that may be missed.

        Raises:
            ConfigError: There are too few clips.
        """
        groups = self.group_thresholds(promise, value)
        speed = float(forecast.speeds.mean())
        return next(taus for until_m_s, taus in groups if speed < until_m_s)

    def group_thresholds(
        self, promise: Promise, value: float
    ) -> tuple[tuple[float, tuple[float, ...]], ...]:
        """Return speeds, ascending, up to which thresholds hold [m/s], and these.

        Raises:
            ConfigError: There are too few clips.
        """
        key = promise, value
        if key not in self._cache:
            self._cache[key] = self._group_thresholds(promise, value)
        return self._cache[key]

    @cached_property
    def _cache(self) -> dict[Any, tuple[tuple[float, tuple[float, ...]], ...]]:
        return {}

    def _group_thresholds(
        self, promise: Promise, value: float
    ) -> tuple[tuple[float, tuple[float, ...]], ...]:
        alpha = value if promise == 'risk' else 1.0 - value
        check_enough(self.clips, alpha, f'{promise} {value:g}')
        count = max(1, min(_GROUPS, int(self.clips * alpha / _GROUP_CLIPS)))
        edges = np.quantile(self.speeds, np.arange(1, count) / count)
        of = np.searchsorted(edges, self.speeds, side='right')
        weights, threshold = self.weights, coverage_thresholds
        if promise == 'risk':
            weights = np.full(len(weights), weights.mean())
            threshold = risk_thresholds
        return tuple(
            (float(edge), threshold(self.profiles[of == group], weights[of == group], alpha))
            for group, edge in enumerate((*edges, np.inf))
        )


@dataclass(frozen=True)
class CollisionCalibration:
    """Monotone map from a score of nearness to the probability of a collision.

    score = sum over futures of W (1[c <= 0] + exp(-max(c, 0) / h)) / 2

    with c the smallest clearance between robot and future until the horizon.

    Attributes:
        scores: Ascending.
        probabilities: Never decreasing.
    """

    scores: Float64[np.ndarray, ' bin']
    probabilities: Float64[np.ndarray, ' bin']

    @classmethod
    def fit(
        cls, scores: Float64[np.ndarray, ' line'], contact: Bool[np.ndarray, ' line']
    ) -> 'CollisionCalibration':
        """Fit by isotonic regression how often lines of about the same score were crossed.

        Args:
            scores: As above.
            contact: Whether the person met the robot.
        """
        logs, index = np.unique(np.log(scores + _NO_SCORE), return_inverse=True)
        counts = np.bincount(index)
        from scipy.optimize import isotonic_regression  # takes most of a second to import

        fitted = isotonic_regression(np.bincount(index, contact) / counts, weights=counts)
        first = fitted.blocks[:-1]
        means = np.add.reduceat(logs * counts, first) / np.add.reduceat(counts, first)
        return cls(np.exp(means), fitted.x[first])

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any] | None) -> 'CollisionCalibration | None':
        """Read what `to_mapping` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is something else, or not monotone.
        """
        if values is None:
            return None
        scores, probabilities = (
            np.array(values[name], np.float64) for name in ('scores', 'probabilities')
        )
        if scores.shape != probabilities.shape or scores.ndim != 1 or not scores.size:
            raise ValueError(f'collision: {scores.shape} scores, {probabilities.shape} values')
        if not ((np.diff(scores) > 0.0).all() and (np.diff(probabilities) >= 0.0).all()):
            raise ValueError('collision: scores and probabilities must ascend')
        if not (probabilities[0] >= 0.0 and probabilities[-1] <= 1.0):
            raise ValueError('collision: probabilities lie between 0 and 1')
        return cls(scores, probabilities)

    def to_mapping(self) -> dict[str, list[float]]:
        """Return both as lists."""
        return {'scores': self.scores.tolist(), 'probabilities': self.probabilities.tolist()}

    def __call__(self, scores: Float64[np.ndarray, ' line']) -> Float64[np.ndarray, ' line']:
        """Return calibrated probabilities, interpolated along log score."""
        logs, known = np.log(scores + _NO_SCORE), np.log(self.scores + _NO_SCORE)
        return np.interp(logs, known, self.probabilities)


@dataclass(frozen=True)
class Calibration:
    """What `motion-predictor calibrate` writes.

    Attributes:
        name: The file's name and the first digits of its hash: what volumes quote.
        digests: Of the models that it was made with.
        approximate: Whether the models know some of the people: then the promises hold nearly.
        figures: For the reader: clips, people, attribution.
        collision: Of the collision service; None leaves its probabilities as they are counted.
    """

    name: str
    digests: ModelDigests
    approximate: bool
    horizons: tuple[HorizonCalibration, ...]
    figures: Mapping[str, Any]
    collision: CollisionCalibration | None = None

    def until(self, horizon_s: float) -> HorizonCalibration:
        """Return the calibration for joint coverage until then.

        Raises:
            ConfigError: It was not calibrated.
        """
        for horizon in self.horizons:
            if abs(horizon.horizon_s - horizon_s) < 1e-6:
                return horizon
        known = [horizon.horizon_s for horizon in self.horizons]
        raise ConfigError(f'horizon {horizon_s} s was not calibrated; calibrated: {known}')


def profile(values: Float32[np.ndarray, ' voxel']) -> Float64[np.ndarray, ' share']:
    """Return the field values below which `SHARES` of a body's space lie."""
    return np.quantile(values.astype(np.float64), SHARES)


def coverage_thresholds(
    profiles: Float64[np.ndarray, 'case window share'],
    weights: Float64[np.ndarray, ' case'],
    alpha: float,
) -> tuple[float, ...]:
    """Return tau of each window, so that a body stays above all of them but for alpha."""
    factors = np.full(profiles.shape[1], EARLY_WEIGHT)
    factors[-1] = 1.0
    minima = profiles[..., 0]
    ranks = factors * np.stack([_weighted_ranks(column, weights) for column in minima.T], axis=1)
    joint = ranks.min(axis=1)
    below = _weighted_ranks(joint, weights)
    rank = joint[below <= (weights.sum() + 1.0) * alpha + 1e-6].max()
    return tuple(
        float(column[rank_of >= rank - 1e-6].min())
        for column, rank_of in zip(minima.T, ranks.T, strict=True)
    )


def _weighted_ranks(
    values: Float64[np.ndarray, ' case'], weights: Float64[np.ndarray, ' case']
) -> Float64[np.ndarray, ' case']:
    """Return the weight of all values that are not above each one."""
    order = np.argsort(values)
    total, ordered = np.cumsum(weights[order]), values[order]
    return total[np.searchsorted(ordered, values, side='right') - 1]


def risk_thresholds(
    profiles: Float64[np.ndarray, 'case window share'],
    weights: Float64[np.ndarray, ' case'],
    alpha: float,
) -> tuple[float, ...]:
    """Return the largest tau of each window below which at most alpha of bodies lies."""
    return tuple(_risk_threshold(window, weights, alpha) for window in profiles.swapaxes(0, 1))


def _risk_threshold(
    profiles: Float64[np.ndarray, 'case share'],
    weights: Float64[np.ndarray, ' case'],
    alpha: float,
) -> float:
    low, high = float(profiles.min()), float(profiles.max())
    for _ in range(50):
        middle = 0.5 * (low + high)
        missed = weights @ missed_shares(profiles, middle)
        if (missed + 1.0) / (weights.sum() + 1.0) <= alpha:
            low = middle
        else:
            high = middle
    return low


def missed_shares(
    profiles: Float64[np.ndarray, 'clip share'], tau: float
) -> Float64[np.ndarray, ' clip']:
    """Return which share of each body's space lies below a threshold, interpolated."""
    above = (profiles <= tau).sum(axis=1).clip(1, len(SHARES) - 1)
    rows, shares = np.arange(len(profiles)), np.array(SHARES)
    low, high = profiles[rows, above - 1], profiles[rows, above]
    part = np.where(tau < high, (tau - low) / np.maximum(high - low, 1e-300), 1.0).clip(0.0)
    return shares[above - 1] + part * (shares[above] - shares[above - 1])


def quantile(scores: Float64[np.ndarray, ' n'], level: float) -> float:
    """Return the ceil((n + 1) level)-th smallest score.

    Raises:
        ConfigError: There are too few scores.
    """
    check_enough(len(scores), 1.0 - level, f'level {level:g}')
    return float(np.sort(scores)[math.ceil((len(scores) + 1) * level - 1e-9) - 1])


def needed_clips(alpha: float) -> int:
    """Return how many clips certify a level 1 - alpha, or a risk alpha."""
    return math.ceil(1.0 / alpha - 1.0 - 1e-9) if alpha > 0.0 else 2**31


def check_enough(count: int, alpha: float, promise: str) -> None:
    """Raise ConfigError if so many clips cannot certify a promise."""
    if count < needed_clips(alpha):
        raise ConfigError(
            f'{promise} needs {needed_clips(alpha)} clips or more, this calibration has {count}: '
            'promise less, or calibrate with more people'
        )


def file_digest(name: str) -> str:
    """Return the first 12 hex digits of a shipped or given weight file's SHA-256.

    Raises:
        CheckpointError: There is no such file.
    """
    try:
        path = resolve_file(name, 'weights', '.safetensors')
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


_ARRAYS = ('profiles', 'speeds', 'factors', 'weights')


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write arrays as safetensors, the rest as its JSON header."""
    tensors, horizons = {}, []
    for index, horizon in enumerate(calibration.horizons):
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(horizon, name), np.float32)
            tensors[f'{index}.{name}'] = torch.from_numpy(array)
        horizons.append(
            {
                'horizon_s': horizon.horizon_s,
                'windows_s': horizon.windows_s,
                'voxels_m': horizon.voxels_m,
                'ranking': asdict(horizon.ranking),
            }
        )
    header = {
        'kind': KIND,
        'volume_format': FORMAT,
        'bound': asdict(calibration.digests),
        'approximate': calibration.approximate,
        'horizons': horizons,
        'figures': dict(calibration.figures),
    }
    if calibration.collision is not None:
        header['collision'] = calibration.collision.to_mapping()
    save_checkpoint(path, header, tensors)


def load_calibration(name: str, digests: ModelDigests | None = None) -> Calibration:
    """Load a shipped calibration by name, or a file by path.

    Args:
        digests: Of the files in use; the calibration of others would be silently wrong.

    Raises:
        CheckpointError: The file is missing or damaged, or was made with other files.
    """
    try:
        path = resolve_file(name, 'weights', '.safetensors')
    except ConfigError as error:
        raise CheckpointError(f'{error}; make it: motion-predictor calibrate') from error
    checkpoint = load_checkpoint(path, KIND)
    header = checkpoint.header
    try:
        bound = ModelDigests(**header['bound'])
        if header.get('volume_format') != FORMAT:
            raise ValueError(f'format is {header.get("volume_format")}, expected {FORMAT}')
        horizons = tuple(
            _horizon(index, entry, checkpoint.tensors)
            for index, entry in enumerate(header['horizons'])
        )
        approximate, figures = bool(header['approximate']), header['figures']
        collision = CollisionCalibration.from_mapping(header.get('collision'))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path} does not describe a calibration: {error!r}') from error
    if digests is not None and bound != digests:
        raise CheckpointError(
            f'{path} was made with {asdict(bound)}, in use are {asdict(digests)}; '
            'make it anew: motion-predictor calibrate'
        )
    name = f'{path.stem}@{checkpoint.digest}'
    return Calibration(name, bound, approximate, horizons, figures, collision)


def has_calibration(name: str, digests: ModelDigests) -> bool:
    """Tell whether there is a calibration that was made with the files in use.

    Raises:
        CheckpointError: There is one, and it is damaged.
    """
    if not is_shipped(name, 'weights', '.safetensors'):
        return False
    return load_calibration(name).digests == digests


def _horizon(
    index: int, entry: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> HorizonCalibration:
    arrays = {name: tensors[f'{index}.{name}'].double().numpy() for name in _ARRAYS}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f'{index}.{name} is not finite')
    windows_s = tuple((float(start), float(end)) for start, end in entry['windows_s'])
    cases = len(arrays['speeds'])
    expected = (cases, len(windows_s), len(SHARES))
    if arrays['profiles'].shape != expected or not (arrays['weights'] > 0.0).all():
        raise ValueError(f'{index}.profiles: {arrays["profiles"].shape}, expected {expected}')
    ranking = Ranking.from_mapping(entry['ranking'])
    voxels_m = tuple(float(size_m) for size_m in entry['voxels_m'])
    return HorizonCalibration(float(entry['horizon_s']), windows_s, voxels_m, ranking, **arrays)
