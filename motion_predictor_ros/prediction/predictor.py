# SPDX-License-Identifier: Apache-2.0
"""The interface of motion predictors: one class in one file of this folder.

Stage: prediction. Reads `Window`s, returns `Prediction`s; next stage: density. Other stages know a
predictor by this interface alone:

    @register_predictor('constant_velocity')
    class ConstantVelocity(MotionPredictor):
        def predict(self, windows: Sequence[Window]) -> list[Prediction]: ...

Parameter `predictor` selects it.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float64
from numpy import ndarray

from motion_predictor_ros.config import PREDICTORS, PipelineConfig, PredictionConfig
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.runtime.threads import WorkerPool
from motion_predictor_ros.skeleton.frame import NotReady, Observation, Validity, Window
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.people import Presence


@dataclass(frozen=True)
class PredictorConfig:
    """Base of a predictor's own parameters, `predictors.NAME.*`."""


PredictorT = TypeVar('PredictorT', bound='type[MotionPredictor]')


@runtime_checkable
class MotionPredictor(Protocol):
    """Predicts the motion of every person in a scene, in one batch.

    Attributes:
        config: Parameters `prediction.*`; replaced when a dynamic one changes.
        device_choice: Why `device: auto` took its device; empty if another was asked for.
    """

    config: PredictionConfig
    device_choice: str = ''

    @classmethod
    @abstractmethod
    def load(cls, config: PredictionConfig, own: Any, pool: WorkerPool) -> 'MotionPredictor':
        """Load what `config` names and warm up.

        Args:
            own: The predictor's own parameters.
            pool: Threads that all stages share.

        Raises:
            CheckpointError: Weights cannot be used.
            ConfigError: A parameter does not fit.
        """

    @property
    @abstractmethod
    def model(self) -> str:
        """Name of the model, as messages quote it."""

    @property
    def digest(self) -> str:
        """Identifies the model: a volume calibration holds for one digest only."""
        return self.model

    @property
    @abstractmethod
    def joint_names(self) -> tuple[str, ...]:
        """Joints of windows and predictions, in this order."""

    @property
    @abstractmethod
    def period_s(self) -> float:
        """Time step of windows [s]."""

    @property
    @abstractmethod
    def past(self) -> int:
        """Frames of a window."""

    @property
    @abstractmethod
    def horizons_s(self) -> Float64[ndarray, ' horizon']:
        """Times of the predicted poses after the observation [s]."""

    @abstractmethod
    def predict(self, windows: Sequence[Window]) -> list[Prediction]:
        """Predict every person; the predictions are in the order of the windows."""

    @abstractmethod
    def forget(self, person_ids: Iterable[str]) -> None:
        """Drop the memory of people; unknown ids are ignored."""

    @abstractmethod
    def reset(self) -> None:
        """Drop what is remembered of all people."""

    @property
    def infers_missing_joints(self) -> bool:
        """Whether windows may have joints that were not seen."""
        return False

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return torch.device('cpu')

    def warm_up(self) -> None:
        """Run once, so that the first person does not wait; each thread needs its own."""
        return


def register_predictor(
    name: str, config_class: type[PredictorConfig] = PredictorConfig
) -> Callable[[PredictorT], PredictorT]:
    """Register a predictor; its own parameters are `predictors.NAME.*`."""
    return PREDICTORS.register(name, config_class)


def load_predictor(config: PipelineConfig, pool: WorkerPool) -> MotionPredictor:
    """Load the predictor that parameter `predictor` names.

    Raises:
        CheckpointError: Its weights cannot be used.
        ConfigError: There is none, or a parameter does not fit.
    """
    predictor_class: type[MotionPredictor] = PREDICTORS[config.predictor]
    return predictor_class.load(
        config.prediction, getattr(config.predictors, config.predictor), pool
    )


def check_joints(layout: SkeletonLayout, predictor: MotionPredictor) -> None:
    """Check that the predictor has the joints of the layout.

    Raises:
        ConfigError: They differ.
    """
    if layout.joint_names != predictor.joint_names:
        raise ConfigError(
            f'layout {layout.name!r} has joints {layout.joint_names}, the model '
            f'{predictor.model!r} was made for {predictor.joint_names}; set parameter '
            '"skeleton.layout" or "prediction.weights"'
        )


def assemble_scene(
    predictor: MotionPredictor,
    observation: Observation,
    presence: Presence,
    predictions: Sequence[Prediction],
    not_ready: Sequence[NotReady],
) -> ScenePrediction:
    """Add people without a prediction: observed people come in their order, then STALE ones.

    STALE are people held since their last observation, and those at an unknown place.
    """
    empty = [Prediction(p.person_id, p.stamp_ns, p.validity, p.reason) for p in not_ready]
    by_id = {person.person_id: person for person in (*predictions, *empty)}
    people = [by_id[frame.person_id] for frame in presence.observed]
    stale = {person.frame.person_id: person.reason for person in presence.held}
    present = {*by_id, *stale, ''}
    stale |= {p.person_id: p.message for p in presence.unplaced if p.person_id not in present}
    stamp_ns = observation.stamp_ns
    people += [Prediction(key, stamp_ns, Validity.STALE, reason) for key, reason in stale.items()]
    return ScenePrediction(
        stamp_ns=stamp_ns,
        frame_id=observation.frame_id,
        model=predictor.model,
        joint_names=predictor.joint_names,
        horizons_s=predictor.horizons_s,
        people=tuple(people),
    )
