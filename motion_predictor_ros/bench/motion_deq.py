# SPDX-License-Identifier: Apache-2.0
"""Time MotionDEQ alone: warm and cold, by number of people and of solver iterations.

People are those of `bench_persons`; no futures are drawn. The yardstick in the same run is a
forward pass of four unshared EqMotion layers of the same size for as many people.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from rich.console import Console

from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.bench.pipeline import KINDS, TimedStream, check_crowd
from motion_predictor_ros.bench.timing import eqmotion_style_ms, machine, rounds_ms
from motion_predictor_ros.config import PipelineConfig, PredictionConfig
from motion_predictor_ros.evaluation.tables import print_table, spread
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq
from motion_predictor_ros.prediction.streaming import MotionDEQPredictor
from motion_predictor_ros.prediction.types import solver_steps
from motion_predictor_ros.skeleton.frame import Window

ITERATIONS = (1, 2, 4, 8)
_ROUNDS = 30
_UNREACHABLE = 1e-8
"""A tolerance that is not reached within the largest number of iterations."""


def bench_motion_deq(
    bag: Path, config: PipelineConfig, frames: int, counts: Sequence[int]
) -> dict[str, Any]:
    """Time predictions by number of people and of iterations [ms].

    Raises:
        BagError: The bag cannot be read, or no person is in it for long enough.
        ConfigError: As `check_crowd`.
        MotionPredictorError: The model cannot be used.
    """
    check_crowd(config, counts)
    density = replace(config.density, enabled='never')
    alone = replace(config, density=density, volume=replace(config.volume, enabled='never'))
    stream = TimedStream(alone, Crowd(bag))
    predictor = stream.pipeline.predictor
    return {
        'by_people': {str(count): _for_people(stream, count, frames) for count in counts},
        'model': predictor.model,
        'device': machine(predictor.device),
        'threads': torch.get_num_threads(),
        'frames': frames,
    }


def _for_people(stream: TimedStream, people: int, frames: int) -> dict[str, Any]:
    warm = stream.run(people, frames)['prediction']
    config, device = stream.pipeline.config.prediction, stream.pipeline.predictor.device
    trained = load_motion_deq(config.weights, device)
    cold = MotionDEQPredictor(trained, replace(config, warm_start=False))
    windows, steps = itertools.cycle(stream.windows), list[int]()

    def predict() -> None:
        steps.extend(solver_steps(cold.predict(next(windows))))

    spent_ms = rounds_ms(predict, len(stream.windows), device)[:, 0]
    by_iterations = {
        str(count): spread(_of_iterations(cold, config, count, stream.windows[-1]))
        for count in ITERATIONS
    }
    medians = [time['p50'] for time in by_iterations.values()]
    return {
        'warm_ms': warm,
        'cold_ms': spread(spent_ms),
        'steps': {'warm': float(np.median(stream.steps)), 'cold': float(np.median(steps))},
        'by_iterations_ms': by_iterations,
        'per_iteration_ms': float(np.polyfit(ITERATIONS, medians, 1)[0]),
        'eqmotion_style_forward_ms': eqmotion_style_ms(
            stream.windows[-1], trained.module.config, device
        ),
    }


def _of_iterations(
    cold: MotionDEQPredictor, config: PredictionConfig, count: int, windows: list[Window]
) -> Float64[np.ndarray, ' round']:
    """Time predictions that stop after this number of iterations [ms]."""
    before = cold.config
    cold.config = replace(
        config, warm_start=False, max_steps=count, tolerance=_UNREACHABLE, motion_tolerance_m=0.0
    )
    spent_ms = rounds_ms(lambda: cold.predict(windows), _ROUNDS, cold.device)[:, 0]
    cold.config = before
    return spent_ms


def print_motion_deq(report: dict[str, Any], console: Console) -> None:
    """Print one row per number of people."""
    title = f'{report["model"]} on {report["device"]}, {report["threads"]} threads: ms'
    rows = {}
    for people, times in report['by_people'].items():
        row = {
            f'{start} {kind}': times[f'{start}_ms'][kind]
            for start in ('warm', 'cold')
            for kind in KINDS
        }
        row |= {f'{count} it.': ms['p50'] for count, ms in times['by_iterations_ms'].items()}
        row['per it.'] = times['per_iteration_ms']
        row['layers'] = times['eqmotion_style_forward_ms']['p50']
        rows[people] = row
    print_table(rows, title, 'people', console, form='.2f')
    console.print('it.: number of iterations; layers: forward pass of four EqMotion layers')
    for people, times in report['by_people'].items():
        steps, yardstick_ms = times['steps'], times['eqmotion_style_forward_ms']['p50']
        console.print(
            f'{people} people: {steps["warm"]:.0f} iterations warm, {steps["cold"]:.0f} cold; '
            f'warm costs {times["warm_ms"]["p50"] / yardstick_ms:.2f} forward passes'
        )
