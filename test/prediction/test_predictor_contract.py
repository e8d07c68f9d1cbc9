# SPDX-License-Identifier: Apache-2.0
"""A predictor is one class: one that is defined in this file alone predicts in the pipeline."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cache_flow_models import write_density
from jaxtyping import Float64
from scenes import NAMES, stream

from motion_predictor_ros.config import (
    PREDICTORS,
    DensityConfig,
    PipelineConfig,
    PredictionConfig,
    from_mapping,
    param,
)
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.prediction.predictor import (
    MotionPredictor,
    PredictorConfig,
    register_predictor,
)
from motion_predictor_ros.prediction.types import Prediction
from motion_predictor_ros.runtime.threads import WorkerPool
from motion_predictor_ros.skeleton.frame import Validity, Window


@dataclass(frozen=True)
class ConstantVelocityConfig(PredictorConfig):
    frames: int = param(5, 'predicted frames [-]', low=1, high=50)


class ConstantVelocity(MotionPredictor):
    """x(t) = x(0) + t v(0), with v(0) from the last two frames."""

    model, joint_names, period_s, past = 'constant_velocity', NAMES, 0.04, 25

    def __init__(self, config: PredictionConfig, own: ConstantVelocityConfig) -> None:
        self.config, self.own = config, own
        self.forgotten: list[str] = []

    @classmethod
    def load(cls, config: PredictionConfig, own: Any, pool: WorkerPool) -> 'ConstantVelocity':
        return cls(config, own)

    @property
    def horizons_s(self) -> Float64[np.ndarray, ' horizon']:
        return self.period_s * np.arange(1, self.own.frames + 1)

    def predict(self, windows: Sequence[Window]) -> list[Prediction]:
        return [self._predict(window) for window in windows]

    def forget(self, person_ids: Iterable[str]) -> None:
        self.forgotten += person_ids

    def reset(self) -> None:
        self.forgotten.append('everybody')

    def _predict(self, window: Window) -> Prediction:
        last, step = window.positions[-1], window.positions[-1] - window.positions[-2]
        frames = np.arange(1, len(self.horizons_s) + 1)[:, None, None]
        return Prediction(
            window.person_id,
            window.stamp_ns,
            Validity.OK,
            window=window,
            positions=last + frames * step,
        )


@pytest.fixture
def toy() -> Iterator[None]:
    register_predictor('constant_velocity', ConstantVelocityConfig)(ConstantVelocity)
    yield
    PREDICTORS.unregister('constant_velocity')


def run(density: DensityConfig) -> tuple[Pipeline, Scene]:
    config = from_mapping(
        PipelineConfig,
        {'predictor': 'constant_velocity', 'predictors': {'constant_velocity': {'frames': 7}}},
    )
    pipeline = Pipeline.load(
        PipelineConfig(predictor=config.predictor, predictors=config.predictors, density=density)
    )
    scenes = [pipeline.step(message) for message in stream(0.0, 1.2, 'ann', 'bob')]
    assert scenes[-1] is not None
    return pipeline, scenes[-1]


def test_a_predictor_that_is_registered_is_chosen_configured_and_answers(toy: None) -> None:
    pipeline, scene = run(DensityConfig(enabled='never'))
    assert scene.prediction.model == 'constant_velocity'
    assert [person.person_id for person in scene.prediction.people] == ['ann', 'bob']
    for person in scene.prediction.people:
        assert person.window is not None and person.positions is not None
        assert person.validity == Validity.OK and person.solver is None
        assert person.positions.shape == (7, 18, 3)
        last, before = person.window.positions[-1], person.window.positions[-2]
        np.testing.assert_allclose(person.positions[6], last + 7 * (last - before))
    pipeline.reset()
    assert pipeline.predictor.forgotten == ['everybody']


def test_futures_are_drawn_around_the_prediction_of_any_predictor(
    toy: None, tmp_path: Path
) -> None:
    _, scene = run(write_density(tmp_path, enabled='always', rate_hz=30.0))
    assert scene.futures is not None
    assert scene.futures.person_ids == ('ann', 'bob')
    assert np.isfinite(scene.futures.predicted_log_density).all()


def test_a_predictor_of_other_joints_is_refused(
    toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConstantVelocity, 'joint_names', NAMES[:-1])
    with pytest.raises(ConfigError, match=r'constant_velocity.*skeleton\.layout'):
        run(DensityConfig(enabled='never'))


def test_a_calibration_of_one_predictor_does_not_hold_for_another(toy: None) -> None:
    volume = {'volume': {'enabled': 'always'}, 'predictor': 'constant_velocity'}
    with pytest.raises(CheckpointError, match=r"in use are .*'prediction': 'constant_velocity'"):
        Pipeline.load(from_mapping(PipelineConfig, volume))


def test_a_predictor_that_is_not_registered_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"predictor must be one of \[.*'motion_deq'"):
        from_mapping(PipelineConfig, {'predictor': 'constant_velocity'})
