# SPDX-License-Identifier: Apache-2.0
"""Time CacheFlow for one person: densities of cached futures, samples, and the size of the cache.

Both start at observed positions and end at the result. The yardstick is the same result in plain
torch, one formula after the other, in the same run:
    density   the mixture at every cached z, by mode and coordinate, instead of one matrix product
    samples   nearest neighbours by all distances instead of an index, a GRU fed at every step
              instead of one whose constant input is hoisted, joints rotated one by one
    both      weights as trained instead of fused ones
The cost depends on the shape of a model and hardly on its weights, so an untrained model with a
synthetic cache suffices where there is no trained one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from rich.console import Console
from torch import Tensor, nn

from motion_predictor_ros.bench.timing import machine, rounds_ms
from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.density.body_frame import body_frame
from motion_predictor_ros.density.cache_flow.cache import FutureCache
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.cache_flow.model import CacheFlow, CacheFlowConfig
from motion_predictor_ros.density.cache_flow.neighbours import BruteForce
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.density.sampling import effective_sample_size, importance_weights
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.evaluation.tables import print_table, spread
from motion_predictor_ros.runtime.process_memory import disable_malloc_trim
from motion_predictor_ros.scoring.metrics import Windows
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.recipe import CacheFlowRecipe

UNTRAINED = 'untrained'
SIZES = (1_000, 10_000, 100_000, 1_000_000)
FUTURES = (10, 50, 200, 1_000)

_DENSITIES = 10_000
_ROUNDS, _SLOW_ROUNDS, _CACHE_ROUNDS = 200, 20, 30
_SEED = 0


def untrained_predictor(
    shape: CacheFlowConfig, layout: str, cached: int, config: DensityConfig, device: torch.device
) -> CacheFlowPredictor:
    """Return a model with random weights and a synthetic cache of `cached` futures."""
    torch.manual_seed(_SEED)
    names = SkeletonLayout.load(layout).joint_names
    module = CacheFlow(shape).to(device).eval().requires_grad_(False)
    frame = body_frame(names)
    trained = TrainedCacheFlow(UNTRAINED, UNTRAINED, module, frame, names, {})
    people = torch.from_numpy(wandering_people(shape, 64)).to(next(module.parameters()))
    with torch.inference_mode():
        q = module.observe(frame.enter(people, frame.place(people[:, -1])))
        z = q.sample(-(-cached // 64)).flatten(0, 1)[:cached]
    numbers = torch.zeros(cached, dtype=torch.int32, device=device)
    cache = FutureCache(
        z=z.clone(),
        x=torch.randn_like(z),
        log_det=torch.randn_like(z[:, 0]),
        log_rho=torch.randn_like(z[:, 0]),
        clips=numbers,
        frames=numbers,
        digest=UNTRAINED,
        figures={'typical_distance': 1.0},
    )
    return CacheFlowPredictor(trained, cache, config)


def wandering_people(shape: CacheFlowConfig, count: int) -> Windows:
    """Return people on random walks [m]."""
    random = np.random.default_rng(_SEED)
    still = random.normal(size=(count, 1, shape.joints, 3))
    return still + random.normal(0.0, 0.02, (count, shape.past, 1, 3)).cumsum(1)


class PlainTorch:
    """The predictor's results, computed literally by the formulas."""

    def __init__(self, predictor: CacheFlowPredictor) -> None:
        self._predictor, self._module = predictor, predictor.trained.module
        self._frame, self._cache = predictor.trained.frame, predictor.cache
        fast = self._module.vae.decoder
        inputs, hidden = fast.input.in_features, fast.hidden
        self._gru = nn.GRU(inputs, hidden, batch_first=True).requires_grad_(False)
        weights = {
            'weight_ih_l0': fast.input.weight,
            'bias_ih_l0': fast.input.bias,
            'weight_hh_l0': fast.state.weight,
            'bias_hh_l0': fast.state.bias,
        }
        self._gru.load_state_dict(weights)
        self._gru.to(fast.input.weight)
        self._neighbours = BruteForce(self._cache.z)

    @torch.inference_mode()
    def density(self, observed: Windows, count: int) -> Float[Tensor, 'batch cached']:
        """Return log p(x | c) of the first `count` cached futures [nat]."""
        q = self._module.observe(self._past(observed))
        z = self._cache.z[:count].expand(len(observed), -1, -1)
        return q.log_prob(z) + self._cache.log_det[:count]

    @torch.inference_mode()
    def draw(
        self, observed: Windows, generator: torch.Generator
    ) -> tuple[Float64[np.ndarray, 'batch future horizon joint xyz=3'], Float[Tensor, ' batch']]:
        """Return futures by eq. 13 [m], and the effective sample size."""
        config, cache = self._predictor.config, self._cache
        past = self._past(observed)
        q = self._module.observe(past)
        z_first = cache.z[: config.importance_samples].expand(len(observed), -1, -1)
        log_rho = cache.log_rho[: config.importance_samples]
        size = effective_sample_size(importance_weights(q.log_prob(z_first), log_rho))
        z = q.sample(config.futures, generator)
        _, nearest = self._neighbours.nearest(z.flatten(0, 1))
        index = nearest.unflatten(0, z.shape[:2])
        poses = self._decode(index, past)
        placement = self._frame.place(torch.from_numpy(observed[:, -1]).to(past))
        root = self._frame.root
        local = poses + poses[..., root : root + 1, :]
        local[..., root, :] = poses[..., root, :]
        rotation = placement.rotation.mT[:, None, None]
        places = local @ rotation + placement.origin[:, None, None, None]
        return places.double().cpu().numpy(), size

    def _past(self, observed: Windows) -> Float[Tensor, 'batch time posed xyz=3']:
        positions = torch.from_numpy(observed).to(self._cache.z)
        return self._frame.enter(positions, self._frame.place(positions[:, -1]))

    def _decode(
        self, index: Tensor, past: Float[Tensor, 'batch time posed xyz=3']
    ) -> Float[Tensor, 'batch future horizon posed xyz=3']:
        vae, cache = self._module.vae, self._cache
        people, count = index.shape
        last = past[:, -vae.seen :].flatten(2).repeat_interleave(count, dim=0)
        behaviour = self._module.factorisation.expand(cache.x[index].flatten(0, 1))
        constant = torch.cat([behaviour, vae.start(last.flatten(1))], dim=1)
        states, _ = self._gru(constant[:, None].repeat(1, vae.future, 1))
        poses = last[:, -1:] + vae.offset(states)
        return poses.unflatten(2, (-1, 3)).unflatten(0, (people, count))


