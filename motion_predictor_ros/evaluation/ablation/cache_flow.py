# SPDX-License-Identifier: Apache-2.0
"""The effect of each part of CacheFlow ([CacheFlow] table 3), on the held-out clips.

Behaviours are trained once for all variants, each of which has a folder with a `run.json`:
    the three training modes, of which the recipe's is the whole model
    without_factorisation   the flow works on whole behaviours; densities are of another space
    without_flow            the mixture lies directly over the latent
The whole model is also evaluated with other sampling rules, smaller caches, and a cache of random
futures: z from a Gaussian with the moments of the recorded ones, pushed through the flow.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.density.cache_flow.cache import FutureCache
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow, load_cache_flow
from motion_predictor_ros.density.cache_flow.model import MODES
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.evaluation.ablation.runs import fingerprint, run_once
from motion_predictor_ros.evaluation.futures.samplers import (
    CacheFlowSampler,
    FutureSampler,
    LatentMixtureSampler,
)
from motion_predictor_ros.evaluation.futures.stochastic import evaluate_stochastic, make_case
from motion_predictor_ros.evaluation.tables import print_table, write_json
from motion_predictor_ros.training.baselines.futures import (
    LatentMixtureTask,
    load_latent_mixture,
)
from motion_predictor_ros.training.cache_build import build_cache
from motion_predictor_ros.training.cache_flow import (
    BehaviourTask,
    DecoderTask,
    FlowTask,
    FutureData,
    batch_generator,
)
from motion_predictor_ros.training.loop import Task, train
from motion_predictor_ros.training.recipe import CacheFlowRecipe, ScheduleConfig

VARIANTS = (*MODES, 'without_factorisation', 'without_flow')

_CHUNK = 1000
_FIGURES = ('log_prob_per_dim', 'ade_m', 'fde_m', 'apd', 'effective_sample_size', 'inference_ms')


@dataclass(frozen=True)
class CacheFlowTrial:
    """Settings that all variants share.

    Attributes:
        cached: Futures in the cache of every variant.
        smaller: Sizes of caches that the whole model is also evaluated with.
    """

    name: str
    recipe: CacheFlowRecipe
    recordings: Recordings
    out: Path
    device: torch.device
    cached: int
    smaller: tuple[int, ...]
    futures: int = 50


def ablate_cache_flow(trial: CacheFlowTrial) -> dict[str, Any]:
    """Train the missing runs, and return the figures of every variant.

    Writes `report.json` beside the runs.

    Raises:
        ConfigError: A run in the folder was made with other data, recipe or budget.
        DataError: The clips do not fit the recipe.
    """
    runs = {name: _run(trial, name) for name in VARIANTS}
    recipe = trial.recipe
    report = {
        'recipe': trial.name,
        'mode': recipe.model.mode,
        'steps': {part: getattr(recipe, part).steps for part in ('behaviour', 'decoder', 'flow')},
        'cached_futures': trial.cached,
        'threads': torch.get_num_threads(),
        'variants': {
            name: rows for variant_rows in runs.values() for name, rows in variant_rows.items()
        },
    }
    write_json(report, trial.out / 'report.json')
    return report


def _run(trial: CacheFlowTrial, name: str) -> dict[str, Any]:
    """Return the figures of one variant; a finished one is not repeated."""
    made_with = {
        'recipe': dataclasses.asdict(_recipe(trial, name)),
        'cached': [trial.cached, *trial.smaller],
        'futures': trial.futures,
        **fingerprint(trial.recordings),
    }

    def compute() -> dict[str, Any]:
        return _without_flow(trial) if name == 'without_flow' else _with_flow(trial, name)

    result: dict[str, Any] = run_once(trial.out / name / 'run.json', made_with, compute)
    return result


def _recipe(trial: CacheFlowTrial, name: str) -> CacheFlowRecipe:
    """Return the recipe of a variant; only the model differs."""
    model = trial.recipe.model
    if name in MODES:
        model = dataclasses.replace(model, mode=name)
    if name == 'without_factorisation':
        model = dataclasses.replace(model, latent=model.behaviour)
    return dataclasses.replace(trial.recipe, model=model)


def _train(trial: CacheFlowTrial, task: Task, schedule: ScheduleConfig, folder: Path) -> Path:
    """Train to the end, unless finished already."""
    recipe = task.header()['training']['recipe']

    def compute() -> str:
        with redirect_stdout(sys.stderr):  # stdout is for JSON
            return str(train(task, schedule, folder, resume=True).name)

    made_with = {'recipe': recipe, **fingerprint(trial.recordings)}
    return folder / run_once(folder / 'run.json', made_with, compute)


def _trained(trial: CacheFlowTrial, name: str) -> TrainedCacheFlow:
    """Return a variant with a flow, trained; behaviours are shared, and so is their decoder."""
    recipe, out = _recipe(trial, name), trial.out
    data = FutureData(recipe, trial.recordings, trial.device)
    whole = _recipe(trial, trial.recipe.model.mode)
    behaviour = _train(
        trial, BehaviourTask(trial.name, whole, data), recipe.behaviour, out / 'behaviour'
    )
    shared = recipe.model.latent == whole.model.latent
    task = DecoderTask(trial.name, whole if shared else recipe, data, behaviour)
    decoder = _train(
        trial, task, recipe.decoder, out / ('decoder' if shared else f'{name}/decoder')
    )
    flow = FlowTask(trial.name, recipe, data, decoder)
    best = _train(trial, flow, recipe.flow, out / name / 'flow')
    return load_cache_flow(str(best), trial.device)


def _with_flow(trial: CacheFlowTrial, name: str) -> dict[str, Any]:
    """Return a variant's figures; those of the whole model with all sampling options."""
    trained = _trained(trial, name)
    cache = build_cache(trained, trial.recordings, trial.cached)
    predictor = _predictor(trial, trained, cache)
    samplers: dict[str, FutureSampler] = {name: CacheFlowSampler(predictor)}
    if name == trial.recipe.model.mode:
        for rule in ('weighted', 'flow'):
            config = dataclasses.replace(predictor.config, rule=rule)
            variant = CacheFlowPredictor(trained, cache, config)
            samplers[f'rule_{rule}'] = CacheFlowSampler(variant)
        others = {f'cache_{size}': beginning(cache, size) for size in trial.smaller}
        others['random_cache'] = random_cache(trained, cache)
        for key, other in others.items():
            samplers[key] = CacheFlowSampler(_predictor(trial, trained, other))
    return _figures(trial, trained, samplers)


