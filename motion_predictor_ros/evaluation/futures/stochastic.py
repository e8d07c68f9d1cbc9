# SPDX-License-Identifier: Apache-2.0
"""Judge many futures: accuracy, diversity, density and time, of all samplers on equal terms.

Conventions, which differ between papers:
    windows        all that begin `EVERY_S` apart
    root dropped   every joint relative to the root at the same time, root left out, turned into
                   the heading at the last observation; the literature's figures are of this kind
    recentred      samples moved towards MotionDEQ's prediction, as in the pipeline; all but
                   `cache_flow_as_drawn` and the Gaussians, which stand around a prediction already
    root included  all joints, relative to the last observed root, rotated likewise
    similar        last observed poses, root dropped, within 0.5 m (or as asked) as one vector
    multimodal     MMADE, MMFDE and log-probability count every window, also those whose only
                   similar future is their own; how many have more is `multimodal_windows`
    log-prob       of the latents x (8-d, whitened) of all similar futures, mean over futures, then
                   over windows, per dimension [nat]; exact where the sampler has a density, a
                   kernel density over its samples' x elsewhere
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from rich.console import Console
from torch import Tensor
from tqdm import tqdm

from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.recentring import recentre
from motion_predictor_ros.evaluation.futures.metrics import (
    cumulative_motion_distance,
    displacement_errors,
    kernel_log_density,
    motion_per_frame,
    pairwise_diversity,
    similar_starts,
)
from motion_predictor_ros.evaluation.futures.samplers import FutureSampler, SampledFutures
from motion_predictor_ros.evaluation.motion.mocap import predict_windows
from motion_predictor_ros.evaluation.tables import by_group, print_groups, print_table
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.training.windows import windows_with_clips

EVERY_S = 0.4
SIMILAR_M = 0.5

_ERRORS = ('apd', 'ade_m', 'fde_m', 'mmade_m', 'mmfde_m')
_CHUNK = 16
_TIMED = 20
_CONVENTIONS = (
    'plain figures: root dropped, whole-pose norms [m], best of the samples; root_included: with '
    'root; multimodal: futures of starts within similar_m, windows with one such future counted'
)


@dataclass(frozen=True)
class Case:
    """All windows, and their true futures.

    Attributes:
        windows: [m], in the recordings' frame.
        clips: The clip of each window.
        predicted: By MotionDEQ [m]; None leaves samples where they are.
        past: Observed poses in the body frame [m].
        poses: True futures, flat, root dropped [m].
        placed: The same with root [m].
        x, z, log_det: Latents of the true futures.
        similar: Pairs of windows whose futures count as possible for each other.
    """

    windows: Float64[np.ndarray, 'window time joint xyz=3']
    clips: tuple[Clip, ...]
    similar: Bool[Tensor, 'window window']
    similar_m: float
    predicted: Float64[np.ndarray, 'window some joint xyz=3'] | None
    past: Float[Tensor, 'window seen posed xyz=3']
    poses: Float[Tensor, 'window horizon size']
    placed: Float[Tensor, 'window horizon placed']
    x: Float[Tensor, 'window latent']
    z: Float[Tensor, 'window latent']
    log_det: Float[Tensor, ' window']


@torch.inference_mode()
def make_case(
    trained: TrainedCacheFlow,
    recordings: Recordings,
    similar_m: float = SIMILAR_M,
    motion_deq: TrainedMotionDEQ | None = None,
) -> Case:
    """Cut windows and compute their latents.

    Args:
        similar_m: Poses nearer than this are similar; the literature has 0.4 for AMASS [m].
        motion_deq: Samples are moved towards its prediction, as the pipeline does.

    Raises:
        DataError: The recordings have other joints than the model, or are too short.
    """
    recordings.check_joints(trained.joint_names)
    model, config = trained.module, trained.module.config
    windows, clips = windows_with_clips(
        recordings, config.past + config.future, config.period_s, EVERY_S
    )
    rows = []
    for chunk in windows.split(256):
        placement = trained.frame.place(chunk[:, config.past - 1])
        entered = trained.frame.enter(chunk, placement).to(next(model.parameters()))
        past, future = entered.split([config.past, config.future], dim=1)
        x = model.latent(past, future)
        last = _dropped(past[:, -1:], trained)[:, 0]
        poses = _dropped(future, trained), _placed(future, trained)
        rows.append((past, *poses, x, *model.flow.pull(x), last))
    *columns, last = (torch.cat(column) for column in zip(*rows, strict=True))
    similar = similar_starts(last, similar_m)
    every, predicted = windows.double().numpy(), None
    if motion_deq is not None:
        first = config.past - motion_deq.module.config.past
        predicted, _ = predict_windows(motion_deq, every[:, first : config.past])
    return Case(every, clips, similar, similar_m, predicted, *columns)


def _dropped(
    poses: Float[Tensor, '*batch horizon posed xyz=3'], trained: TrainedCacheFlow
) -> Float[Tensor, '*batch horizon size']:
    """Leave the root out and flatten."""
    root = trained.frame.root
    return torch.cat([poses[..., :root, :], poses[..., root + 1 :, :]], dim=-2).flatten(-2)


def _placed(
    poses: Float[Tensor, '*batch horizon posed xyz=3'], trained: TrainedCacheFlow
) -> Float[Tensor, '*batch horizon placed']:
    """Put all joints where the root is, and flatten."""
    root = trained.frame.root
    moved = poses + poses[..., root : root + 1, :]
    moved[..., root, :] = poses[..., root, :]
    return moved.flatten(-2)


@torch.inference_mode()
def evaluate_stochastic(
    case: Case, trained: TrainedCacheFlow, samplers: Mapping[str, FutureSampler]
) -> dict[str, Any]:
    """Return the figures of every sampler, under its name."""
    report: dict[str, Any] = {
        'windows': len(case.windows),
        'multimodal_windows': int((case.similar.sum(1) > 1).sum()),
        'similar_futures_mean': float(case.similar.double().sum(1).mean()),
        'similar_m': case.similar_m,
        'conventions': _CONVENTIONS,
        'model': trained.name,
    }
    scores_by_name: dict[str, _Scores] = {}
    bar = tqdm(samplers.items(), leave=False, disable=None)
    for name, sampler in bar:
        bar.set_postfix_str(name)
        scores = _Scores(case, trained)
        for start in range(0, len(case.windows), _CHUNK):
            observed = case.windows[start : start + _CHUNK, : trained.module.config.past]
            scores.count(sampler(observed), start)
        scores_by_name[name] = scores
        report[name] = scores.figures() | {'inference_ms': _inference_ms(sampler, case, trained)}
        if name == 'cache_flow':
            report['kde_latent'] = {'log_prob_per_dim': scores.mean('kde_latent')}
            report['kde_motion'] = {'log_prob_per_motion_dim': scores.mean('kde_motion')}
    return report | by_group(
        case.clips,
        lambda chosen: {name: scores.of_cases(chosen) for name, scores in scores_by_name.items()},
    )


class _Scores:
    """The figures of one sampler so far."""

    def __init__(self, case: Case, trained: TrainedCacheFlow) -> None:
        self._case, self._trained = case, trained
        self._rows: dict[str, list[float]] = {}
        self._motion: list[Tensor] = []

    def count(self, answer: SampledFutures, start: int) -> None:
        """Add a batch whose first window is `start`."""
        case, trained = self._case, self._trained
        past = trained.module.config.past
        people, futures = answer.positions.shape[:2]
        last = torch.from_numpy(case.windows[start : start + people, past - 1])
        placement = trained.frame.place(last)
        flat = torch.from_numpy(self._recentred(answer, start)).flatten(1, 2)
        entered = trained.frame.enter(flat, placement).to(case.poses)
        poses = entered.unflatten(1, (futures, -1))
        latents = answer.latents
        if latents is None:  # encoded as if they were the true futures
            observed = case.past[start : start + people].repeat_interleave(futures, dim=0)
            x = trained.module.latent(observed, poses.flatten(0, 1))
            latents = x.unflatten(0, (people, futures))
        dropped, placed = _dropped(poses, trained), _placed(poses, trained)
        self._motion.append(motion_per_frame(dropped).mean(1))
        self._add('apd', pairwise_diversity(dropped))
        self._add('root_apd', pairwise_diversity(placed))
        for index in range(people):
            like = case.similar[start + index]
            self._errors('', dropped[index], case.poses, start + index, like)
            self._errors('root_', placed[index], case.placed, start + index, like)
            self._densities(answer, latents[index], dropped[index], index, like)
        if answer.effective is not None:
            self._add('effective_sample_size', answer.effective)

    def _recentred(
        self, answer: SampledFutures, start: int
    ) -> Float64[np.ndarray, 'batch future horizon joint xyz=3']:
        if self._case.predicted is None or not answer.recentred:
            return answer.positions
        people, _, horizons = answer.positions.shape[:3]
        times_s = self._trained.module.config.period_s * np.arange(1, horizons + 1)
        predicted = self._case.predicted[start : start + people]
        return recentre(answer.positions, times_s, predicted, self._trained.frame.root)

    def _errors(
        self,
        prefix: str,
        samples: Float[Tensor, 'future horizon size'],
        truths: Float[Tensor, 'window horizon size'],
        case_index: int,
        like: Bool[Tensor, ' window'],
    ) -> None:
        average, final = displacement_errors(samples, truths[like])
        index = int(like[:case_index].sum())  # index of the true future among the similar ones
        self._add(f'{prefix}ade_m', average[index])
        self._add(f'{prefix}fde_m', final[index])
        self._add(f'{prefix}mmade_m', average.mean())
        self._add(f'{prefix}mmfde_m', final.mean())

    def _densities(
        self,
        answer: SampledFutures,
        latents: Float[Tensor, 'future latent'],
        samples: Float[Tensor, 'future horizon size'],
        index: int,
        like: Bool[Tensor, ' window'],
    ) -> None:
        case = self._case
        by_kernel = kernel_log_density(latents.double(), case.x[like].double())
        self._add('kde_latent', by_kernel.mean() / latents.shape[1])
        truths = case.poses[like].flatten(1).double()
        motion = kernel_log_density(samples.flatten(1).double(), truths)
        self._add('kde_motion', motion.mean() / samples[0].numel())
        if answer.density is None:
            self._add('log_prob_per_dim', by_kernel.mean() / latents.shape[1])
            return
        row = type(answer.density)(
            *(tensor[index : index + 1] for tensor in vars(answer.density).values())
        )
        places = case.z if answer.of_base else case.x
        exact = row.log_prob(places[like][None])[0]
        exact = exact + (case.log_det[like] if answer.of_base else 0.0)
        self._add('log_prob_per_dim', exact.mean() / latents.shape[1])

    def _add(self, name: str, values: Tensor) -> None:
        self._rows.setdefault(name, []).extend(values.double().flatten().tolist())

    def mean(self, name: str) -> float:
        """Return the mean over windows."""
        return float(np.mean(self._rows[name]))

    def of_cases(self, chosen: Bool[np.ndarray, ' case']) -> dict[str, float]:
        """Return the means over some of the windows."""
        names = ('ade_m', 'fde_m', 'root_ade_m', 'root_fde_m', 'log_prob_per_dim')
        rows = {name: self._rows[name] for name in names if name in self._rows}
        return {name: float(np.array(values)[chosen].mean()) for name, values in rows.items()}

    def figures(self) -> dict[str, Any]:
        """Return means over windows; root-included ones apart."""
        names = (*_ERRORS, 'log_prob_per_dim', 'effective_sample_size')
        summary: dict[str, Any] = {name: self.mean(name) for name in names if name in self._rows}
        sampled = torch.cat(self._motion).mean(0)
        summary['cmd'] = float(
            cumulative_motion_distance(sampled, motion_per_frame(self._case.poses).mean())
        )
        summary['root_included'] = {name: self.mean(f'root_{name}') for name in _ERRORS}
        return summary


def _inference_ms(sampler: FutureSampler, case: Case, trained: TrainedCacheFlow) -> float:
    """Return the median time of one person's answer [ms]."""
    spent = []
    for index in np.linspace(0, len(case.windows) - 1, _TIMED).astype(int):
        observed = case.windows[index : index + 1, : trained.module.config.past]
        begin = time.perf_counter()
        sampler(observed)
        spent.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(spent))


