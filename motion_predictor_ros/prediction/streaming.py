# SPDX-License-Identifier: Apache-2.0
"""Predict every person with MotionDEQ, warm-started from the person's last fixed point.

Stage: prediction. The fixed point of one observation is a good start for the next [MotionDEQ,
streaming]: a person's state is kept until the history restarts or the person is forgotten.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64

from motion_predictor_ros.checkpoint import choose_device
from motion_predictor_ros.config import PredictionConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.prediction.motion_deq.batched import BatchedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq
from motion_predictor_ros.prediction.motion_deq.correction import Innovation
from motion_predictor_ros.prediction.motion_deq.cpu.solver import FusedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.features import Features
from motion_predictor_ros.prediction.motion_deq.layers import Past
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.prediction.predictor import MotionPredictor, register_predictor
from motion_predictor_ros.prediction.types import Prediction, SolverReport
from motion_predictor_ros.runtime.cuda_graph import check_on_gpu
from motion_predictor_ros.runtime.device_trial import load_on_faster
from motion_predictor_ros.runtime.threads import WorkerPool
from motion_predictor_ros.skeleton.frame import Validity, Window


@dataclass(frozen=True)
class Memory:
    """One person's last prediction; state and features are batches of one.

    Attributes:
        features: Of the observation; None without a correction adapter.
        path: [m] the last observed pose, then the predicted ones, one per model frame.
    """

    stamp_ns: int
    state: State
    features: Features | None
    path: Float64[np.ndarray, 'time joint xyz=3']

    def pose_after(self, frames: float) -> Float64[np.ndarray, 'joint xyz=3']:
        """Interpolate the pose predicted for this many frames later [m]; at most the last one."""
        low = min(int(frames), len(self.path) - 2)
        part = min(frames - low, 1.0)
        return (1.0 - part) * self.path[low] + part * self.path[low + 1]


def correct(
    module: MotionDEQ, memories: Sequence[Memory], windows: Sequence[Window], features: Features
) -> State:
    """Return initial states for the windows of people with a memory.

    Without a correction adapter they are the last fixed points.
    """
    state = State.cat([memory.state for memory in memories])
    before = [memory.features for memory in memories if memory.features is not None]
    if module.correction is None:
        return state
    assert len(before) == len(memories)
    pairs = list(zip(memories, windows, strict=True))
    frame_ns = module.config.period_s * NS_PER_S
    elapsed = [(window.stamp_ns - memory.stamp_ns) / frame_ns for memory, window in pairs]
    deviation = [
        window.positions[-1] - memory.pose_after(frames)
        for (memory, window), frames in zip(pairs, elapsed, strict=True)
    ]
    tensors = (
        torch.tensor(np.array(values)).to(state.geometry) for values in (deviation, elapsed)
    )
    return module.correction(state, Innovation(Features.cat(before), features, *tensors))


@register_predictor('motion_deq')
class MotionDEQPredictor(MotionPredictor):
    """MotionDEQ with a memory of each person's last fixed point."""

    def __init__(
        self, trained: TrainedMotionDEQ, config: PredictionConfig, pool: WorkerPool | None = None
    ) -> None:
        """Choose the fastest form of the model on its device.

        Args:
            pool: Its threads share the people; default: only the caller's.
        """
        self.config = config
        self._trained, self._module = trained, trained.module
        self._parameter = next(trained.module.parameters())
        self._model = _fastest_form(trained.module, config, pool)
        self._memories: dict[str, Memory] = {}
        shape = trained.module.config
        self._horizons_s = shape.period_s * np.arange(1, shape.future + 1)

    @classmethod
    def load(
        cls, config: PredictionConfig, own: Any = None, pool: WorkerPool | None = None
    ) -> 'MotionDEQPredictor':
        """Load the weights that `config` names onto its device, and warm up.

        Raises:
            CheckpointError: The weights cannot be used.
            ConfigError: There is no such device.
        """

        def load(device: torch.device) -> MotionDEQPredictor:
            return cls(load_motion_deq(config.weights, device), config, pool)

        if config.device == 'auto' and not config.cuda_graph:
            predictor, choice = load_on_faster(load)
            predictor.device_choice = choice
            return predictor
        predictor = load(choose_device(config.device))
        predictor.warm_up()
        return predictor

    @property
    def model(self) -> str:
        """Name of the weights, with the first digits of their hash."""
        return self._trained.name

    @property
    def digest(self) -> str:
        """First digits of the weight file's hash."""
        return self.model.rpartition('@')[2]

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Joints in the order of the model."""
        return self._trained.joint_names

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._parameter.device

    @property
    def past(self) -> int:
        """Observed frames per prediction."""
        return self._module.config.past

    @property
    def period_s(self) -> float:
        """Model clock [s]."""
        return self._module.config.period_s

    @property
    def horizons_s(self) -> Float64[np.ndarray, ' horizon']:
        """Times of the predicted poses after the observation [s]."""
        return self._horizons_s

    @property
    def infers_missing_joints(self) -> bool:
        """Whether the model was trained with joints out of sight."""
        return self._module.config.masked

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Run once for a synthetic person, so that the first real one does not wait."""
        shape = self._module.config
        pose = np.random.default_rng(0).normal(size=(1, 1, shape.joints, 3))
        still = self._tensor(np.repeat(pose, shape.past, axis=1))
        self._model.predict(still, None, [None], self._settings())

    def forget(self, person_ids: Iterable[str]) -> None:
        """Drop the states of people."""
        for person_id in person_ids:
            self._memories.pop(person_id, None)

    def reset(self) -> None:
        """Drop every state."""
        self._memories.clear()

    @torch.inference_mode()
    def predict(self, windows: Sequence[Window]) -> list[Prediction]:
        """Predict all people in one batch; the predictions are in the order of the windows."""
        if not windows:
            return []
        memories = [self._recall(window) for window in windows]
        positions = np.stack([window.positions for window in windows])
        # In float32, positions 100 km from the origin have steps of 8 mm: predict near zero.
        origin = positions[:, -1:, :1]
        observed = self._tensor(positions - origin)
        visible = None
        if not all(window.seen.all() for window in windows):
            mask = np.stack([window.seen for window in windows])
            visible = torch.from_numpy(mask).to(self.device)
        features = (
            None if self._module.correction is None else self._module.observe(observed, visible)
        )
        starts = self._starts(windows, memories, features)
        future, state, solved = self._model.predict(observed, visible, starts, self._settings())
        future_m = future.double().cpu().numpy() + origin
        steps, residuals = solved.steps.tolist(), solved.residual.tolist()
        converged, predictions = solved.converged.tolist(), []
        for row, window in enumerate(windows):
            is_warm = memories[row] is not None
            report = SolverReport(steps[row], residuals[row], converged[row], is_warm)
            if report.residual <= self.config.max_residual:
                self._memories[window.person_id] = Memory(
                    window.stamp_ns,
                    state.rows([row]),
                    None if features is None else features.rows([row]),
                    np.concatenate([window.positions[-1:], future_m[row]]),
                )
            else:  # a bad start for the next prediction
                self._memories.pop(window.person_id, None)
            predictions.append(self._prediction(window, future_m[row], report))
        return predictions

    def _settings(self) -> SolverSettings:
        config = self.config
        return SolverSettings(
            config.max_steps, config.tolerance, motion_tolerance_m=config.motion_tolerance_m
        )

    def _tensor(self, array: Float64[np.ndarray, 'batch time joint xyz=3']) -> Past:
        return torch.from_numpy(array).to(self._parameter)

    def _recall(self, window: Window) -> Memory | None:
        if window.restarted or not self.config.warm_start:
            self._memories.pop(window.person_id, None)
        return self._memories.get(window.person_id)

    def _starts(
        self,
        windows: Sequence[Window],
        memories: Sequence[Memory | None],
        features: Features | None,
    ) -> list[State | None]:
        """Return each person's initial state, as a batch of one; None without a memory."""
        starts = [None if memory is None else memory.state for memory in memories]
        warm = {row: memory for row, memory in enumerate(memories) if memory is not None}
        if features is not None and warm:
            rows = list(warm)
            remembered, observed = list(warm.values()), [windows[row] for row in rows]
            corrected = correct(self._module, remembered, observed, features.rows(rows))
            for index, row in enumerate(rows):
                starts[row] = corrected.rows([index])
        return starts

    def _prediction(
        self,
        window: Window,
        future: Float64[np.ndarray, 'horizon joint xyz=3'],
        report: SolverReport,
    ) -> Prediction:
        person = window.person_id, window.stamp_ns
        validity, limit = Validity.NOT_CONVERGED, self.config.max_residual
        if not np.isfinite(future).all():
            reason = 'the prediction has non-finite values'
            return Prediction(*person, validity, reason, window, solver=report)
        if report.residual <= limit:
            validity, reason = Validity.OK, self._inferred_joints(window)
        else:
            reason = f'residual {report.residual:.2g} above {limit:g}'
        residuals, covariances = self._trained.residuals, None
        if residuals is not None:
            covariances = residuals.covariances(window.positions, self.period_s)
        return Prediction(*person, validity, reason, window, future, covariances, report)

    def _inferred_joints(self, window: Window) -> str:
        """Describe which joints were inferred; empty if none."""
        absent = np.zeros_like(window.seen) if window.inferred is None else window.inferred
        texts = {
            'out of sight, inferred': self._names(~window.seen & ~absent),
            'not in the source, inferred': self._names(absent),
        }
        return '; '.join(f'{text}: {", ".join(names)}' for text, names in texts.items() if names)

    def _names(self, joints: Bool[np.ndarray, ' joint']) -> list[str]:
        return [self.joint_names[joint] for joint in np.flatnonzero(joints)]


def _fastest_form(
    module: MotionDEQ, config: PredictionConfig, pool: WorkerPool | None
) -> FusedMotionDEQ | BatchedMotionDEQ:
    weight = module.out.weight
    if config.cuda_graph:
        check_on_gpu(weight.device, 'prediction.cuda_graph')
    if weight.device.type == 'cpu' and weight.dtype == torch.float32:
        return FusedMotionDEQ(module, pool)
    return BatchedMotionDEQ(module, cuda_graph=config.cuda_graph)
