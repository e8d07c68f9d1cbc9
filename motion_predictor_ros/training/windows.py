# SPDX-License-Identifier: Apache-2.0
"""Cut recordings into windows on the model clock: seeded random batches, or every k-th one.

No Python loop per sample: a batch is one gather and one interpolation.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from motion_predictor_ros.config import param, share
from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.motion_deq.layers import Past


@dataclass(frozen=True)
class SamplingConfig:
    """How training windows are drawn and varied.

    Windows at the recorded speed are cut frame by frame: interpolation smooths nothing in them.
    Of limited subjects and minutes, which ones is drawn with a fixed seed.
    """

    mirror: bool = param(True, 'exchange left and right in half of the windows [-]')
    stretch: float = param(1.25, 'change the speed up to this factor [-]', low=1.0, high=4.0)
    stretch_share: float = share(1.0, 'share of windows at another speed [-]')
    subject_power: float = share(0.5, 'a subject counts as its duration to this power [-]')
    retargeted_weight: float = share(0.3, 'weight of clips retargeted to a foreign figure [-]')
    rare_kinds: str = param('', 'words of the kinds that get `rare_weight` [-]')
    rare_weight: float = share(1.0, 'weight of kinds of motion that robots hardly meet [-]')
    even_kinds: bool = param(False, 'draw each kind equally often, but for rare ones [-]')
    max_subjects: int = param(0, 'largest number of subjects; 0: all [-]', low=0, high=10**6)
    max_minutes: float = param(
        0.0, 'longest duration of all; 0: no limit [min]', low=0.0, high=1e6
    )
    validation_stride_s: float = param(
        0.4, 'time between the starts of validation windows [s]', low=0.04, high=60.0
    )


@dataclass(frozen=True)
class Origins:
    """Where windows were cut.

    Attributes:
        clips: Index into the sampler's `clips`.
        starts: Frame of the clip at which the window begins.
        steps: Frames of the clip per frame of the window; the pace is in it.
    """

    clips: Int64[Tensor, ' batch']
    starts: Float[Tensor, ' batch']
    steps: Float[Tensor, ' batch']


class WindowSampler:
    """Draw windows of `length` frames at `period_s` from recordings.

    Attributes:
        clips: Those long enough to be drawn from.
    """

    def __init__(
        self,
        recordings: Recordings,
        length: int,
        period_s: float,
        mirror: tuple[int, ...],
        config: SamplingConfig,
        device: torch.device,
    ) -> None:
        self._stride = period_s * recordings.fps
        self._offsets = torch.arange(length, dtype=torch.float64)
        span = (length - 1) * self._stride
        clips = [clip for clip in recordings.clips if clip.length > span + 1]
        if not clips:
            raise DataError(f'no clip is as long as a window of {length * period_s:.2f} s')
        self.clips = tuple(clips)
        self._config = config
        self._device = device
        self._mirror = torch.tensor(mirror)
        self._positions = torch.from_numpy(recordings.positions).to(device)
        self._starts = torch.tensor([clip.start for clip in clips])
        self._lengths = torch.tensor([clip.length for clip in clips])
        self._weights = _clip_weights(clips, span, config)

    def draw(self, batch: int, generator: torch.Generator) -> Past:
        """Return a random batch [m]; the generator must live on the CPU."""
        return self.draw_with_origins(batch, generator)[0]

    def draw_with_origins(self, batch: int, generator: torch.Generator) -> tuple[Past, Origins]:
        """Return the batch of `draw`, and its origin."""
        clip = torch.multinomial(self._weights, batch, replacement=True, generator=generator)
        longest = (self._lengths[clip] - 1.001) / ((len(self._offsets) - 1) * self._stride)
        uniform = torch.rand(3, batch, generator=generator, dtype=torch.float64)
        share = self._config.stretch_share
        # One draw decides whether a window is stretched and, scaled to [0, 1), how much.
        stretch = self._config.stretch ** (2.0 * (uniform[0] / max(share, 1e-9)) - 1.0)
        as_recorded = uniform[0] >= share
        stretch = torch.where(as_recorded, torch.ones_like(stretch), stretch)
        step = self._stride * torch.minimum(stretch, longest)
        slack = self._lengths[clip] - 1.001 - step * (len(self._offsets) - 1)
        offset = torch.where(as_recorded, (slack * uniform[1]).round(), slack * uniform[1])
        first = self._starts[clip] + offset
        windows = self._gather(first[:, None] + step[:, None] * self._offsets)
        if self._config.mirror:
            flip = (uniform[2] < 0.5).to(self._device)[:, None, None, None]
            windows = torch.where(flip, self._mirrored(windows), windows)
        return windows, Origins(clip, first - self._starts[clip], step)

    def _gather(self, index: Tensor) -> Tensor:
        low = index.floor()
        part = (index - low).float().to(self._device)[..., None, None]
        at = low.long().to(self._device)
        # Frames after the last one are never used.
        after = (at + 1).clamp_max(len(self._positions) - 1)
        return torch.lerp(self._positions[at], self._positions[after], part)

    def _mirrored(self, windows: Tensor) -> Tensor:
        """Reflect in the y-z plane and exchange left and right joints."""
        reflected = windows[..., self._mirror, :].clone()
        reflected[..., 0] *= -1.0
        return reflected


def _clip_weights(clips: list[Clip], span: float, config: SamplingConfig) -> Tensor:
    rare = set(config.rare_kinds.split())
    seconds: dict[str, float] = {}
    for clip in clips:
        seconds[clip.subject] = seconds.get(clip.subject, 0.0) + clip.length
    weights = [
        (clip.length - span)
        * seconds[clip.subject] ** (config.subject_power - 1.0)
        * (config.retargeted_weight if clip.retargeted else 1.0)
        for clip in clips
    ]
    totals = dict.fromkeys((clip.kind for clip in clips), 1.0)
    if config.even_kinds:
        totals = dict.fromkeys(totals, 0.0)
        for clip, weight in zip(clips, weights, strict=True):
            totals[clip.kind] += weight
    shares = {
        kind: (config.rare_weight if rare.intersection(kind.split()) else 1.0) / max(total, 1e-12)
        for kind, total in totals.items()
    }
    weights = [w * shares[clip.kind] for clip, w in zip(clips, weights, strict=True)]
    return torch.tensor(weights, dtype=torch.float64)


def limit_training(recordings: Recordings, config: SamplingConfig) -> Recordings:
    """Keep a limited number of subjects and minutes, for error against the amount of data.

    Subjects, and then clips, come in an order drawn with seed 0: a smaller set is part of a
    larger one.
    """
    generator = np.random.default_rng(0)
    if config.max_subjects:
        subjects = sorted({clip.subject for clip in recordings.clips})
        kept = set(generator.permutation(subjects)[: config.max_subjects])
        recordings = recordings.select(lambda clip: clip.subject in kept)
    if config.max_minutes:
        order = generator.permutation(len(recordings.clips))
        frames = np.cumsum([recordings.clips[index].length for index in order])
        within = order[frames <= 60.0 * config.max_minutes * recordings.fps]
        keys = {recordings.clips[index].key for index in within}
        recordings = recordings.select(lambda clip: clip.key in keys)
    return recordings


def every_window(recordings: Recordings, length: int, period_s: float, every_s: float) -> Past:
    """Return all windows that start `every_s` apart, clip by clip, in order.

    Raises:
        DataError: The recordings' rate is no multiple of the model's, or no clip is long enough.
    """
    return windows_with_clips(recordings, length, period_s, every_s)[0]


def windows_with_clips(
    recordings: Recordings, length: int, period_s: float, every_s: float
) -> tuple[Past, tuple[Clip, ...]]:
    """Return the windows that `every_window` returns, and the clip of each.

    Raises:
        DataError: As `every_window`.
    """
    stride = period_s * recordings.fps
    if abs(stride - round(stride)) > 1e-6:
        raise DataError(f'{recordings.fps} fps is not a multiple of the model clock {period_s} s')
    offsets = np.arange(length) * round(stride)
    step = max(1, round(every_s * recordings.fps))
    starts = [
        (clip, first)
        for clip in recordings.clips
        for first in range(clip.start, clip.start + clip.length - int(offsets[-1]), step)
    ]
    if not starts:
        raise DataError(f'no clip is as long as a window of {length * period_s:.2f} s')
    index = np.array([first for _, first in starts])
    windows = torch.from_numpy(recordings.positions[index[:, None] + offsets])
    return windows, tuple(clip for clip, _ in starts)
