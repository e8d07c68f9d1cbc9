# SPDX-License-Identifier: Apache-2.0
"""Streams: what is counted, and that a start at the answer needs no iterations."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from walkers import RECIPE, walkers

from motion_predictor_ros.checkpoint import save_checkpoint
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.motion.streaming import (
    ROUNDS,
    _first_close,
    evaluate_streaming,
)
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ


@pytest.fixture
def trained(tmp_path: Path) -> TrainedMotionDEQ:
    torch.manual_seed(0)
    config = dataclasses.replace(RECIPE.model, future=25, correction=True)
    module = MotionDEQ(config).float()
    with torch.no_grad():
        module.out.weight.mul_(30.0)
    header = {
        'kind': 'motion_deq',
        'config': dataclasses.asdict(config),
        'joint_names': list(walkers().joint_names),
        'training': {},
    }
    save_checkpoint(tmp_path / 'tiny.safetensors', header, module.state_dict())
    return load_motion_deq(str(tmp_path / 'tiny.safetensors'), torch.device('cpu'))


def frozen() -> Recordings:
    """The same people, standing still for ever."""
    moving = walkers()
    positions = moving.positions.copy()
    for clip in moving.clips:
        positions[clip.start : clip.start + clip.length] = positions[clip.start]
    return dataclasses.replace(moving, positions=positions)


def test_the_report_has_the_documented_keys(trained: TrainedMotionDEQ) -> None:
    report = evaluate_streaming(walkers(), trained)
    for key in ('iterations_to_residual', 'iterations_to_1mm'):
        assert set(report[key]) == {'cold', 'warm', 'warm_eca'}
    assert set(report['mpjpe_mm']['warm_eca']) == {'400', '1000'}
    assert report['streams'] == 2 and report['predictions'] == 2 * (ROUNDS - 1)
    converged = report['mpjpe_mm_converged']
    assert converged['cold']['400'] == pytest.approx(converged['warm']['400'], abs=0.1)


def test_errors_are_reported_by_iteration(trained: TrainedMotionDEQ) -> None:
    report = evaluate_streaming(walkers(), trained)
    for start, course in report['by_iteration'].items():
        errors, residuals = course['mpjpe_mm'], course['residual']
        assert len(errors) == 31 and len(residuals) == 30
        assert errors[1] == report['mpjpe_mm'][start]
        assert errors[3] == report['mpjpe_mm_after_3'][start]
        assert errors[30] == report['mpjpe_mm_converged'][start]
        assert residuals[-1] < 0.3 * residuals[0]
    cold, warm = (report['by_iteration'][start] for start in ('cold', 'warm'))
    assert warm['residual'][0] < cold['residual'][0] and warm['mpjpe_mm'] != cold['mpjpe_mm']


def test_an_untrained_adapter_counts_like_none(trained: TrainedMotionDEQ) -> None:
    report = evaluate_streaming(walkers(), trained)
    assert report['mpjpe_mm']['warm_eca'] == report['mpjpe_mm']['warm']


def test_a_standing_person_converges_from_the_last_solution(trained: TrainedMotionDEQ) -> None:
    report = evaluate_streaming(frozen(), trained)
    assert report['iterations_to_residual']['warm'] == 1.0
    assert report['iterations_to_residual']['cold'] > 2.0
    assert report['iterations_to_1mm']['warm'] == 0


@pytest.mark.parametrize(
    ('errors_mm', 'first'),
    [([9, 5, 2, 1, 1], 2), ([1, 1, 1], 0), ([9, 1, 9, 1, 1], 3), ([9, 9, 0.5], 2)],
)
def test_first_close_is_where_the_error_stays_small(errors_mm: list[float], first: int) -> None:
    assert _first_close(np.array(errors_mm) * 0.999e-3) == first


def test_short_recordings_are_refused(trained: TrainedMotionDEQ) -> None:
    short = walkers()
    clips = tuple(dataclasses.replace(clip, length=60) for clip in short.clips)
    with pytest.raises(DataError, match='as long as a stream'):
        evaluate_streaming(dataclasses.replace(short, clips=clips), trained)
