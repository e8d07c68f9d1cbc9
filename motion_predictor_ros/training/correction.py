# SPDX-License-Identifier: Apache-2.0
"""Train the correction adapter of a MotionDEQ that is already trained, which stays as it is.

A window and one a moment later (mostly one model frame, else half a frame to three, as cameras of
different rates have it) are solved; the adapter is trained to predict the later fixed point from
the earlier one. Its loss is on the decoded motion: that of the prediction, and
one iteration after it, should be that of the fixed point; and, with little weight, so should the
state.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.prediction.motion_deq.cell import Condition, State
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.correction import Innovation
from motion_predictor_ros.prediction.motion_deq.layers import Past
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.recipe import ScheduleConfig
from motion_predictor_ros.training.windows import SamplingConfig, WindowSampler

SCHEDULE = ScheduleConfig(
    steps=1500, batch=32, learning_rate=3e-3, warmup_steps=50, validate_every=250
)
"""Most of the gain is reached after a few hundred steps."""

_FINER = 2
"""Sub-frames per frame of the model clock: a moment is a whole number of them."""

_LONGEST = 6
_ON_CLOCK = 0.5
"""Share of the batches whose windows are exactly one model frame apart."""

_GUESS_WEIGHT, _STATE_WEIGHT = 0.3, 0.1


class CorrectionTask:
    """The adapter with its frozen model and data, ready for `loop.train`."""

    kind = 'motion_deq'

    def __init__(
        self,
        trained: TrainedMotionDEQ,
        recordings: Recordings,
        device: torch.device,
        schedule: ScheduleConfig = SCHEDULE,
    ) -> None:
        recordings.check_joints(trained.joint_names)
        torch.manual_seed(schedule.seed)
        self._trained, self._schedule = trained, schedule
        config = dataclasses.replace(trained.module.config, correction=True)
        self.module = MotionDEQ(config).to(device)
        state_dict = self.module.state_dict() | trained.module.state_dict()
        self.module.load_state_dict(state_dict)
        self.module.requires_grad_(False)
        assert self.module.correction is not None
        self._adapter = self.module.correction.requires_grad_(True)
        self._samplers = {
            split: self._sampler(recordings, split, device) for split in ('train', 'val')
        }

    def header(self) -> dict[str, Any]:
        """Return the header: configuration of the model, and of both trainings."""
        return {
            'name': self._trained.name,
            'config': dataclasses.asdict(self.module.config),
            'joint_names': list(self._trained.joint_names),
            'training': {
                **self._trained.training,
                'correction': {
                    'of': self._trained.name,
                    'schedule': dataclasses.asdict(self._schedule),
                },
            },
        }

    def step(self, index: int) -> dict[str, float]:
        """Accumulate the gradients of one batch; the batch follows from seed and index alone."""
        generator = torch.Generator().manual_seed(self._schedule.seed * 1_000_003 + index)
        motion, guess, state = self._losses('train', generator)
        (motion + _GUESS_WEIGHT * guess + _STATE_WEIGHT * state).backward()
        return {'motion': float(motion.detach()), 'guess': float(guess.detach())}

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return how far the guess, and one iteration after it, are from the fixed point [mm]."""
        sums = torch.zeros(2)
        batches = 8
        for index in range(batches):
            motion, guess, _ = self._losses('val', torch.Generator().manual_seed(index))
            sums += torch.stack([motion, guess]).cpu().float() / batches
        figures = {'score': float(sums[0]), 'guess_mm': 1e3 * float(sums[1])}
        return {**figures, 'one_step_mm': 1e3 * float(sums[0])}, {}

    def _sampler(self, recordings: Recordings, split: str, device: torch.device) -> WindowSampler:
        config = self.module.config
        layout = SkeletonLayout.load(self._trained.training['recipe']['layout'])
        return WindowSampler(
            recordings.select(lambda clip: clip.split == split),
            _FINER * (config.past - 1) + 1 + _LONGEST,
            config.period_s / _FINER,
            layout.mirror,
            SamplingConfig(),
            device,
        )

    def _losses(self, split: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return decoded distance after one iteration, of the guess [m], and that of the state."""
        sub_frames = int(torch.randint(1, _LONGEST + 1, (), generator=generator))
        if float(torch.rand((), generator=generator)) < _ON_CLOCK:
            sub_frames = _FINER
        series = self._samplers[split].draw(self._schedule.batch, generator)
        span = _FINER * (self.module.config.past - 1) + 1
        earlier = series[:, :span:_FINER]
        later = series[:, sub_frames : sub_frames + span : _FINER]
        state, innovation, condition, goal = self._rounds(earlier, later, sub_frames / _FINER)
        guess = self._adapter(state, innovation)
        after = self.module.cell(guess, condition)
        wanted = self.module.offsets(goal)
        distance = [
            (self.module.offsets(item) - wanted).square().sum(-1).add(1e-12).sqrt().mean()
            for item in (after, guess)
        ]
        packed = self.module.pack(guess, condition) - self.module.pack(goal, condition)
        return distance[0], distance[1], packed.square().sum(1).mean()

    @torch.no_grad()
    def _rounds(
        self, earlier: Past, later: Past, frames: float
    ) -> tuple[State, Innovation, Condition, State]:
        """Solve both windows; return the earlier fixed point, the new condition, the later one."""
        model, settings = self.module, SolverSettings()
        before, now = model.observe(earlier), model.observe(later)
        condition = model.condition(before)
        solution = model.solve(condition, model.lift(earlier), settings)
        state = model.unpack(solution.state, condition)
        path = torch.cat([earlier[:, -1:], model.decode(state, earlier[:, -1])], dim=1)
        low = min(int(frames), path.shape[1] - 2)
        predicted = torch.lerp(path[:, low], path[:, low + 1], frames - low)
        elapsed = torch.full((len(path),), frames, device=path.device, dtype=path.dtype)
        innovation = Innovation(before, now, later[:, -1] - predicted, elapsed)
        condition = model.condition(now)
        goal = model.solve(condition, state, settings)
        return state, innovation, condition, model.unpack(goal.state, condition)
