# SPDX-License-Identifier: Apache-2.0
"""The memory of each person, and what is said when a prediction cannot be trusted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from models import write_weights

from motion_predictor_ros.config import PredictionConfig
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq
from motion_predictor_ros.prediction.streaming import MotionDEQPredictor
from motion_predictor_ros.skeleton.frame import Validity, Window

BODY = np.random.default_rng(0).normal(scale=0.4, size=(18, 3))


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp('weights') / 'tiny.safetensors')


def window(person: str, *, at: float = 0.0, restarted: bool = False, shift: float = 0.0) -> Window:
    """Return a person who walks along x, seen until `at` [s]."""
    times = at + 0.04 * np.arange(-24, 1)
    positions = BODY + times[:, None, None] * np.array([1.2, 0.0, 0.0]) + shift
    seen = np.ones((25, 18))
    return Window(
        person,
        round(at * 1e9) + 10**18,
        positions,
        seen.astype(bool),
        seen.astype(np.float32),
        restarted,
    )


def load(weights: Path, **options: object) -> MotionDEQPredictor:
    return MotionDEQPredictor.load(PredictionConfig(weights=str(weights), device='cpu', **options))  # type: ignore[arg-type]


def test_second_prediction_of_a_person_starts_warm_and_is_cheaper(weights: Path) -> None:
    predictor = load(weights)
    [cold] = predictor.predict([window('ann', restarted=True)])
    [warm] = predictor.predict([window('ann', at=0.04)])
    assert not cold.solver.warm and warm.solver.warm
    assert warm.solver.steps < cold.solver.steps


@pytest.mark.parametrize('forget', ['restart', 'forget', 'reset', 'switched off'])
def test_warm_start_is_dropped(weights: Path, forget: str) -> None:
    predictor = load(weights, warm_start=forget != 'switched off')
    predictor.predict([window('ann', restarted=True)])
    if forget == 'forget':
        predictor.forget(['ann', 'nobody'])
    if forget == 'reset':
        predictor.reset()
    [again] = predictor.predict([window('ann', at=0.04, restarted=forget == 'restart')])
    assert not again.solver.warm


def test_people_of_one_batch_keep_their_own_states(weights: Path) -> None:
    together, alone = load(weights), load(weights)
    ann, bob = window('ann', restarted=True), window('bob', restarted=True, shift=2.0)
    together.predict([ann, bob])
    alone.predict([ann])
    ann = window('ann', at=0.04)
    both = together.predict(
        [window('bob', at=0.04, shift=2.0), ann, window('new', restarted=True)]
    )
    [single] = alone.predict([ann])
    assert [each.solver.warm for each in both] == [True, True, False]
    np.testing.assert_allclose(both[1].positions, single.positions, atol=1e-5)


def test_a_person_far_from_the_origin_is_predicted_as_well_as_near(weights: Path) -> None:
    predictor = load(weights)
    [near] = predictor.predict([window('ann', restarted=True)])
    [far] = predictor.predict([window('ann', restarted=True, shift=1e5)])
    np.testing.assert_allclose(far.positions - 1e5, near.positions, atol=1e-5)
    assert near.covariances is not None and near.covariances.shape == (25, 18, 3, 3)


def test_unsolved_prediction_says_so_and_is_not_continued(weights: Path) -> None:
    predictor = load(weights, max_steps=1, max_residual=1e-6)
    [first] = predictor.predict([window('ann', restarted=True)])
    assert first.validity == Validity.NOT_CONVERGED
    assert 'residual' in first.reason
    [second] = predictor.predict([window('ann', at=0.04)])
    assert not second.solver.warm


def test_numbers_that_are_not_finite_never_leave(weights: Path) -> None:
    trained = load_motion_deq(str(weights), torch.device('cpu'))
    trained.module.out.weight.fill_(torch.inf)
    wild = MotionDEQPredictor(trained, PredictionConfig())
    [answer] = wild.predict([window('ann', restarted=True)])
    assert answer.validity == Validity.NOT_CONVERGED
    assert answer.positions is None


def test_nobody_is_answered_with_nothing(weights: Path) -> None:
    assert load(weights).predict([]) == []
