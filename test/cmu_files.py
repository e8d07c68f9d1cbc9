# SPDX-License-Identifier: Apache-2.0
"""Small files of the CMU benchmark's form, and its published numbers of joints."""

import json
from pathlib import Path

import numpy as np

from motion_predictor_ros.data.cmu import JOINT_NAMES

# As the literature's code writes them: which joints are not fed, and which take another's place.
IGNORED = [0, 1, 2, 7, 8, 13, 16, 20, 29, 24, 27, 33, 36]
COPY_TO = [16, 20, 29, 24, 27, 33, 36]
COPY_FROM = [15, 15, 15, 23, 23, 32, 32]
USED = [joint for joint in range(38) if joint not in IGNORED]


def write_benchmark(path: Path, clips: dict[str, np.ndarray], **changes: object) -> Path:
    """Write clips as the benchmark file holds them; `changes` go to its metadata."""
    meta = {'joint_names': JOINT_NAMES} | changes
    np.savez(path, __meta__=np.array(json.dumps(meta)), **clips)
    return path


def obey(positions: np.ndarray) -> np.ndarray:
    """Fix the joints that never move in the benchmark, and copy the coinciding ones."""
    positions = positions.copy()
    positions[:, IGNORED] = positions[:1, IGNORED]
    positions[:, COPY_TO] = positions[:, COPY_FROM]
    return positions.astype(np.float32)


def wander(frames: int, seed: int) -> np.ndarray:
    """Draw a clip [mm] of joints that swing smoothly."""
    random = np.random.default_rng(seed)
    rest, swing = random.normal(scale=400, size=(2, 1, 38, 3))
    phase = random.uniform(0, 6, size=(1, 38, 1))
    return obey(rest + 0.3 * swing * np.sin(0.2 * np.arange(frames)[:, None, None] + phase))


def march(frames: int, step: float) -> np.ndarray:
    """Let every joint that may move go by `step` [mm] along x in every frame."""
    positions = np.random.default_rng(0).normal(scale=400, size=(1, 38, 3)).repeat(frames, axis=0)
    positions[..., 0] += step * np.arange(frames)[:, None]
    return obey(positions)
