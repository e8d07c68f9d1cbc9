# SPDX-License-Identifier: Apache-2.0
"""Time CacheFlow by number of cached futures and by number of drawn futures.

Untrained models with synthetic caches, as in `bench/density.py`: the cost depends on the shape.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from motion_predictor_ros.bench.density import untrained_predictor, wandering_people
from motion_predictor_ros.bench.timing import machine, rounds_ms, spread
from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.density.cache_flow.neighbours import BruteForce
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.runtime.process_memory import disable_malloc_trim
from motion_predictor_ros.training.cache_flow_recipe import CacheFlowRecipe

SIZES = (1_000, 10_000, 100_000, 1_000_000)
FUTURES = (10, 50, 200, 1_000)
_ROUNDS = 30


def bench_cache(
    recipe: CacheFlowRecipe,
    device: torch.device,
    sizes: Sequence[int] = SIZES,
    futures: Sequence[int] = FUTURES,
) -> dict[str, Any]:
    """Time one observation by size of the cache, and by number of drawn futures [ms].

    Raises:
        ConfigError: A size is not positive.
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
    calls = {
        'density_of_all_ms': lambda: predictor.cached_log_density(observed, len(cache)),
        'samples_50_ms': lambda: predictor.draw(observed),
        'nearest_50_ms': lambda: cache.neighbours.nearest(points),
        'yardstick_nearest_50_ms': lambda: brute.nearest(points),
    }
    device = cache.z.device
    return {name: _time_ms(call, device) for name, call in calls.items()}


def _drawn_ms(predictor: CacheFlowPredictor, count: int) -> dict[str, float]:
    config = replace(predictor.config, futures=count)
    other = CacheFlowPredictor(predictor.trained, predictor.cache, config)
    observed = wandering_people(predictor.trained.module.config, 1)
    return _time_ms(lambda: other.draw(observed), predictor.cache.z.device)


def _time_ms(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Return the spread of the wall time, and the median of this thread's CPU time [ms]."""
    processor: list[float] = []

    def timed() -> None:
        begin = time.thread_time()
        call()
        processor.append(1e3 * (time.thread_time() - begin))

    wall = spread(rounds_ms(timed, _ROUNDS, device))
    return {**wall, 'processor': float(np.median(processor))}


def print_cache(report: dict[str, Any], console: Console) -> None:
    """Print two tables; on a CPU of this thread's CPU time, which other load does not affect."""
    kind = 'p50' if report['on_gpu'] else 'processor'
    title = f'one observation on {report["device"]}, {report["threads"]} threads: median ms'
    table = Table(title=title, title_justify='left')
    heads = ('density of all', '50 samples', 'nearest of 50', 'by brute force', 'ratio')
    for head in ('cached futures', *heads):
        table.add_column(head, justify='right')
    for size, costs in report['by_cached_futures'].items():
        *spent, tree, brute = (cost[kind] for cost in costs.values())
        cells = (f'{ms:.2f}' for ms in (*spent, tree, brute, brute / tree))
        table.add_row(size, *cells)
    console.print(table)
    drawn = ', '.join(f'{count}: {e[kind]:.2f}' for count, e in report['by_futures_drawn'].items())
    console.print(f'ms by futures drawn from {report["drawn_from"]}: {drawn}')
