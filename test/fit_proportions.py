# SPDX-License-Identifier: Apache-2.0
"""Measure how bodies are built, so that joints which a tracker leaves out can be put in place."""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.data.recordings import Recordings, load_recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.completion import LIMBS, Proportions, axes_of

_EVERY_S = 0.2
_SYMMETRIC = np.array([1.0, 0.0, 1.0])
"""Ahead, left, up: no body has its neck to one side."""


def fit_proportions(recordings: Recordings) -> Proportions:
    """Return the mean over frames of every clip that was not retargeted.

    Raises:
        DataError: There is no such clip, or its joints are not those of body18.
    """
    index = {name: joint for joint, name in enumerate(recordings.joint_names)}
    wanted = {
        'pelvis',
        'chest',
        'neck',
        'head',
        'l_foot',
        *(name for bone in LIMBS for name in bone),
    }
    if not wanted <= set(index):
        raise DataError(f'recordings have joints {recordings.joint_names}, expected body18')
    step = max(round(_EVERY_S * recordings.fps), 1)
    frames = [
        frame
        for clip in recordings.clips
        if not clip.retargeted
        for frame in range(clip.start, clip.start + clip.length, step)
    ]
    if not frames:
        raise DataError('no clip that was not retargeted')
    bodies = [_measure(recordings.positions[frame].astype(np.float64), index) for frame in frames]
    names = ('limbs', 'neck', 'head', 'foot', 'chest')
    return Proportions(
        **{name: np.mean([body[name] for body in bodies], axis=0) for name in names}
    )


def _measure(
    pose: Float64[np.ndarray, 'joint xyz=3'], index: dict[str, int]
) -> dict[str, Float64[np.ndarray, ' some']]:
    """Return one pose in units of its size."""
    at = {name: pose[joint] for name, joint in index.items()}
    limbs = np.array([np.linalg.norm(at[a] - at[b]) for a, b in LIMBS])
    size = limbs.sum()
    hips, shoulders = ((at[f'l_{j}'] + at[f'r_{j}']) / 2 for j in ('hip', 'shoulder'))
    chest = axes_of(at['l_shoulder'] - at['r_shoulder'], shoulders - hips, keep_up=False)
    feet = []
    for side, outwards in (('l', 1.0), ('r', -1.0)):
        shank = at[f'{side}_knee'] - at[f'{side}_ankle']
        axes = axes_of(at['l_hip'] - at['r_hip'], shank, keep_up=True)
        feet.append(axes.T @ (at[f'{side}_foot'] - at[f'{side}_ankle']) * [1.0, outwards, 1.0])
    spine = at['neck'] - at['pelvis']
    back = axes_of(at['l_shoulder'] - at['r_shoulder'], spine, keep_up=True)
    return {
        'limbs': limbs / size,
        'neck': _SYMMETRIC * (chest.T @ (at['neck'] - shoulders)) / size,
        'head': _SYMMETRIC * (chest.T @ (at['head'] - at['neck'])) / size,
        'foot': np.mean(feet, axis=0) / size,
        'chest': _SYMMETRIC * (back.T @ (at['chest'] - at['pelvis'])) / np.linalg.norm(spine),
    }


def main() -> None:
    """Measure the training clips of a file, and write the YAML that the package ships."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, required=True, help='npz of clips')
    parser.add_argument('--out', type=Path, required=True, help='as config/proportions.yaml')
    options = parser.parse_args()
    proportions = fit_proportions(load_recordings(options.data).of_split('train'))
    lines = [
        '# How bodies are built, in units of the eight limb bones (chest: of the spine).',
        '# Made by test/fit_proportions.py; entries: `Proportions` in skeleton/completion.py.',
    ]
    for name, value in vars(proportions).items():
        lines.append(f'{name}: [{", ".join(f"{number:.4f}" for number in value)}]')
    options.out.write_text('\n'.join([*lines, '']), encoding='utf-8')


if __name__ == '__main__':
    main()
