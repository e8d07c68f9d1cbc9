# SPDX-License-Identifier: Apache-2.0
"""The training loop: seeded, resumable, and independent of the model.

`last.safetensors` holds everything a run needs to go on (weights, state of the optimiser, step),
`best.safetensors` the weights with the lowest validation score, `losses.csv` every validation.

Muon takes the nearest orthogonal matrix of the momentum as its step. Weights are averaged along a
training, and between its start and its end:
    w_bar <- d w_bar + (1 - d) w,   d = min(decay, (1 + step) / (10 + step))    [Polyak 1992]
    w     =  s w_start + (1 - s) w_end                                          [WiSE-FT]
The smaller d of the first steps keeps the random initial weights out of the average.

References:
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

import csv
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.training.recipe import ScheduleConfig

_ADAM = ('step', 'exp_avg', 'exp_avg_sq')


class Optimiser:
    """An optimiser of parts with different rates, which keep their ratio."""

    def __init__(self, module: nn.Module, schedule: ScheduleConfig) -> None:
        self._names: dict[Tensor, str] = {
            p: name for name, p in module.named_parameters() if p.requires_grad
        }
        matrices = _matrices(module) if schedule.muon_rate > 0.0 else []
        taken = set(matrices)
        others = [parameter for parameter in self._names if parameter not in taken]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if others:
            self._parts.append((torch.optim.Adam(others), schedule.learning_rate))
        if matrices:
            muon = torch.optim.Muon(matrices, momentum=0.95, weight_decay=schedule.muon_decay)
            self._parts.append((muon, schedule.muon_rate))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part, _ in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self, share: float) -> None:
        """Move the parameters at this share of the peak rates."""
        for part, rate in self._parts:
            for group in part.param_groups:
                group['lr'] = share * rate
            part.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, by names of parameters."""
        return {
            f'optimiser.{key}.{self._names[parameter]}': value
            for part, _ in self._parts
            for parameter, state in part.state.items()
            for key, value in state.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of `tensors`.

        Raises:
            KeyError: The state is that of another optimiser or module.
        """
        for part, _ in self._parts:
            keys = ('momentum_buffer',) if isinstance(part, torch.optim.Muon) else _ADAM
            for parameter in _parameters(part):
                name = self._names[parameter]
                state = {key: tensors[f'optimiser.{key}.{name}'] for key in keys}
                # Adam counts its steps on the CPU.
                part.state[parameter] = {
                    key: value if key == 'step' else value.to(parameter.device)
                    for key, value in state.items()
                }


def _parameters(part: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    return (parameter for group in part.param_groups for parameter in group['params'])


def _matrices(module: nn.Module) -> list[Tensor]:
    """List the matrices that map one width to another; not columns, vectors per joint, decoders.

    A decoder (`out`) is in metres: its scale matters, and Muon ignores scales.
    """
    return [
        part.weight
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and name != 'out' and min(part.weight.shape) > 4
        if part.weight.requires_grad
    ]


class WeightAverage:
    """The averaged parameters of a module; decay 0 means the parameters themselves."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = dict(module.named_parameters()) if decay > 0.0 else {}
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after optimiser step `step`, counted from 0."""
        decay = min(self._decay, (1.0 + step) / (10.0 + step))
        for name, parameter in self._parameters.items():
            self._averages[name].lerp_(parameter, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in place of the parameters for the length of a `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            kept = parameter.clone()
            parameter.copy_(self._averages[name])
            self._averages[name].copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, under names that differ from those of weights."""
        return {f'average.{name}': value for name, value in self._averages.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of `tensors`.

        Raises:
            KeyError: The run was made without averaging.
        """
        for name, average in self._averages.items():
            average.copy_(tensors[f'average.{name}'])


def mix_with_start(end: Path, start: Path, share: float, kind: str) -> None:
    """Replace the weights of checkpoint `end` by s w_start + (1 - s) w_end.

    Weights that the start does not have count as zero there. A checkpoint is mixed once: if its
    header says that it was, nothing changes.

    Raises:
        CheckpointError: One of them cannot be read, or is of another kind.
    """
    first, last = load_checkpoint(start, kind), load_checkpoint(end, kind)
    if share == 0.0 or 'start_share' in last.header:
        return
    mixed = {
        name: torch.lerp(weight, first.tensors.get(name, torch.zeros_like(weight)), share)
        for name, weight in last.tensors.items()
    }
    save_checkpoint(end, {**last.header, 'start_share': share}, mixed)


@runtime_checkable
class Task(Protocol):
    """A training task: a module, its batches and its validation."""

    kind: str

    @property
    def module(self) -> nn.Module:
        """The trained module."""

    def step(self, index: int) -> dict[str, float]:
        """Accumulate the gradients of step `index` and return its losses."""

    def validate(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return figures, of which 'score' decides (less is better), and tensors to keep."""

    def header(self) -> dict[str, Any]:
        """Return the header that rebuilds the module from its weights."""


def rate_share(schedule: ScheduleConfig, index: int) -> float:
    """Linear warm-up; then a half cosine to 1/100 of the peak, or the peak itself."""
    if index < schedule.warmup_steps:
        return (index + 1) / schedule.warmup_steps
    since, whole = index - schedule.warmup_steps, max(1, schedule.steps - schedule.warmup_steps)
    if schedule.decay == 'constant':
        return 1.0
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * since / whole))


