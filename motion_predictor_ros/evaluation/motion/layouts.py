# SPDX-License-Identifier: Apache-2.0
"""The cost of a source's layout: errors of the joints that it does not include.

Recorded people are mapped to each layout: joints of the layout are exact,
the others are inferred as on a robot. So this excludes a tracker's own errors, and
where a tracker's joint is not quite ours, that is not in it either.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool
from rich.console import Console
from tqdm import tqdm

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.evaluation.motion.mocap import predict_windows
from motion_predictor_ros.evaluation.tables import print_table
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.scoring.metrics import Poses, Windows, mean_joint_error, mpjpe_mm
from motion_predictor_ros.skeleton.completion import Inference, StandIns, shipped_proportions
from motion_predictor_ros.skeleton.frame import Window
from motion_predictor_ros.skeleton.joint_map import load_joint_map
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.plausibility import Plausibility
from motion_predictor_ros.training.windows import every_window

WINDOW_EVERY_S = 1.0
_SHOWN_MS = ('400', '1000')


def mapped_layouts(target: SkeletonLayout) -> list[str]:
    """List the shipped layouts with a mapping to `target`."""
    names = []
    for path in sorted(share_file('config', 'skeletons').glob('*.yaml')):
        try:
            load_joint_map(path.stem, target)
        except ConfigError:
            continue
        names.append(path.stem)
    return names


def evaluate_sources(
    recordings: Recordings, trained: TrainedMotionDEQ, *, progress: bool = False
) -> dict[str, Any]:
    """Return, by layout, errors of the inferred joints and of predictions from them [mm].

    Raises:
        DataError: The recordings are not of body18 and the model's joints, or are too short.
    """
    target = SkeletonLayout.load('body18')
    if not recordings.joint_names == trained.joint_names == target.joint_names:
        raise DataError(f'recordings have joints {recordings.joint_names}, expected body18')
    shape = trained.module.config
    length = shape.past + shape.future
    windows = every_window(recordings, length, shape.period_s, WINDOW_EVERY_S).double().numpy()
    alike: dict[bytes, dict[str, Any]] = {}
    report: dict[str, Any] = {
        'windows': len(windows),
        'clips': len(recordings.clips),
        'layouts': {},
    }
    for name in tqdm(
        mapped_layouts(target), unit='layout', leave=False, disable=None if progress else True
    ):
        given = load_joint_map(name, target).given
        if given.tobytes() not in alike:
            alike[given.tobytes()] = _judge(windows, given, target, trained)
        report['layouts'][name] = alike[given.tobytes()]
    return report


def _judge(
    windows: Windows,
    given: Bool[np.ndarray, ' joint'],
    target: SkeletonLayout,
    trained: TrainedMotionDEQ,
) -> dict[str, Any]:
    past = trained.module.config.past
    truth, observed = windows[:, past:], _retarget(windows[:, :past], given, target)
    gaps_mm = 1000 * np.linalg.norm(observed - windows[:, :past], axis=-1)
    absent = np.flatnonzero(~given)
    stand_ins = StandIns(target).choose(given)
    everything = np.ones(len(given), dtype=bool)
    return {
        'inferred': {
            target.joint_names[joint]: {
                'error_mm': float(gaps_mm[..., joint].mean()),
                'error_p95_mm': float(np.percentile(gaps_mm[..., joint], 95)),
                'bone_cv': _bone_variation(observed, target, int(joint)),
                'bone_cv_true': _bone_variation(windows[:, :past], target, int(joint)),
            }
            for joint in absent
        },
        'error_mm': float(gaps_mm.mean()),
        'mpjpe_mm': _predict(observed, truth, everything, trained),
        'mpjpe_stand_ins_mm': _predict(observed[:, :, stand_ins], truth, given, trained),
        **_recognised(observed, given, target),
    }


def _retarget(
    poses: Windows, given: Bool[np.ndarray, ' joint'], target: SkeletonLayout
) -> Windows:
    """Remove the joints that a layout does not include, and infer them from the rest."""
    inference = Inference(target, shipped_proportions())
    observed = np.where(given[:, None], poses, np.nan)
    for pose in observed.reshape(-1, *observed.shape[2:]):
        filled = inference.fill(pose, ~given)
        assert np.array_equal(filled, ~given)
    return observed


def _bone_variation(poses: Windows, target: SkeletonLayout, joint: int) -> float:
    """Return by which share a bone's length varies within a window, on average."""
    bone = poses[:, :, joint] - poses[:, :, target.parents[joint]]
    lengths = np.linalg.norm(bone, axis=-1)
    return float((lengths.std(axis=1) / lengths.mean(axis=1)).mean())


def _predict(
    observed: Windows,
    truth: Windows,
    is_observed: Bool[np.ndarray, ' joint'],
    trained: TrainedMotionDEQ,
) -> dict[str, float]:
    visible = None if is_observed.all() else np.tile(is_observed, (len(observed), 1))
    future, _ = predict_windows(trained, observed, visible)
    config = trained.module.config
    horizons_s = config.period_s * np.arange(1, config.future + 1)
    return mpjpe_mm(mean_joint_error(future, truth), horizons_s)


def _recognised(
    observed: Windows, given: Bool[np.ndarray, ' joint'], target: SkeletonLayout
) -> dict[str, float]:
    """Return how often sound, mirrored and inverted people are refused."""
    plausibility = Plausibility(target, 'z')
    mirrored = (observed * [1.0, -1.0, 1.0]).copy()
    inverted = (observed * [1.0, -1.0, -1.0]).copy()
    return {
        name: float(np.mean([_fault(plausibility, pose, given) == wanted for pose in poses]))
        for name, poses, wanted in (
            ('sound_refused_mirrored', observed, 'mirrored'),
            ('sound_refused_upside_down', observed, 'upside_down'),
            ('mirrored_found', mirrored, 'mirrored'),
            ('upside_down_found', inverted, 'upside_down'),
        )
    }


def _fault(plausibility: Plausibility, poses: Poses, given: Bool[np.ndarray, ' joint']) -> str:
    observed = np.ones(poses.shape[:2], dtype=bool)
    fault = plausibility.fault(
        Window(
            '', 1, poses, observed, observed.astype(np.float32), restarted=False, inferred=~given
        )
    )
    return '' if fault is None else fault[0]


def print_sources(report: Mapping[str, Any], console: Console) -> None:
    """Print one row per layout."""
    rows: dict[str, dict[str, str]] = {}
    for name, item in report['layouts'].items():
        joints = [
            f'{joint} {figures["error_mm"]:.0f} ({figures["error_p95_mm"]:.0f})'
            for joint, figures in item['inferred'].items()
        ]
        errors = [
            ' / '.join(f'{item[key][ms]:.1f}' for ms in _SHOWN_MS if ms in item[key])
            for key in ('mpjpe_mm', 'mpjpe_stand_ins_mm')
        ]
        refused = item['sound_refused_mirrored'] + item['sound_refused_upside_down']
        rows[name] = {
            'inferred\n[mm] (95 %)': '\n'.join(joints) or '-',
            'all\n[mm]': f'{item["error_mm"]:.1f}',
            'MPJPE [mm]\n400 / 1000 ms': errors[0],
            'with\nstand-ins': errors[1],
            'mirror\nfound': f'{100 * item["mirrored_found"]:.1f} %',
            'sound\nrefused': f'{100 * refused:.1f} %',
        }
    title = f'{report["clips"]} clips, {report["windows"]} windows'
    print_table(rows, title, 'layout', console)
