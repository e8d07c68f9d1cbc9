# SPDX-License-Identifier: Apache-2.0
"""Recipes: files in config/recipes that define a training, except for its data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from motion_predictor_ros.config import from_mapping, param, share
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.density.cache_flow.model import CacheFlowConfig
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQConfig
from motion_predictor_ros.resources import resolve_file
from motion_predictor_ros.training.augment import BodyShapeConfig, DegradeConfig
from motion_predictor_ros.training.windows import SamplingConfig, limit_training


@dataclass(frozen=True)
class ScheduleConfig:
    """Schedule of a training, independent of the model.

    Averaged weights are validated and kept. `keep: last` is for trainings whose validation score
    does not measure what is trained, such as camera faults.
    """

    steps: int = param(10_000, 'optimiser steps of the whole schedule [-]', low=1, high=10**8)
    batch: int = param(100, 'windows per step [-]', low=1, high=65536)
    learning_rate: float = param(5e-4, 'peak learning rate of Adam [-]', low=0.0, high=1.0)
    muon_rate: float = param(
        0.0, 'peak learning rate of Muon for matrices; 0: Adam for all [-]', low=0.0, high=1.0
    )
    muon_decay: float = param(0.0, 'weight decay of matrices, per rate [-]', low=0.0, high=10.0)
    warmup_steps: int = param(0, 'steps of linear warm-up [-]', low=0, high=10**6)
    clip_norm: float = param(1.0, 'gradients are scaled down to this norm [-]', low=0.0, high=1e6)
    averaging: float = param(
        0.0, 'decay per step of the averaged weights; 0: no average [-]', low=0.0, high=0.99999
    )
    validate_every: int = param(500, 'steps between validations [-]', low=1, high=10**7)
    keep: str = param('best', 'weights kept: best score, or last [-]', choices=('best', 'last'))
    seed: int = param(1, 'seed of weights and batches [-]', low=0, high=2**31 - 1)
    decay: str = param('cosine', 'of the rate after warm-up [-]', choices=('cosine', 'constant'))


@dataclass(frozen=True)
class EquilibriumConfig:
    """Settings of training a fixed point."""

    solver_steps: int = param(20, 'solver iterations in training [-]', low=1, high=200)
    sparse_weight: float = param(
        0.8, 'gamma: weight of the loss at a state on the way [-]', low=0.0, high=10.0
    )
    neumann_terms: int = param(
        1, 'powers of df/dz in the gradient of the fixed point; 1: phantom [-]', low=0, high=100
    )
    recompute: bool = param(False, "keep one layer's graph at a time: less memory, more time [-]")
    horizon_power: float = param(
        0.0, 'the loss weight of frame t of the future is t^-power [-]', low=0.0, high=2.0
    )
    hinge_weight: float = param(
        0.0, 'weight of the contraction hinge at the end of its ramp [-]', low=0.0, high=100.0
    )
    hinge_limit: float = param(0.6, 'contraction that costs nothing [-]', low=0.0, high=2.0)
    hinge_ramp_steps: int = param(
        400, 'steps over which the hinge grows from a third [-]', low=1, high=10**6
    )
    hinge_share: float = share(0.25, 'share of the batch with a hinge loss [-]')


@dataclass(frozen=True)
class MotionDEQRecipe:
    """A whole training of MotionDEQ."""

    layout: str = param('body18', 'layout of the joints [-]')
    model: MotionDEQConfig = field(default_factory=MotionDEQConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    equilibrium: EquilibriumConfig = field(default_factory=EquilibriumConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    shape: BodyShapeConfig = field(default_factory=BodyShapeConfig)
    degrade: DegradeConfig = field(default_factory=DegradeConfig)
    start_share: float = share(0.0, 'share of `--start-from` in the final weights [-]')
    held_out_too: bool = param(False, 'train on held-out clips too: no validation [-]')
    bfloat16: bool = param(False, 'compute pairs of joints in bfloat16 while training [-]')


def training_clips(recipe: MotionDEQRecipe, recordings: Recordings) -> Recordings:
    """Return the training clips of a recipe; never test clips."""
    splits = ('train', 'val') if recipe.held_out_too else ('train',)
    chosen = recordings.select(lambda clip: clip.split in splits)
    return limit_training(chosen, recipe.sampling)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses."""

    divergence: float = param(1e-4, 'weight of the KL divergence [m^2]', low=0.0, high=10.0)
    matching: float = param(
        1.0, 'weight of flow matching against the likelihood [-]', low=0.0, high=10.0
    )
    pull_steps: int = param(4, 'midpoint steps of the inverse flow [-]', low=1, high=64)


@dataclass(frozen=True)
class VarietyConfig:
    """How recorded people are varied, so that a model trained on few fits many.

    Noise is for flow and mixture alone.
    """

    size: float = param(1.1, 'people grow or shrink by up to this factor [-]', low=1.0, high=2.0)
    noise_m: float = param(0.005, 'noise on observed poses [m]', low=0.0, high=0.1)
    latent: float = share(0.0, 'noise on whitened latents [-]')


@dataclass(frozen=True)
class CacheFlowRecipe:
    """A whole training of CacheFlow: behaviours, then their decoder, then flow and mixture."""

    layout: str = param('body18', 'layout of the joints [-]')
    model: CacheFlowConfig = field(default_factory=CacheFlowConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    behaviour: ScheduleConfig = field(default_factory=ScheduleConfig)
    decoder: ScheduleConfig = field(default_factory=ScheduleConfig)
    flow: ScheduleConfig = field(default_factory=ScheduleConfig)
    variety: VarietyConfig = field(default_factory=VarietyConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


def load_recipe(name: str) -> tuple[str, MotionDEQRecipe]:
    """Read a recipe of MotionDEQ by shipped name or path; return its name and content.

    Raises:
        ConfigError: It does not exist, is no YAML, or holds unknown or impossible values.
    """
    path, document = _read(name)
    return path.stem, from_mapping(MotionDEQRecipe, document)


def load_cache_flow_recipe(name: str) -> tuple[str, CacheFlowRecipe]:
    """Read a recipe of CacheFlow; see `load_recipe`."""
    path, document = _read(name)
    return path.stem, from_mapping(CacheFlowRecipe, document)


def _read(name: str) -> tuple[Path, dict[str, Any]]:
    path = resolve_file(name, 'config/recipes', '.yaml')
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f'{path} cannot be read as YAML: {error}') from error
    if not isinstance(document, dict):
        raise ConfigError(f'{path} must hold a mapping')
    return path, document