def print_stochastic(report: Mapping[str, Any], console: Console) -> None:
    """Print one table, root dropped, and a second one with it."""
    samplers = {
        key.replace('_', ' '): value
        for key, value in report.items()
        if isinstance(value, dict) and not key.startswith('by_')
    }
    placed = {k: v['root_included'] for k, v in samplers.items() if 'root_included' in v}
    title = f'{report["model"]}, {report["windows"]} windows, root dropped'
    rest = ('cmd', 'log_prob_per_dim', 'effective_sample_size', 'inference_ms')
    for head, rows in ((title, samplers), ('root included', placed)):
        cells = {
            name: {
                key.removesuffix('_m').replace('_', '\n'): figures[key]
                for key in (*_ERRORS, *rest)
                if key in figures
            }
            for name, figures in rows.items()
        }
        if any(cells.values()):
            print_table({k: v for k, v in cells.items() if v}, head, 'model', console, form='.3f')
    columns = {
        head: (lambda figures, key=key: float(figures['cache_flow'][key]))
        for head, key in (('log p', 'log_prob_per_dim'), ('FDE', 'fde_m'), ('ADE', 'ade_m'))
    }
    if 'cache_flow' in report:
        density = report['kde_motion']['log_prob_per_motion_dim']
        console.print(rf'kde_motion: {density:.3f} per coordinate \[m], in a scale of its own')
        print_groups(report['by_kind'], columns, 'kind of motion', console)
        print_groups(report['by_subject'], columns, 'subject', console)
    console.print(report['conventions'], markup=False)
