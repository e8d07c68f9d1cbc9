# SPDX-License-Identifier: Apache-2.0
"""Predict every person with MotionDEQ, warm-started from the person's last fixed point.

Stage: prediction. The fixed point of one observation is a good start for the next one [MotionDEQ,
streaming]: a person's state is kept until the history restarts or the person is forgotten.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from motion_predictor_ros.checkpoint import choose_device
from motion_predictor_ros.config import PredictionConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.checkpoint import (
    TrainedMotionDEQ,
    load_motion_deq,
)
from motion_predictor_ros.prediction.motion_deq.correction import Novelty
from motion_predictor_ros.prediction.motion_deq.cpu.solver import FusedMotionDEQ, fold
from motion_predictor_ros.prediction.motion_deq.cuda import GraphedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.features import Features
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import FixedPoint, SolverSettings
from motion_predictor_ros.prediction.predictor import (
    MotionPredictor,
    register_predictor,
)
from motion_predictor_ros.prediction.types import Prediction, SolverReport
from motion_predictor_ros.runtime.cuda_graph import check_on_gpu
from motion_predictor_ros.runtime.threads import WorkerPool
from motion_predictor_ros.skeleton.frame import Validity, Window


@dataclass(frozen=True)
class Memory:
    """One person's last prediction, as a batch of one.

    Attributes:
        seen: What was observed; None where there is no adapter to read it.
        path: [m] the last observed pose, then the predicted ones, one per model frame.
    """

    stamp_ns: int
    state: State
    seen: Features | None
    path: Float64[np.ndarray, 'time joint xyz=3']

    def predicted(self, frames: float) -> Float64[np.ndarray, 'joint xyz=3']:
        """Return the pose predicted for so many frames later [m]; beyond the end the last one."""
        low = min(int(frames), len(self.path) - 2)
        part = min(frames - low, 1.0)
        return (1.0 - part) * self.path[low] + part * self.path[low + 1]


def carry_over(
    module: MotionDEQ, memories: Sequence[Memory], windows: Sequence[Window], now: Features
) -> State:
    """Return where to start solving for the windows of people who are remembered."""
    state = State(
        torch.cat([memory.state.geometry for memory in memories]),
        torch.cat([memory.state.pattern for memory in memories]),
    )
    if module.correction is None:
        return state
    seen = [memory.seen for memory in memories if memory.seen is not None]
    assert len(seen) == len(memories)
    before = Features(
        torch.cat([each.geometry for each in seen]),
        torch.cat([each.velocity for each in seen]),
        torch.cat([each.pattern for each in seen]),
    )
    pairs = list(zip(memories, windows, strict=True))
    frame_ns = module.config.period_s * NS_PER_S
    elapsed = np.array(
        [(window.stamp_ns - memory.stamp_ns) / frame_ns for memory, window in pairs]
    )
    deviation = np.stack(
        [
            window.positions[-1] - memory.predicted(frames)
            for (memory, window), frames in zip(pairs, elapsed, strict=True)
        ]
    )
    news = Novelty(before, now, _like(deviation, state), _like(elapsed, state))
    return module.correction(state, news)


def _like(array: Float64[np.ndarray, '...'], state: State) -> Tensor:
    return torch.from_numpy(array).to(state.geometry)


@register_predictor('motion_deq')
class MotionDEQPredictor(MotionPredictor):
    """MotionDEQ with a memory of each person's last fixed point."""

    def __init__(
        self,
        trained: TrainedMotionDEQ,
        config: PredictionConfig,
        pool: WorkerPool | None = None,
    ) -> None:
        """Set up.

        Args:
            pool: People are shared out to its threads; default: only the caller's.
        """
        self.config = config
        self._trained = trained
        self._module = trained.module
        self._parameter = next(trained.module.parameters())
        self._fused = _as_it_runs(trained.module, config, pool or WorkerPool(1))
        self._memories: dict[str, Memory] = {}
        shape = trained.module.config
        self._horizons_s = shape.period_s * np.arange(1, shape.future + 1)

    @classmethod
    def load(
        cls, config: PredictionConfig, own: Any = None, pool: WorkerPool | None = None
    ) -> 'MotionDEQPredictor':
        """Load the weights that `config` names onto the device it names, and warm up.

        Raises:
            CheckpointError: The weights cannot be used.
            ConfigError: The device is not there.
        """
        trained = load_motion_deq(config.weights, choose_device(config.device))
        predictor = cls(trained, config, pool)
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
        """Joints in the order the model was made with."""
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

    def warm_up(self) -> None:
        """Run once on a made-up person, so that the first real one does not wait."""
        shape = self._module.config
        pose = np.random.default_rng(0).normal(size=(1, shape.joints, 3))
        self._solve(torch.from_numpy(np.repeat(pose[:, None], shape.past, axis=1)), [], [])

    def forget(self, person_ids: Iterable[str]) -> None:
        """Drop the states of people who left."""
        for person_id in person_ids:
            self._memories.pop(person_id, None)

    def reset(self) -> None:
        """Drop every state."""
        self._memories.clear()

    def predict(self, windows: Sequence[Window]) -> list[Prediction]:
        """Predict everybody in one batch; the answers come in the order of the windows."""
        if not windows:
            return []
        memories = [self._recall(window) for window in windows]
        positions = np.stack([window.positions for window in windows])
        # In float32 a person 100 km from the origin would be a staircase: predict near zero.
        origin = positions[:, -1:, :1]
        answer = self._solve(torch.from_numpy(positions - origin), windows, memories)
        future_m = answer.future.double().cpu().numpy() + origin
        residuals, steps = answer.found.residual.tolist(), answer.found.steps.tolist()
        converged = answer.found.converged.tolist()
        predictions = []
        for index, window in enumerate(windows):
            warm = memories[index] is not None
            report = SolverReport(steps[index], residuals[index], converged[index], warm)
            self._remember(window, answer, index, future_m[index], report)
            predictions.append(self._answer(window, future_m[index], report))
        return predictions

    def _recall(self, window: Window) -> Memory | None:
        if window.restarted or not self.config.warm_start:
            self._memories.pop(window.person_id, None)
        return self._memories.get(window.person_id)

    @torch.inference_mode()
    def _solve(
        self,
        positions: Float[Tensor, 'batch time joint xyz=3'],
        windows: Sequence[Window],
        memories: Sequence[Memory | None],
    ) -> '_Solution':
        observed = positions.to(self.device, self._parameter.dtype)
        in_sight = self._in_sight(windows)
        settings = SolverSettings(
            self.config.max_steps,
            self.config.tolerance,
            motion_tolerance_m=self.config.motion_tolerance_m,
        )
        plain = self._fused is None or self._module.correction is not None
        seen = self._module.observe(observed, in_sight) if plain else None
        starts = self._starts(windows, memories, seen) or [None] * len(observed)
        if self._fused is not None:
            answer = self._fused.predict(observed, in_sight, starts, settings)
            return _Solution(*answer, seen)
        assert seen is not None
        condition = self._module.condition(seen)
        start = self._joined(starts, observed, in_sight)
        found = self._module.solve(condition, start, settings)
        state = self._module.unpack(found.state, condition)
        return _Solution(self._module.decode(state, observed[:, -1]), state, found, seen)

    def _starts(
        self, windows: Sequence[Window], memories: Sequence[Memory | None], seen: Features | None
    ) -> list[State | None]:
        """Return where people ended last, each as a batch of one; None who is new."""
        known = [(row, each) for row, each in enumerate(memories) if each is not None]
        starts: list[State | None] = [None] * len(memories)
        if known and self._module.correction is not None:
            assert seen is not None
            rows = [row for row, _ in known]
            own = [windows[row] for row in rows]
            carried = carry_over(self._module, [each for _, each in known], own, seen.rows(rows))
            for place, row in enumerate(rows):
                starts[row] = carried.rows([place])
        else:
            for row, memory in known:
                starts[row] = memory.state
        return starts

    def _joined(
        self,
        starts: Sequence[State | None],
        observed: Float[Tensor, 'batch time joint xyz=3'],
        in_sight: Bool[Tensor, 'batch joint'] | None,
    ) -> State:
        """Return one batch of where to start; from their last pose for those who are new."""
        if any(each is None for each in starts):
            lifted = self._module.lift(observed, in_sight)
            starts = [each or lifted.rows([row]) for row, each in enumerate(starts)]
        known = [each for each in starts if each is not None]
        return State(
            torch.cat([each.geometry for each in known]),
            torch.cat([each.pattern for each in known]),
        )

    def _in_sight(self, windows: Sequence[Window]) -> Bool[Tensor, 'batch joint'] | None:
        """Return which joints were seen; None if all were."""
        if all(window.seen.all() for window in windows):
            return None
        return torch.from_numpy(np.stack([window.seen for window in windows])).to(self.device)

    def _remember(
        self,
        window: Window,
        answer: '_Solution',
        index: int,
        future: Float64[np.ndarray, 'horizon joint xyz=3'],
        report: SolverReport,
    ) -> None:
        """Keep what the next prediction starts from, unless it would lead it astray."""
        if not report.residual <= self.config.max_residual:
            self._memories.pop(window.person_id, None)
            return
        self._memories[window.person_id] = Memory(
            window.stamp_ns,
            answer.state.rows([index]),
            None if answer.seen is None else answer.seen.rows([index]),
            np.concatenate([window.positions[-1:], future]),
        )

    def _answer(
        self,
        window: Window,
        future: Float64[np.ndarray, 'horizon joint xyz=3'],
        report: SolverReport,
    ) -> Prediction:
        validity, reason = Validity.OK, self._inferred(window)
        if not np.isfinite(future).all():
            return Prediction(
                window.person_id,
                window.stamp_ns,
                Validity.NOT_CONVERGED,
                'the solver left the finite numbers',
                window,
                solver=report,
            )
        if not report.residual <= self.config.max_residual:
            validity = Validity.NOT_CONVERGED
            reason = f'residual {report.residual:.2g} above {self.config.max_residual:g}'
        return Prediction(
            window.person_id,
            window.stamp_ns,
            validity,
            reason,
            window,
            future,
            self._covariances(window),
            report,
        )

    def _covariances(
        self, window: Window
    ) -> Float64[np.ndarray, 'horizon joint xyz=3 xyz=3'] | None:
        residuals = self._trained.residuals
        return (
            None if residuals is None else residuals.covariances(window.positions, self.period_s)
        )

    def _inferred(self, window: Window) -> str:
        absent = np.zeros_like(window.seen) if window.inferred is None else window.inferred
        said = [
            ('out of sight, inferred', self._names(~window.seen & ~absent)),
            ('not in the source, inferred', self._names(absent)),
        ]
        return '; '.join(f'{what}: {", ".join(names)}' for what, names in said if names)

    def _names(self, joints: Bool[np.ndarray, ' joint']) -> list[str]:
        return [self.joint_names[joint] for joint in np.flatnonzero(joints)]


def _as_it_runs(
    module: MotionDEQ, config: PredictionConfig, pool: WorkerPool
) -> FusedMotionDEQ | GraphedMotionDEQ | None:
    """Return the model in the form that is fastest where it is; None: as it stands."""
    if config.cuda_graph:
        check_on_gpu(module.out.weight.device, 'prediction.cuda_graph')
        return GraphedMotionDEQ(module)
    return fold(module, pool)


@dataclass(frozen=True)
class _Solution:
    """What one batch was solved to; `seen` only where somebody will read it."""

    future: Float[Tensor, 'batch horizon joint xyz=3']
    state: State
    found: FixedPoint
    seen: Features | None
