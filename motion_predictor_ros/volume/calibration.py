# SPDX-License-Identifier: Apache-2.0
"""What calibration found: scores of people no model had seen, bound to the models they judge.

Stage: volume. A level 1 - alpha takes the ceil((n + 1)(1 - alpha))-th smallest of n scores; where
there is none, n people cannot certify the level, and asking for it is an error that says so.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.resources import resolve_file
from motion_predictor_ros.volume.coverage import FEATURES, ScenarioSelection, Spread

KIND = 'volume_calibration'

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Levels that are calibrated where there are people enough."""


@dataclass(frozen=True)
class ModelDigests:
    """Which files a calibration speaks of: the first digits of their hashes."""

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
    """What holds jointly until one horizon.

    Attributes:
        scores: Of each level's kept futures, ascending.
        factors: On the reachable set's speeds, ascending.
        choice: Which futures were scored.
    """

    horizon_s: float
    levels: tuple[float, ...]
    choice: ScenarioSelection
    spread: Spread
    scores: Float64[np.ndarray, 'level n']
    factors: Float64[np.ndarray, ' n']

    def radius(self, level: float) -> float:
        """Return r_alpha.

        Raises:
            ConfigError: The level was not calibrated, or cannot be certified.
        """
        if level not in self.levels:
            raise ConfigError(f'level {level} was not calibrated; calibrated: {self.levels}')
        return quantile(self.scores[self.levels.index(level)], level)

    def factor(self, level: float) -> float:
        """Return by how much the reachable set's speeds have to grow to hold at this level.

        Raises:
            ConfigError: The level cannot be certified.
        """
        return quantile(self.factors, level)


@dataclass(frozen=True)
class Calibration:
    """Everything `motion-predictor calibrate` found.

    Attributes:
        name: The file's name and the first digits of its hash: what volumes quote.
        approximate: Whether some scores are of the same clip, at least 4 s apart: then the
            guarantee holds nearly, not exactly.
        figures: For the reader: clips, subjects, levels that can be certified.
    """

    name: str
    bound: ModelDigests
    approximate: bool
    horizons: tuple[HorizonCalibration, ...]
    figures: Mapping[str, Any]

    def until(self, horizon_s: float) -> HorizonCalibration:
        """Return the calibration for joint coverage until then.

        Raises:
            ConfigError: It was not calibrated.
        """
        for each in self.horizons:
            if abs(each.horizon_s - horizon_s) < 1e-6:
                return each
        known = [each.horizon_s for each in self.horizons]
        raise ConfigError(f'horizon {horizon_s} s was not calibrated; calibrated: {known}')


def quantile(scores: Float64[np.ndarray, ' n'], level: float) -> float:
    """Return the ceil((n + 1) level)-th smallest score.

    Raises:
        ConfigError: There are not scores enough.
    """
    rank = needed_rank(len(scores), level)
    if rank > len(scores):
        raise ConfigError(
            f'level {level} needs {least_scores(level)} scores or more, this calibration has '
            f'{len(scores)}: choose a lower level, or calibrate with more people'
        )
    return float(np.sort(scores)[rank - 1])


def needed_rank(count: int, level: float) -> int:
    """Return which of so many ascending scores the level takes; one beyond: too few."""
    return math.ceil((count + 1) * level - 1e-9)


def least_scores(level: float) -> int:
    """Return how many scores certify the level."""
    return math.ceil(level / (1.0 - level) - 1e-9)


def certified(count: int, levels: tuple[float, ...] = LEVELS) -> tuple[float, ...]:
    """Return the levels that so many scores can certify."""
    return tuple(level for level in levels if needed_rank(count, level) <= count)


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


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write arrays as safetensors, the rest as its JSON header."""
    tensors, horizons = {}, []
    for index, each in enumerate(calibration.horizons):
        arrays = {'scores': each.scores, 'factors': each.factors, **vars(each.spread)}
        for name, array in arrays.items():
            tensors[f'{index}.{name}'] = torch.from_numpy(np.ascontiguousarray(array))
        horizons.append(
            {'horizon_s': each.horizon_s, 'levels': each.levels, **asdict(each.choice)}
        )
    header = {
        'kind': KIND,
        'bound': asdict(calibration.bound),
        'approximate': calibration.approximate,
        'features': FEATURES,
        'horizons': horizons,
        'figures': dict(calibration.figures),
    }
    save_checkpoint(path, header, tensors)


def load_calibration(name: str, bound: ModelDigests | None = None) -> Calibration:
    """Load a shipped calibration by name, or a file by path.

    Args:
        bound: Files in use; a calibration of others would be silently wrong.

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
        own = ModelDigests(**header['bound'])
        if tuple(header['features']) != FEATURES:
            raise ValueError(f'features are {header["features"]}, expected {list(FEATURES)}')
        horizons = tuple(
            _horizon(index, entry, checkpoint.tensors)
            for index, entry in enumerate(header['horizons'])
        )
        approximate, figures = bool(header['approximate']), header['figures']
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path} does not describe a calibration: {error!r}') from error
    if bound is not None and own != bound:
        raise CheckpointError(
            f'{path} was made with {asdict(own)}, in use are {asdict(bound)}; '
            'make it anew: motion-predictor calibrate'
        )
    return Calibration(f'{path.stem}@{checkpoint.digest}', own, approximate, horizons, figures)


def _horizon(
    index: int, entry: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> HorizonCalibration:
    def array(name: str) -> np.ndarray:
        value: np.ndarray = tensors[f'{index}.{name}'].double().numpy()
        if not np.isfinite(value).all():
            raise ValueError(f'{index}.{name} is not finite')
        return value

    levels = tuple(float(level) for level in entry['levels'])
    scores = array('scores')
    if scores.ndim != 2 or len(scores) != len(levels):
        raise ValueError(f'{len(levels)} levels, scores of shape {scores.shape}')
    return HorizonCalibration(
        float(entry['horizon_s']),
        levels,
        ScenarioSelection(float(entry['breadth']), int(entry['most'])),
        Spread(**{item.name: array(item.name) for item in fields(Spread)}),
        scores,
        array('factors'),
    )
