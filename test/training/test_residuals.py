# SPDX-License-Identifier: Apache-2.0
"""Covariances say what predictions of such motion were off by, and turn with the room."""

from pathlib import Path

import numpy as np
import pytest
import torch
from models import write_weights
from walkers import walkers

from motion_predictor_ros.errors import CheckpointError, DataError
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq
from motion_predictor_ros.prediction.uncertainty import Residuals, joint_speeds
from motion_predictor_ros.training.residuals import by_speed, keep_residuals

CPU = torch.device('cpu')


def test_the_variance_of_each_group_is_that_of_errors_drawn_at_its_speed() -> None:
    rng = np.random.default_rng(0)
    speeds = rng.uniform(0, 2, size=(20_000, 3))
    sigma = 0.02 + 0.1 * speeds  # [m], the same at both horizons
    errors = rng.normal(size=(20_000, 2, 3, 3)) * sigma[:, None, :, None]
    found = by_speed(speeds, (errors**2).mean(-1))
    middles = np.array([0.2, 0.6, 1.0, 1.4, 1.8])[:, None]
    assert np.abs(found.speeds - middles).max() < 0.04
    # A group is 0.4 m/s wide: the mean of sigma^2 over it is more than that of its middle.
    true = (0.02 + 0.1 * found.speeds) ** 2 + 0.1**2 * 0.4**2 / 12
    np.testing.assert_allclose(found.variance, true[:, None].repeat(2, axis=1), rtol=0.08)
    assert found.variance[4].min() > 10 * found.variance[0].max()  # control: one for all is wrong


def test_the_variance_is_interpolated_between_speeds_and_constant_beyond() -> None:
    residuals = Residuals(np.array([[0.0, 0.0], [2.0, 4.0]]), np.ones((2, 3, 2)) * [[[1]], [[5]]])
    for speed, expected in [(0.0, (1, 1)), (1.0, (3, 2)), (2.0, (5, 3)), (9.0, (5, 5))]:
        past = np.zeros((6, 2, 3))
        past[:, :, 0] = speed * 0.04 * np.arange(6)[:, None]
        found = residuals.covariances(past, 0.04)
        for joint in range(2):
            np.testing.assert_allclose(
                found[:, joint], expected[joint] * np.stack([np.eye(3)] * 3)
            )


def test_one_speed_serves_all() -> None:
    residuals = Residuals(np.zeros((1, 2)), np.full((1, 3, 2), 0.5))
    found = residuals.covariances(np.random.default_rng(0).normal(size=(6, 2, 3)), 0.04)
    np.testing.assert_allclose(found, 0.5 * np.eye(3) * np.ones((3, 2, 1, 1)))


def test_speed_is_that_of_the_last_fifth_of_a_second_and_knows_no_direction() -> None:
    past = np.zeros((25, 1, 3))
    past[-6:, 0, 1] = 1.5 * 0.04 * np.arange(6)
    assert joint_speeds(past, 0.04) == pytest.approx(1.5)
    assert joint_speeds(past[..., ::-1], 0.04) == pytest.approx(1.5)
    assert joint_speeds(past[-2:], 0.04) == pytest.approx(1.5)  # a short observation


def test_residuals_are_kept_with_the_weights_and_nothing_else_changes(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    path = write_weights(tmp_path / 'model.safetensors')
    before = load_motion_deq(str(path), CPU)
    measured = keep_residuals(path, walkers(), CPU)
    after = load_motion_deq(str(path), CPU)
    assert after.residuals is not None
    np.testing.assert_allclose(after.residuals.variance, measured.variance, rtol=1e-6)
    for name, tensor in before.module.state_dict().items():
        assert torch.equal(tensor, after.module.state_dict()[name])
    assert before.residuals is not None
    assert before.residuals.variance.shape != after.residuals.variance.shape  # control


def test_recordings_of_other_joints_are_refused(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    path = write_weights(tmp_path / 'model.safetensors')
    held_out = walkers()
    other = type(held_out)(
        tuple(f'{name}_' for name in held_out.joint_names),
        held_out.fps, held_out.positions, held_out.clips, (),
    )  # fmt: skip
    with pytest.raises(DataError, match='recordings have joints'):
        keep_residuals(path, other, CPU)


def test_residuals_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint

    torch.set_default_dtype(torch.float32)
    path = write_weights(tmp_path / 'model.safetensors')
    stored = load_checkpoint(path, 'motion_deq')
    shapes = [(2, 25, 17), (25, 18), (2, 24, 18)]
    for wrong in (torch.full((2, 25, 18), -1.0), *(torch.ones(shape) for shape in shapes)):
        save_checkpoint(path, stored.header, {**stored.tensors, 'residual_variance': wrong})
        with pytest.raises(CheckpointError, match='residual_variance'):
            load_motion_deq(str(path), CPU)


def test_covariances_turn_with_the_room() -> None:
    residuals = Residuals(np.array([[0.0], [2.0]]), np.array([[[0.1]], [[0.7]]]))
    past = np.random.default_rng(1).normal(size=(6, 1, 3)).cumsum(0) * 0.02
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    straight = residuals.covariances(past, 0.04)
    turned = residuals.covariances(past @ turn.T, 0.04)
    np.testing.assert_allclose(turned, turn @ straight @ turn.T, atol=1e-12)