def train(
    task: Task,
    schedule: ScheduleConfig,
    out: Path,
    *,
    minutes: float | None = None,
    resume: bool = False,
) -> Path:
    """Train until the schedule ends or the minutes are over; return the best checkpoint's path.

    Stopping early leaves a run that `resume` continues exactly where it stopped.
    """
    run = _Run(task, schedule, out)
    if resume and (out / 'last.safetensors').is_file():
        run.restore(out / 'last.safetensors')
    deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
    recent: dict[str, float] = {}
    with tqdm(
        initial=run.done, total=schedule.steps, unit='step', dynamic_ncols=True, disable=None
    ) as bar:
        while run.done < schedule.steps:
            losses = run.step()
            recent = {key: 0.98 * recent.get(key, v) + 0.02 * v for key, v in losses.items()}
            bar.update()
            bar.set_postfix({key: f'{value:.4f}' for key, value in recent.items()}, refresh=False)
            over = run.done == schedule.steps or time.monotonic() > deadline
            if over or run.done % schedule.validate_every == 0:
                run.record(recent)
            if over:
                break
    return out / 'best.safetensors'


class _Run:
    """A training, and how far it has come.

    Attributes:
        done: Steps done.
    """

    def __init__(self, task: Task, schedule: ScheduleConfig, out: Path) -> None:
        self._task, self._schedule, self._out = task, schedule, out
        self._optimiser = Optimiser(task.module, schedule)
        self._average = WeightAverage(task.module, schedule.averaging)
        self.done, self._best = 0, math.inf

    def step(self) -> dict[str, float]:
        """Take one step; return its losses. Gradients that are not finite are left out."""
        self._optimiser.zero_grad()
        losses = self._task.step(self.done)
        parameters = self._task.module.parameters()
        norm = nn.utils.clip_grad_norm_(parameters, self._schedule.clip_norm)
        if torch.isfinite(norm):
            self._optimiser.step(rate_share(self._schedule, self.done))
        self._average.update(self.done)
        self.done += 1
        return {**losses, 'skipped': float(not torch.isfinite(norm))}

    def record(self, recent: Mapping[str, float]) -> None:
        """Validate, append to the CSV, and save.

        Args:
            recent: Moving averages of the losses.
        """
        task = self._task
        trained = {name: value.clone() for name, value in task.module.state_dict().items()}
        with self._average.applied():
            figures, extra = task.validate()
            weights = {name: value.clone() for name, value in task.module.state_dict().items()}
        row = {'step': self.done, **{f'train_{k}': v for k, v in recent.items()}, **figures}
        _append(self._out / 'losses.csv', row)
        header = {'kind': task.kind, **task.header()}
        header['training'] = {**header['training'], **row}
        if figures['score'] < self._best or self._schedule.keep == 'last':
            self._best = min(self._best, figures['score'])
            save_checkpoint(self._out / 'best.safetensors', header, {**weights, **extra})
        state = {**trained, **extra, **self._optimiser.tensors(), **self._average.tensors()}
        progress = {'best': self._best, 'done': self.done}
        save_checkpoint(self._out / 'last.safetensors', {**header, **progress}, state)
        tqdm.write(f'step {self.done}: ' + ', '.join(f'{k} {v:.4g}' for k, v in figures.items()))

    def restore(self, path: Path) -> None:
        """Continue from `path`.

        Raises:
            CheckpointError: The run was made with another model.
        """
        checkpoint, task = load_checkpoint(path, self._task.kind), self._task
        own_config = task.header()['config']
        if {**own_config, **checkpoint.header['config']} != own_config:
            raise CheckpointError(f'{path} was trained with another recipe; choose another --out')
        expected = task.module.state_dict()
        task.module.load_state_dict({name: checkpoint.tensors[name] for name in expected})
        try:
            self._optimiser.restore(checkpoint.tensors)
            self._average.restore(checkpoint.tensors)
        except KeyError as error:
            raise CheckpointError(
                f'{path} has no {error}; it was trained with another optimiser: choose another '
                '--out'
            ) from error
        self.done, self._best = int(checkpoint.header['done']), float(checkpoint.header['best'])


def _append(path: Path, row: Mapping[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.is_file()
    with path.open('a', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)