def bench_density(predictor: CacheFlowPredictor) -> dict[str, Any]:
    """Return median times over many rounds [ms], and those of plain torch.

    Raises:
        ConfigError: The yardstick does not support this configuration.
    """
    config, shape = predictor.config, predictor.trained.module.config
    if config.rule != 'nearest':
        raise ConfigError(f"the yardstick supports rule 'nearest', not {config.rule!r}")
    disable_malloc_trim()  # as `Pipeline.load` does
    plain, observed = PlainTorch(predictor), wandering_people(shape, 1)
    count = min(_DENSITIES, len(predictor.cache))
    device = predictor.cache.z.device
    generator = torch.Generator().manual_seed(_SEED)
    calls: dict[str, tuple[Callable[[], object], int]] = {
        'density_10k_ms': (lambda: predictor.cached_log_density(observed, count), _ROUNDS),
        'samples_50_ms': (lambda: predictor.draw(observed), _ROUNDS),
        'yardstick_density_10k_ms': (lambda: plain.density(observed, count), _SLOW_ROUNDS),
        'yardstick_samples_50_ms': (lambda: plain.draw(observed, generator), _SLOW_ROUNDS),
        'observe_ms': (lambda: predictor.observe(observed), _ROUNDS),
    }
    medians = {
        name: np.median(rounds_ms(call, rounds, device), axis=0).tolist()
        for name, (call, rounds) in calls.items()
    }
    return {
        **{name: wall for name, (wall, _) in medians.items()},
        'processor': {name: processor for name, (_, processor) in medians.items()},
        'device': str(device),
        'threads': torch.get_num_threads(),
        'cached_futures': len(predictor.cache),
        'densities': count,
        'samples': config.futures,
        'frames': shape.future,
        'model': predictor.trained.name,
    }


