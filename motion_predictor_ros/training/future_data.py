# SPDX-License-Identifier: Apache-2.0
"""Observed and future poses in the body frame of a density model, cut from recordings."""

from dataclasses import dataclass

import torch

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.density.body_frame import BodyFrame, FuturePoses, PastPoses, body_frame
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.motion_deq.layers import Past
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.cache_flow_recipe import CacheFlowRecipe
from motion_predictor_ros.training.windows import (
    Origins,
    WindowSampler,
    every_window,
    limit_training,
)

_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Batch:
    """Poses [m] in the body frame."""

    past: PastPoses
    future: FuturePoses


class FutureData:
    """Batches for CacheFlow and for the models it is compared with.

    Attributes:
        held_out: All windows of the held-out subjects.
    """

    def __init__(
        self, recipe: CacheFlowRecipe, recordings: Recordings, device: torch.device
    ) -> None:
        layout = SkeletonLayout.load(recipe.layout)
        if recordings.joint_names != layout.joint_names:
            raise DataError(
                f'the recordings have joints {recordings.joint_names}, the recipe has layout '
                f'{recipe.layout!r} with {layout.joint_names}'
            )
        model = recipe.model
        if model.joints != len(layout.joint_names):
            raise DataError(
                f'the recipe has {model.joints} joints, its layout {recipe.layout!r} has '
                f'{len(layout.joint_names)}'
            )
        self.attribution = recordings.attribution
        self.joint_names = layout.joint_names
        self.frame: BodyFrame = body_frame(model.frame, layout.joint_names)
        self.past, self.device, self._size = model.past, device, recipe.variety.size
        length = model.past + model.future
        train = limit_training(recipe.subjects.select(recordings, 'train'), recipe.sampling)
        self.sampler = WindowSampler(
            train, length, model.period_s, layout.mirror, recipe.sampling, device
        )
        held_out = recipe.subjects.select(recordings, 'val')
        self.held_out_positions = every_window(
            held_out, length, model.period_s, recipe.sampling.validation_stride_s
        ).to(device)
        self.held_out = self.poses(self.held_out_positions)

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return random training windows of people of varied size."""
        return self.draw_with_origins(count, generator)[0]

    def draw_with_origins(self, count: int, generator: torch.Generator) -> tuple[Batch, Origins]:
        """Return the windows of `draw`, and their origin."""
        windows, origins = self.sampler.draw_with_origins(count, generator)
        size = self._size ** (2.0 * torch.rand(count, generator=generator) - 1.0)
        return self.poses(windows * size.to(windows)[:, None, None, None]), origins

    def poses(self, windows: Past) -> Batch:
        """Map windows [m] to the body frame."""
        placement = self.frame.place(windows[:, self.past - 1])
        poses = self.frame.enter(windows, placement)
        return Batch(poses[:, : self.past], poses[:, self.past :])


def batch_generator(seed: int, index: int) -> torch.Generator:
    """Return the generator of step `index`: a batch follows from seed and index alone."""
    return torch.Generator().manual_seed(seed * _SEED_STRIDE + index)
