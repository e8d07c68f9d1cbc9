# SPDX-License-Identifier: Apache-2.0
"""Run the three trainings of CacheFlow one after the other; each resumes."""

import time
from pathlib import Path

import torch

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.training.cache_flow import BehaviourTask, DecoderTask, FlowTask
from motion_predictor_ros.training.cache_flow_recipe import CacheFlowRecipe
from motion_predictor_ros.training.future_data import FutureData
from motion_predictor_ros.training.loop import Task, train
from motion_predictor_ros.training.recipe import ScheduleConfig


def train_cache_flow(
    name: str,
    recipe: CacheFlowRecipe,
    recordings: Recordings,
    out: Path,
    device: torch.device,
    *,
    minutes: float | None = None,
    resume: bool = False,
) -> Path:
    """Train all three parts, into `out/behaviour`, `out/decoder` and `out`.

    Returns:
        The best checkpoint of the last part that was reached.
    """
    data = FutureData(recipe, recordings, device)
    deadline = None if minutes is None else time.monotonic() + 60.0 * minutes

    def run(task: Task, schedule: ScheduleConfig, folder: Path) -> tuple[Path, bool]:
        left = None if deadline is None else max(0.0, (deadline - time.monotonic()) / 60.0)
        last = folder / 'last.safetensors'
        best = train(task, schedule, folder, minutes=left, resume=resume)
        return best, load_checkpoint(last, task.kind).header['done'] >= schedule.steps

    behaviour, whole = run(BehaviourTask(name, recipe, data), recipe.behaviour, out / 'behaviour')
    if not whole:
        return behaviour
    decoder, whole = run(
        DecoderTask(name, recipe, data, behaviour), recipe.decoder, out / 'decoder'
    )
    if not whole:
        return decoder
    return run(FlowTask(name, recipe, data, decoder), recipe.flow, out)[0]
