# SPDX-License-Identifier: Apache-2.0
"""Time the density room by number of cached futures and by number of futures drawn.

Untrained models over made-up caches, as in `bench_density.py`: the cost is that of the shape.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from motion_predictor_ros.bench.density import people_who_wander, untrained_predictor
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
    """Return times of one observation by size of the cache, and by futures drawn [ms].

    Raises:
        ConfigError: A size is not positive.
    """
    disable_malloc_trim()  # as `Pipeline.load` does
    config = DensityConfig(device=str(device), futures=50, rule='nearest', root='decoded')

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
    """Return densities of all futures, samples, and the nearest of 50 draws in boxes and by force.

    The last one is the yardstick.
    """
    observed, cache = people_who_wander(predictor.trained.module.config, 1), predictor.cache
    _, q = predictor.observe(observed)
    points, brute = q.sample(50)[0], BruteForce(cache.z)
    answers = {
        'density_of_all_ms': lambda: predictor.cached_log_density(observed, len(cache)),
        'samples_50_ms': lambda: predictor.draw(observed),
        'nearest_50_ms': lambda: cache.neighbours.nearest(points),
        'yardstick_nearest_50_ms': lambda: brute.nearest(points),
    }
    device = cache.z.device
    return {name: _spent(each, device) for name, each in answers.items()}


def _drawn_ms(predictor: CacheFlowPredictor, count: int) -> dict[str, float]:
    config = replace(predictor.config, futures=count)
    other = CacheFlowPredictor(predictor.trained, predictor.cache, config)
    observed = people_who_wander(predictor.trained.module.config, 1)
    return _spent(lambda: other.draw(observed), predictor.cache.z.device)


def _spent(answer: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Return the spread of what passed, and the median of this thread's own time [ms]."""
    own: list[float] = []

    def timed() -> None:
        begin = time.thread_time()
        answer()
        own.append(1e3 * (time.thread_time() - begin))

    passed = spread(rounds_ms(timed, _ROUNDS, device))
    return {**passed, 'processor': float(np.median(own))}


def print_cache(report: dict[str, Any], console: Console) -> None:
    """Print two tables; on a CPU what this thread took itself, whatever else the machine did."""
    kind = 'p50' if report['on_gpu'] else 'processor'
    title = f'one observation on {report["device"]}, {report["threads"]} threads: median ms'
    table = Table(title=title, title_justify='left')
    heads = ('density of all', '50 samples', 'nearest of 50', 'by brute force', 'ratio')
    for head in ('cached futures', *heads):
        table.add_column(head, justify='right')
    for size, costs in report['by_cached_futures'].items():
        *spent, tree, brute = (each[kind] for each in costs.values())
        cells = (f'{each:.2f}' for each in (*spent, tree, brute, brute / tree))
        table.add_row(size, *cells)
    console.print(table)
    drawn = ', '.join(f'{count}: {e[kind]:.2f}' for count, e in report['by_futures_drawn'].items())
    console.print(f'futures drawn from {report["drawn_from"]}: ms by how many  {drawn}')
