# SPDX-License-Identifier: Apache-2.0
"""Synthetic recordings, and a recipe that trains on them in seconds."""

import numpy as np

from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQConfig
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.recipe import EquilibriumConfig, MotionDEQRecipe, ScheduleConfig

SCHEDULE = ScheduleConfig(steps=40, batch=8, learning_rate=5e-3, validate_every=20)
RECIPE = MotionDEQRecipe(
    model=MotionDEQConfig(joints=18, past=5, future=5, channels=8, patterns=8),
    schedule=SCHEDULE,
    equilibrium=EquilibriumConfig(solver_steps=4, hinge_weight=0.3),
)


def walkers() -> Recordings:
    """Return two people who swing their joints while they walk; one trains, one validates."""
    random = np.random.default_rng(0)
    times = np.arange(200)[:, None, None] / 50
    clips, kept = [], []
    for number, split in enumerate(('train', 'val')):
        phase = random.uniform(0, 6, size=(18, 1))
        swing = 0.2 * np.sin(5 * times + phase) * np.array([1.0, 0.3, 0.5])
        path = random.normal(scale=0.4, size=(18, 3)) + swing + times * np.array([1.0, 0.2, 0.0])
        clips.append(Clip(f'{number}', f'{number}', split, False, 200 * number, 200))
        kept.append(path.astype(np.float32))
    names = SkeletonLayout.load('body18').joint_names
    return Recordings(names, 50.0, np.concatenate(kept), tuple(clips), ())
