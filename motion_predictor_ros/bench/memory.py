# SPDX-License-Identifier: Apache-2.0
"""Count the bytes that a training step keeps for its backward pass, by method.

The bytes that autograd saves bound the batch size, and are the same on every machine. What counts
is the peak: the largest sum held at one time, since MotionDEQ builds its graphs one after the
    other
and releases each. Parameters, buffers and inputs do not count.
"""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.evaluation.report.tables import METHODS
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


class SavedBytes:
    """While active, count the storages that autograd holds for backward.

    Every saved tensor travels in a `_Held`, which lives exactly as long as autograd keeps it. It
    also keeps its tensor alive, so no two storages that count at one time share an address.

    alive: Bytes held now.
    peak: Largest number of bytes held at one time.
    total: Bytes ever held.
    """

    def __init__(self, ignored: Iterable[Tensor] = ()) -> None:
        self.alive = self.peak = self.total = 0
        self._ignored = {_address(tensor) for tensor in ignored}
        self._holders: dict[int, int] = {}
        self._hooks = saved_tensors_hooks(
            lambda tensor: _Held(tensor, self), lambda held: held.tensor
        )

    def __enter__(self) -> 'SavedBytes':
        self._hooks.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._hooks.__exit__(*reason)

    def take(self, tensor: Tensor) -> None:
        """Count the tensor's storage, once however many tensors share it."""
        address = _address(tensor)
        if address in self._ignored:
            return
        holders = self._holders.get(address, 0)
        self._holders[address] = holders + 1
        if holders == 0:
            size = tensor.untyped_storage().nbytes()
            self.alive += size
            self.total += size
            self.peak = max(self.peak, self.alive)

    def release(self, tensor: Tensor) -> None:
        """Undo `take`."""
        address = _address(tensor)
        if address in self._ignored:
            return
        self._holders[address] -= 1
        if self._holders[address] == 0:
            del self._holders[address]
            self.alive -= tensor.untyped_storage().nbytes()


class _Held:
    """One saved tensor, held from saving to release by autograd."""

    def __init__(self, tensor: Tensor, count: SavedBytes) -> None:
        # A result that kept its own graph would keep it alive for ever.
        self.tensor = tensor.detach()
        self._count = count
        count.take(self.tensor)

    def __del__(self) -> None:
        self._count.release(self.tensor)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@dataclass(frozen=True)
class StepCost:
    """Cost of one training step of one method.

    Attributes:
        saved_bytes: Peak held for backward.
        saved_total_bytes: Sum of all that was saved during the step.
        step_s: Wall time without counting [s].
        cuda_bytes: `torch.cuda.max_memory_allocated` in a step without counting; None on a CPU.
    """

    saved_bytes: int
    saved_total_bytes: int
    step_s: float
    parameters: int
    cuda_bytes: int | None


def bench_memory(recipe: MotionDEQRecipe, batch: int, device: torch.device) -> dict[str, Any]:
    """Return the cost of each method's training step on random people, and ratios to MotionDEQ.

    MotionDEQ's figure is with `recompute`; `motion_deq_kept` is without it.
    `parts` has the bytes held by the graphs of MotionDEQ's parts.

    Raises:
        ConfigError: The batch is empty.
    """
    if batch < 1:
        raise ConfigError(f'a batch needs at least one person, got {batch}')
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
        key: {name: asdict(cost)[key] for name, cost in costs.items()}
        for key in asdict(costs[_MOTION_DEQ])
    }
    reference = costs[_MOTION_DEQ].saved_bytes
    report['ratio'] = {
        name: costs[name].saved_bytes / reference for name in costs if name != _MOTION_DEQ
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


def _cost(learner: Learner, past: Tensor, target: Tensor) -> StepCost:
    """Step once to count and warm up, then once to time without counting."""
    module = learner.module
    with SavedBytes([*module.parameters(), *module.buffers(), past, target]) as count:
        learner.accumulate_gradients(past, target, None, torch.Generator().manual_seed(0), 0)
    assert count.alive == 0, 'a graph outlived its step'
    module.zero_grad(set_to_none=True)
    on_cuda = past.device.type == 'cuda'
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(past.device)
    start = time.perf_counter()
    learner.accumulate_gradients(past, target, None, torch.Generator().manual_seed(0), 0)
    if on_cuda:
        torch.cuda.synchronize(past.device)
    return StepCost(
        saved_bytes=count.peak,
        saved_total_bytes=count.total,
        step_s=time.perf_counter() - start,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        cuda_bytes=torch.cuda.max_memory_allocated(past.device) if on_cuda else None,
    )


def _parts(recipe: MotionDEQRecipe, past: Tensor) -> dict[str, int]:
    """Return the bytes held by the graph of the features and by one evaluation of f."""
    module = MotionDEQLearner(recipe, past.device).module
    ignored = [*module.parameters(), *module.buffers(), past]
    with SavedBytes(ignored) as features:
        condition = module.encode(past)
    with torch.no_grad():
        state = module.lift(past)
    feature_bytes = features.alive
    with SavedBytes(ignored) as cell:
        image = module.cell(state, condition)
    report = {'features': feature_bytes, 'cell': cell.alive}
    del condition, image
    return report


def print_memory(report: dict[str, Any], console: Console) -> None:
    """Print one line per method."""
    title = f'one training step, batch {report["batch"]}, {report["device"]}: bytes for backward'
    table = Table(title=title, title_justify='left')
    for head in ('', r'peak \[MB]', 'ratio', r'all \[MB]', r'step \[s]', 'weights'):
        table.add_column(head, justify='right' if head else 'left')
    for name, peak in report['saved_bytes'].items():
        table.add_row(
            _NAMES[name],
            f'{peak / 1e6:.0f}',
            f'{report["ratio"].get(name, 1.0):.2f}',
            f'{report["saved_total_bytes"][name] / 1e6:.0f}',
            f'{report["step_s"][name]:.2f}',
            f'{report["parameters"][name]}',
        )
    console.print(table)
