# SPDX-License-Identifier: Apache-2.0
"""Varied bodies move as the recorded ones did: same directions of bones, other lengths."""

import pytest
import torch
from torch import Tensor

from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.augment import BodyShape, BodyShapeConfig

LAYOUT = SkeletonLayout.load('body18')


def windows(batch: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, 5, 18, 3, generator=generator)


def vary(config: BodyShapeConfig, recorded: Tensor) -> Tensor:
    return BodyShape(LAYOUT, config).vary(recorded, torch.Generator().manual_seed(1))


def bones(positions: Tensor) -> Tensor:
    parents = torch.tensor([parent for parent, _ in LAYOUT.bones])
    children = torch.tensor([child for _, child in LAYOUT.bones])
    return positions[:, :, children] - positions[:, :, parents]


def test_bones_keep_their_direction_and_change_length_by_one_factor_per_window() -> None:
    recorded = windows()
    before, after = bones(recorded), bones(vary(BodyShapeConfig(size=1.1, bones=1.3), recorded))
    ratio = after.norm(dim=-1) / before.norm(dim=-1)
    torch.testing.assert_close(after, ratio[..., None] * before)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert float(ratio.max()) <= 1.1 * 1.3 + 1e-9
    assert float(ratio.min()) >= 1 / (1.1 * 1.3) - 1e-9
    assert float(ratio.std()) > 0.05  # control: something was varied


def test_left_and_right_bones_get_the_same_factor() -> None:
    recorded = windows()
    after = bones(vary(BodyShapeConfig(bones=1.5), recorded))
    ratio = (after.norm(dim=-1) / bones(recorded).norm(dim=-1))[:, 0]
    place = {child: index for index, (_, child) in enumerate(LAYOUT.bones)}
    mirrored = [place[LAYOUT.mirror[child]] for _, child in LAYOUT.bones]
    torch.testing.assert_close(ratio, ratio[:, mirrored])
    assert not torch.allclose(ratio, ratio[:, list(reversed(mirrored))])  # control


def test_bones_alone_leave_the_path_of_the_root_and_size_scales_it_about_its_start() -> None:
    recorded, root = windows(), LAYOUT.root
    longer = vary(BodyShapeConfig(bones=1.5), recorded)
    torch.testing.assert_close(longer[:, :, root], recorded[:, :, root])
    larger = vary(BodyShapeConfig(size=1.5), recorded)
    before = recorded[:, :, root] - recorded[:, :1, root]
    after = larger[:, :, root] - recorded[:, :1, root]
    factor = after[:, 1:].norm(dim=-1) / before[:, 1:].norm(dim=-1)
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert float(factor.std()) > 0.05


def test_factors_of_one_change_nothing() -> None:
    recorded = windows()
    assert vary(BodyShapeConfig(), recorded) is recorded


def test_a_skeleton_in_the_frame_of_its_hips_is_varied_too() -> None:
    layout = SkeletonLayout.load('cmu25')
    recorded = torch.randn(2, 4, 25, 3)
    shape = BodyShape(layout, BodyShapeConfig(size=1.05, bones=1.05))
    varied = shape.vary(recorded, torch.Generator().manual_seed(1))
    assert varied.shape == recorded.shape
    assert torch.isfinite(varied).all()
    assert not torch.equal(varied, recorded)


@pytest.mark.parametrize('seed', [1, 2])
def test_the_same_generator_gives_the_same_bodies(seed: int) -> None:
    recorded, shape = windows(), BodyShape(LAYOUT, BodyShapeConfig(bones=1.2))
    one, two = (shape.vary(recorded, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(one, two)
