# SPDX-License-Identifier: Apache-2.0
"""Measure the peak memory of a training step, by method.

The peak bounds the batch size. It is the largest sum of all tensors alive at one time, gradients
and intermediates included; parameters and inputs are not. It is the same on every machine.
"""

import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from motion_predictor_ros.evaluation.tables import METHODS, print_table
from motion_predictor_ros.training.baselines.unrolled import UNROLLED, UnrolledLearner
from motion_predictor_ros.training.motion_deq import Learner, MotionDEQLearner
from motion_predictor_ros.training.recipe import MotionDEQRecipe

_MOTION_DEQ = MotionDEQLearner.kind
_KEPT = f'{_MOTION_DEQ}_kept'
_NAMES = {
    **METHODS,
    _MOTION_DEQ: 'MotionDEQ, layers recomputed',
    _KEPT: 'MotionDEQ, graphs kept',
    'eqmotion_style': 'EqMotion style, 4 layers',
    'esl8': 'one cell, 8 stages',
}


class LiveBytes(TorchDispatchMode):
    """While active, count the memory of all tensors that operators return.

    A storage counts from the operator that made it until the last tensor on it is gone, however
    many views it has. What autograd and `torch.utils.checkpoint` keep or build again counts too.

    Attributes:
        alive: Bytes alive now.
        peak: Largest number of bytes alive at one time.
    """

    def __init__(self) -> None:
        initialise: Callable[[], None] = super().__init__  # untyped in torch
        initialise()
        self.alive = self.peak = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator, and count its results."""
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._add(result.untyped_storage())
        return results

    def _add(self, storage: UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return
        self._storages.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.alive -= size


def bench_memory(recipe: MotionDEQRecipe, batch: int, device: torch.device) -> dict[str, Any]:
    """Return the cost of each method's training step on random people, and ratios to MotionDEQ.

    MotionDEQ's figure is with `recompute`; `motion_deq_kept` is without it.
    `parts` has the bytes that the graphs of MotionDEQ's parts keep alive.
    """
    recipe = replace(recipe, schedule=replace(recipe.schedule, batch=batch))
    past, target = _random_people(recipe, device)
    costs = {}
    for name, recompute in ((_MOTION_DEQ, True), (_KEPT, False)):
        equilibrium = replace(recipe.equilibrium, recompute=recompute)
        learner = MotionDEQLearner(replace(recipe, equilibrium=equilibrium), device)
        costs[name] = _cost(learner, past, target)
    for kind in UNROLLED:
        costs[kind] = _cost(UnrolledLearner(kind, recipe, device), past, target)
    report: dict[str, Any] = {
        key: {name: cost[key] for name, cost in costs.items()} for key in costs[_MOTION_DEQ]
    }
    peaks = report['peak_bytes']
    report['ratio'] = {
        name: peak / peaks[_MOTION_DEQ] for name, peak in peaks.items() if name != _MOTION_DEQ
    }
    report['parts'] = _parts(recipe, past)
    report |= {'batch': batch, 'device': str(device), 'threads': torch.get_num_threads()}
    return report


def _random_people(recipe: MotionDEQRecipe, device: torch.device) -> tuple[Tensor, Tensor]:
    model, generator = recipe.model, torch.Generator().manual_seed(recipe.schedule.seed)
    frames = (model.past + model.future, model.joints, 3)
    steps = 0.02 * torch.randn(recipe.schedule.batch, *frames, generator=generator)
    past, target = steps.cumsum(1).to(device).split([model.past, model.future], dim=1)
    return past, target


def _cost(learner: Learner[Any], past: Tensor, target: Tensor) -> dict[str, Any]:
    """Step once to count and warm up, then once to time without counting.

    Returns:
        `peak_bytes`: largest sum of tensors alive at one time; `step_s`: wall time [s];
        `parameters`; `cuda_bytes`: `torch.cuda.max_memory_allocated`, None on a CPU.
    """
    module = learner.module
    with LiveBytes() as count:
        learner.accumulate_gradients(past, target, None, torch.Generator().manual_seed(0), 0)
    module.zero_grad(set_to_none=True)
    on_cuda = past.device.type == 'cuda'
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(past.device)
    start = time.perf_counter()
    learner.accumulate_gradients(past, target, None, torch.Generator().manual_seed(0), 0)
    if on_cuda:
        torch.cuda.synchronize(past.device)
    return {
        'peak_bytes': count.peak,
        'step_s': time.perf_counter() - start,
        'parameters': sum(parameter.numel() for parameter in module.parameters()),
        'cuda_bytes': torch.cuda.max_memory_allocated(past.device) if on_cuda else None,
    }


def _parts(recipe: MotionDEQRecipe, past: Tensor) -> dict[str, int]:
    """Return the bytes that the graphs of the features and of one evaluation of f keep alive."""
    module = MotionDEQLearner(recipe, past.device).module
    with torch.no_grad():
        state = module.lift(past)
    with LiveBytes() as features:
        condition = module.encode(past)
    with LiveBytes() as cell:
        image = module.cell(state, condition)
    report = {'features': features.alive, 'cell': cell.alive}
    del condition, image
    return report


def print_memory(report: dict[str, Any], console: Console) -> None:
    """Print one line per method."""
    title = f'one training step, batch {report["batch"]}, {report["device"]}: tensors alive'
    rows = {
        _NAMES[name]: {
            'peak [MB]': f'{peak / 1e6:.0f}',
            'ratio': report['ratio'].get(name, 1.0),
            'step [s]': report['step_s'][name],
            'weights': report['parameters'][name],
        }
        for name, peak in report['peak_bytes'].items()
    }
    print_table(rows, title, '', console, form='.2f')