def _without_flow(trial: CacheFlowTrial) -> dict[str, Any]:
    trained = _trained(trial, trial.recipe.model.mode)
    data = FutureData(trial.recipe, trial.recordings, trial.device)
    task = LatentMixtureTask(trial.name, trial.recipe, data, trained)
    best = _train(trial, task, trial.recipe.flow, trial.out / 'without_flow/mixture')
    mixture = load_latent_mixture(best, trained)
    base = _predictor(trial, trained, build_cache(trained, trial.recordings, 1))
    sampler = LatentMixtureSampler(base, mixture, trial.futures, base.config.seed)
    return _figures(trial, trained, {'without_flow': sampler})


def _predictor(
    trial: CacheFlowTrial, trained: TrainedCacheFlow, cache: FutureCache
) -> CacheFlowPredictor:
    config = DensityConfig(futures=trial.futures, rule='nearest')
    return CacheFlowPredictor(trained, cache, config)


def _figures(
    trial: CacheFlowTrial, trained: TrainedCacheFlow, samplers: Mapping[str, FutureSampler]
) -> dict[str, Any]:
    held_out = trial.recipe.subjects.select(trial.recordings, 'val')
    report = evaluate_stochastic(make_case(trained, held_out), trained, samplers)
    return {
        name: {key: report[name][key] for key in _FIGURES if key in report[name]}
        for name in samplers
    }


def beginning(cache: FutureCache, size: int) -> FutureCache:
    """Return the first futures of a cache, which are in random order."""
    rows = ('z', 'x', 'log_det', 'log_rho', 'clips', 'frames')
    first = {key: getattr(cache, key)[:size] for key in rows}
    return dataclasses.replace(cache, **first)


@torch.inference_mode()
def random_cache(trained: TrainedCacheFlow, cache: FutureCache) -> FutureCache:
    """Return a cache of the same size with z from a Gaussian fitted to the recorded z."""
    mean, std = cache.z.mean(0), cache.z.std(0).clamp_min(1e-6)
    noise = torch.randn(cache.z.shape, generator=batch_generator(1, 0)).to(cache.z)
    pushed: list[tuple[Tensor, Tensor]] = [
        trained.module.flow.push_with_volume(part) for part in (mean + std * noise).split(_CHUNK)
    ]
    terms = -0.5 * noise.square() - std.log() - 0.5 * math.log(2 * math.pi)
    return dataclasses.replace(
        cache,
        z=mean + std * noise,
        x=torch.cat([x for x, _ in pushed]),
        log_det=-torch.cat([volume for _, volume in pushed]),
        log_rho=terms.sum(1),
    )


def print_cache_flow_ablation(report: Mapping[str, Any], console: Console) -> None:
    """Print one row per variant."""
    rows = {}
    for name, figures in report['variants'].items():
        label = f'{name} (whole)' if name == report['mode'] else name
        rows[label] = {
            key.removesuffix('_m').replace('_', ' '): figures[key]
            for key in _FIGURES
            if key in figures
        }
    title = f'{report["recipe"]}, {report["cached_futures"]} cached futures, validation clips'
    print_table(rows, title, '', console, form='.3f')
    console.print('without_factorisation: log prob per dim is of another space: not comparable')
