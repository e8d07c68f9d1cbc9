"""One of several training processes; spawned by tests, in float64."""

import csv
import dataclasses
import itertools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from walkers import RECIPE, walkers

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.training import loop, parallel
from motion_predictor_ros.training.motion_deq import MotionDEQLearner, MotionTask

# One process is solved before the other, and three of four pay the hinge: both must be shared out.
SCHEDULE = dataclasses.replace(RECIPE.schedule, steps=6, batch=4, validate_every=3)
EQUILIBRIUM = dataclasses.replace(
    RECIPE.equilibrium, solver_steps=12, hinge_share=0.75, hinge_limit=0.0
)
TASK = dataclasses.replace(RECIPE, schedule=SCHEDULE, equilibrium=EQUILIBRIUM)


class _Exact(MotionTask):
    """Learn in float64 from windows that are recorded in float32."""

    def __init__(self) -> None:
        super().__init__('tiny', TASK, walkers(), MotionDEQLearner(TASK, torch.device('cpu')))
        accumulate_gradients, predict = self.learner.accumulate_gradients, self.learner.predict

        def exact(past: Tensor, target: Tensor, *rest: Any) -> dict[str, float]:
            return accumulate_gradients(past.double(), target.double(), *rest)

        self.learner.accumulate_gradients = exact  # type: ignore[method-assign]
        self.learner.predict = lambda past: predict(past.double())  # type: ignore[method-assign]


def accumulate_gradients(rank: int, world: int, out: Path, alone: str = '') -> None:
    """Train as one of `world` processes.

    Args:
        alone: Name of a function of `parallel` that is replaced by its single-process form.
    """
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    if world > 1:
        os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
        out.mkdir(exist_ok=True)
        meeting = f'file://{out / "meeting"}'
        dist.init_process_group('gloo', init_method=meeting, rank=rank, world_size=world)
    if alone:
        setattr(parallel, alone, lambda own: own)
    if rank > 0:
        # The clock of the others runs wild.
        loop.time = SimpleNamespace(monotonic=itertools.count(step=10**6).__next__)
    loop.train(_Exact(), SCHEDULE, out, minutes=60.0)
    if world > 1:
        dist.destroy_process_group()


def learnt(out: Path) -> dict[str, Tensor]:
    """Return the weights at the end, and each column of losses.csv."""
    with (out / 'losses.csv').open() as file:
        rows = list(csv.DictReader(file))
    losses = {key: torch.tensor([float(row[key]) for row in rows]) for key in rows[0]}
    return {**load_checkpoint(out / 'last.safetensors', 'motion_deq').tensors, **losses}


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of any number, relative to the largest beside it."""
    assert one.keys() == other.keys()
    return max(
        float((one[key] - other[key]).abs().max() / one[key].abs().max().clamp_min(1e-6))
        for key in one
    )
