# SPDX-License-Identifier: Apache-2.0
"""The effect of a warm start on the solver, on streams of held-out people.

Each clip is one stream: a prediction per model frame, each from cold (F_DL), warm (the last fixed
point as it is) and, if the model has one, warm through the correction adapter. All are solved far
further than on a robot, and the error after each evaluation of f is recorded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from rich.console import Console
from torch import Tensor
from tqdm import tqdm

from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.tables import by_group, print_table
from motion_predictor_ros.prediction.motion_deq.cell import Condition, State
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.correction import Innovation
from motion_predictor_ros.prediction.motion_deq.features import Features
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.prediction.motion_deq.solver import FixedPoint, SolverSettings
from motion_predictor_ros.scoring.metrics import Horizons, report_frames

ROUNDS = 25
"""Predictions per stream: one second of them."""

CLOSE_M = 1e-3
BUDGETS = (1, 2, 3)
_EXACT = SolverSettings(max_steps=30, tolerance=1e-6)
_RESIDUAL = 1e-3

_OF_GROUPS = ('iterations_to_residual', 'iterations_to_1mm', 'mpjpe_mm', 'mpjpe_mm_converged')
"""Figures that are reported by kind of motion and by subject too."""


Columns = tuple[
    Float64[np.ndarray, 'case step horizon'],
    Float64[np.ndarray, ' case'],
    Float64[np.ndarray, 'case evaluation'],
]
"""By prediction: errors [m], mean over joints, after each evaluation of f (0: the start);
evaluations until the relative residual was below 1e-3; residual of each evaluation."""


@torch.inference_mode()
def evaluate_streaming(recordings: Recordings, trained: TrainedMotionDEQ) -> dict[str, Any]:
    """Return iterations and errors, cold and warm, over all streams and by how much people move.

    In `by_iteration`, errors begin with those of the start, residuals (medians) with the first
    evaluation of f.

    Raises:
        DataError: The recordings have other joints than the model, or no clip is long enough.
    """
    recordings.check_joints(trained.joint_names)
    model = trained.module
    series = streams(recordings, model.config).to(next(model.parameters()).device)
    rows: dict[str, list[Columns]] = {}
    previous: _Round | None = None
    for index in tqdm(range(ROUNDS), unit='round', leave=False, disable=None):
        windows = series[:, index : index + model.config.past + model.config.future]
        previous = _round(model, windows, previous, rows)
    results: dict[str, Columns] = {}
    for name, columns in rows.items():
        errors, steps, residuals = (np.concatenate(part) for part in zip(*columns, strict=True))
        results[name] = errors, steps, residuals
    horizons_s = model.config.period_s * np.arange(1, model.config.future + 1)
    report = _report(results, horizons_s, slice(None))
    steps = series[:, model.config.past :].diff(dim=1).norm(dim=-1)
    groups = _by_motion(steps.sum(1).mean(1).double().cpu().numpy())
    report |= {
        name: _report(results, horizons_s, np.tile(rows, ROUNDS - 1))
        for name, rows in groups.items()
    }
    report |= by_group(
        stream_clips(recordings, model.config) * (ROUNDS - 1),
        lambda chosen: {
            key: figures
            for key, figures in _report(results, horizons_s, chosen).items()
            if key in _OF_GROUPS
        },
    )
    report['streams'], report['predictions'] = len(series), len(series) * (ROUNDS - 1)
    return report


@dataclass(frozen=True)
class _Round:
    features: Features
    state: State
    future: Float[Tensor, 'batch horizon joint xyz=3']


def streams(
    recordings: Recordings, config: MotionDEQConfig
) -> Float[Tensor, 'batch time joint xyz=3']:
    """Cut the beginning of each clip that is long enough, on the model clock [m].

    Raises:
        DataError: No clip is.
    """
    stride, span = _span(recordings, config)
    clips = stream_clips(recordings, config)
    if not clips:
        raise DataError(f'no clip is as long as a stream of {span / recordings.fps:.1f} s')
    return torch.from_numpy(
        np.stack([recordings.positions[c.start : c.start + span : stride] for c in clips])
    )


def stream_clips(recordings: Recordings, config: MotionDEQConfig) -> tuple[Clip, ...]:
    """Return the clips that are long enough for a stream, in the order of `streams`."""
    _, span = _span(recordings, config)
    return tuple(clip for clip in recordings.clips if clip.length >= span)


def _span(recordings: Recordings, config: MotionDEQConfig) -> tuple[int, int]:
    """Return frames of the recording per frame of the model, and per stream."""
    stride = round(config.period_s * recordings.fps)
    return stride, stride * (config.past + config.future + ROUNDS - 2) + 1


def _round(
    model: MotionDEQ,
    windows: Float[Tensor, 'batch time joint xyz=3'],
    previous: _Round | None,
    rows: dict[str, list[Columns]],
) -> _Round:
    observed, truth = windows[:, : model.config.past], windows[:, model.config.past :]
    features = model.observe(observed)
    condition = model.condition(features)
    cold = model.lift(observed)
    if previous is None:
        solution = model.solve(condition, cold, _EXACT)
    else:
        for name, start in _starts(model, cold, features, observed, previous).items():
            solution = model.solve(condition, start, _EXACT, keep_trajectory=True)
            columns = _columns(model, condition, start, solution, truth - observed[:, -1:])
            rows.setdefault(name, []).append(columns)
    state = model.unpack(solution.state, condition)
    return _Round(features, state, model.decode(state, observed[:, -1]))


def _starts(
    model: MotionDEQ,
    cold: State,
    features: Features,
    observed: Float[Tensor, 'batch time joint xyz=3'],
    previous: _Round,
) -> dict[str, State]:
    starts = {'cold': cold, 'warm': previous.state}
    if model.correction is not None:
        deviation = observed[:, -1] - previous.future[:, 0]
        elapsed = torch.ones_like(deviation[:, 0, 0])
        innovation = Innovation(previous.features, features, deviation, elapsed)
        starts['warm_eca'] = model.correction(previous.state, innovation)
    return starts


def _columns(
    model: MotionDEQ,
    condition: Condition,
    start: State,
    solution: FixedPoint,
    truth: Float[Tensor, 'batch horizon joint xyz=3'],
) -> Columns:
    """Return the error after each evaluation of f; a solved person keeps theirs."""
    states = [start, *(model.unpack(image, condition) for image in solution.images)]
    motions = [model.offsets(state) for state in states]
    errors = [(motion - truth).norm(dim=-1).mean(-1) for motion in motions]
    errors += [errors[-1]] * (_EXACT.max_steps + 1 - len(errors))
    pairs = zip(solution.images, solution.trajectory, strict=True)
    residuals = torch.stack([(f - z).norm(dim=1) / f.norm(dim=1) for f, z in pairs], dim=1)
    below = residuals < _RESIDUAL
    first = torch.where(below.any(1), below.double().argmax(1) + 1, _EXACT.max_steps)
    rest = residuals[:, -1:].expand(-1, _EXACT.max_steps - residuals.shape[1])
    columns = torch.stack(errors, dim=1), first, torch.cat([residuals, rest], dim=1)
    by_step, steps, by_evaluation = (column.double().cpu().numpy() for column in columns)
    return by_step, steps, by_evaluation


def _by_motion(moved: Float64[np.ndarray, ' batch']) -> dict[str, Bool[np.ndarray, ' batch']]:
    """Halve the streams by how far joints move [m], mean over joints; a single one is whole."""
    large = np.argsort(np.argsort(moved)) >= len(moved) // 2
    return {} if len(moved) < 2 else {'large_motion': large, 'small_motion': ~large}


def _report(
    results: dict[str, Columns], horizons_s: Horizons, cases: slice | Bool[np.ndarray, ' case']
) -> dict[str, Any]:
    frames = report_frames(horizons_s)
    report: dict[str, Any] = {
        key: {} for key in ('iterations_to_residual', 'iterations_to_1mm', 'mpjpe_mm')
    }
    for name, (all_errors, steps, residuals) in results.items():
        errors = all_errors[cases].mean(0)
        report['iterations_to_residual'][name] = float(steps[cases].mean())
        report['iterations_to_1mm'][name] = _first_close(errors.mean(1))
        report['mpjpe_mm'][name] = _at(errors[BUDGETS[0]], frames)
        for budget in BUDGETS[1:]:
            after = report.setdefault(f'mpjpe_mm_after_{budget}', {})
            after[name] = _at(errors[budget], frames)
        report.setdefault('mpjpe_mm_converged', {})[name] = _at(errors[-1], frames)
        report.setdefault('by_iteration', {})[name] = {
            'residual': np.median(residuals[cases], axis=0).tolist(),
            'mpjpe_mm': [_at(after, frames) for after in errors],
        }
    return report


def _first_close(errors: Sequence[float] | Float64[np.ndarray, ' step']) -> int:
    """Return the fewest evaluations from which on the error stays within 1 mm of the last."""
    off = np.flatnonzero(np.abs(np.asarray(errors) - errors[-1]) > CLOSE_M)
    return int(off[-1]) + 1 if len(off) else 0


def _at(errors: Horizons, frames: dict[int, int]) -> dict[str, float]:
    return {str(ms): 1000.0 * float(errors[at]) for ms, at in frames.items() if ms in (400, 1000)}


def print_streaming(report: Mapping[str, Any], console: Console) -> None:
    """Print tables for all people and for both halves by motion."""
    titles = {'large_motion': 'the faster half', 'small_motion': 'the slower half'}
    parts = {title: report[name] for name, title in titles.items() if name in report}
    keys = {'after 1': 'mpjpe_mm', **{f'after {n}': f'mpjpe_mm_after_{n}' for n in BUDGETS[1:]}}
    keys['converged'] = 'mpjpe_mm_converged'
    for title, part in ({'all people': report} | parts).items():
        rows = {
            name: {
                'to residual 1e-3': iterations,
                'to 1 mm': part['iterations_to_1mm'][name],
                **{
                    head: ' / '.join(f'{error:.1f}' for error in part[key][name].values())
                    for head, key in keys.items()
                },
            }
            for name, iterations in part['iterations_to_residual'].items()
        }
        print_table(rows, f'Streams: {title}', 'start', console)
    console.print('iterations of the solver; MPJPE in mm at 400 / 1000 ms after these iterations')
