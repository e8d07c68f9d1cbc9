# SPDX-License-Identifier: Apache-2.0
"""Recipes of CacheFlow: three trainings, one after the other, in one file."""

from dataclasses import dataclass, field

import yaml

from motion_predictor_ros.config import from_mapping, param
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.density.cache_flow.model import CacheFlowConfig
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.resources import resolve_file
from motion_predictor_ros.training.recipe import ScheduleConfig
from motion_predictor_ros.training.windows import SamplingConfig


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses."""

    divergence: float = param(
        1e-4, "weight of the behaviour's KL divergence [m^2]", low=0.0, high=10.0
    )
    adversary: float = param(
        0.05, 'weight against poses that leak into the behaviour [-]', low=0.0, high=1.0
    )
    matching: float = param(
        1.0, 'weight of flow matching against the likelihood [-]', low=0.0, high=10.0
    )
    pull_steps: int = param(
        4, 'midpoint steps of the inverse flow in the loop [-]', low=1, high=64
    )


@dataclass(frozen=True)
class VarietyConfig:
    """How recorded people are varied, so that a model trained on few fits many."""

    size: float = param(1.1, 'people grow or shrink by up to this factor [-]', low=1.0, high=2.0)
    noise_m: float = param(
        0.005, 'noise on observed poses, of flow and mixture only [m]', low=0.0, high=0.1
    )
    latent: float = param(
        0.0, 'noise on whitened latents, of flow and mixture only [-]', low=0.0, high=1.0
    )


@dataclass(frozen=True)
class SubjectsConfig:
    """Subjects of the splits, instead of the data's own."""

    train: str = param('', "subjects, separated by blanks; empty: the data's split 'train' [-]")
    held_out: str = param('', "subjects that choose checkpoints; empty: split 'val' [-]")

    def select(self, recordings: Recordings, split: str) -> Recordings:
        """Return the clips of 'train' or of 'val'."""
        named = (self.train if split == 'train' else self.held_out).split()
        if named:
            return recordings.select(lambda clip: clip.subject in named)
        return recordings.select(lambda clip: clip.split == split)


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
    subjects: SubjectsConfig = field(default_factory=SubjectsConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


def load_cache_flow_recipe(name: str) -> tuple[str, CacheFlowRecipe]:
    """Read a recipe by shipped name or path; return its name and content.

    Raises:
        ConfigError: It does not exist, is no YAML, or holds unknown or impossible values.
    """
    path = resolve_file(name, 'config/recipes', '.yaml')
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f'{path} cannot be read as YAML: {error}') from error
    if not isinstance(document, dict):
        raise ConfigError(f'{path} must hold a mapping')
    return path.stem, from_mapping(CacheFlowRecipe, document)