def print_density(report: dict[str, Any], console: Console) -> None:
    """Print the times, and those of plain torch."""
    title = (
        f'{report["model"]}, {report["cached_futures"]} cached futures, {report["device"]}, '
        f'{report["threads"]} threads: median ms'
    )
    processor, rows = report['processor'], {}
    for name, key in (
        (f'density of {report["densities"]} futures', 'density_10k_ms'),
        (f'{report["samples"]} samples of {report["frames"]} frames', 'samples_50_ms'),
    ):
        slow = f'yardstick_{key}'
        rows[name] = {
            'here': report[key],
            'plain torch': report[slow],
            'processor': processor[key],
            'processor, plain torch': processor[slow],
        }
    print_table(rows, title, 'one observation to', console, form='.2f')
    console.print(f'of which encoding the observation takes {report["observe_ms"]:.2f}')
    console.print("processor: this thread's CPU time, independent of other load")
    if report['model'] == UNTRAINED:
        console.print('untrained model, synthetic cache: only the cost is meaningful')


def bench_cache(
    recipe: CacheFlowRecipe,
    device: torch.device,
    sizes: Sequence[int] = SIZES,
    futures: Sequence[int] = FUTURES,
) -> dict[str, Any]:
    """Time one observation by size of the cache, and by number of drawn futures [ms].

    The models are untrained.
    """
    disable_malloc_trim()  # as `Pipeline.load` does
    config = DensityConfig(device=str(device), futures=50, rule='nearest')

    def untrained(size: int) -> CacheFlowPredictor:
        return untrained_predictor(recipe.model, recipe.layout, size, config, device)

    middle = untrained(sorted(sizes)[len(sizes) // 2])
    return {
        'by_cached_futures': {str(size): _costs(untrained(size)) for size in sizes},
        'by_futures_drawn': {str(count): _drawn_ms(middle, count) for count in futures},
        'drawn_from': len(middle.cache),
        'device': machine(device),
        'on_gpu': device.type == 'cuda',
        'threads': torch.get_num_threads(),
    }


def _costs(predictor: CacheFlowPredictor) -> dict[str, dict[str, float]]:
    """Time all densities, samples, and the nearest of 50 draws by index and by brute force [ms].

    The last one is the yardstick.
    """
    observed, cache = wandering_people(predictor.trained.module.config, 1), predictor.cache
    _, q = predictor.observe(observed)
    points, brute = q.sample(50)[0], BruteForce(cache.z)
    calls: dict[str, Callable[[], object]] = {
        'density_of_all_ms': lambda: predictor.cached_log_density(observed, len(cache)),
        'samples_50_ms': lambda: predictor.draw(observed),
        'nearest_50_ms': lambda: cache.neighbours.nearest(points),
        'yardstick_nearest_50_ms': lambda: brute.nearest(points),
    }
    return {name: _spread_ms(call, cache.z.device) for name, call in calls.items()}


def _drawn_ms(predictor: CacheFlowPredictor, count: int) -> dict[str, float]:
    config = replace(predictor.config, futures=count)
    other = CacheFlowPredictor(predictor.trained, predictor.cache, config)
    observed = wandering_people(predictor.trained.module.config, 1)
    return _spread_ms(lambda: other.draw(observed), predictor.cache.z.device)


def _spread_ms(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    wall, processor = rounds_ms(call, _CACHE_ROUNDS, device).T
    return {**spread(wall), 'processor': float(np.median(processor))}


def print_cache(report: dict[str, Any], console: Console) -> None:
    """Print medians; on a CPU of this thread's CPU time, which other load does not affect."""
    kind = 'p50' if report['on_gpu'] else 'processor'
    title = f'one observation on {report["device"]}, {report["threads"]} threads: median ms'
    heads = ('density of all', '50 samples', 'nearest of 50', 'by brute force')
    rows = {}
    for size, costs in report['by_cached_futures'].items():
        spent = [cost[kind] for cost in costs.values()]
        rows[size] = dict(zip(heads, spent, strict=True)) | {'ratio': spent[3] / spent[2]}
    print_table(rows, title, 'cached futures', console, form='.2f')
    drawn = ', '.join(f'{count}: {e[kind]:.2f}' for count, e in report['by_futures_drawn'].items())
    console.print(f'ms by futures drawn from {report["drawn_from"]}: {drawn}')
