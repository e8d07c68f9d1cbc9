# SPDX-License-Identifier: Apache-2.0
"""What a camera does to a recording, done on purpose and no further than asked."""

import numpy as np
import torch
from torch import Tensor

from motion_predictor_ros.skeleton.completion import NearestJoints
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.augment import DegradeConfig, Degrader

LAYOUT = SkeletonLayout.load('body18')
PERIOD_S = 0.04


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def degrade(config: DegradeConfig, past: Tensor) -> tuple[Tensor, Tensor | None]:
    return Degrader(LAYOUT, PERIOD_S, config).degrade(past, generator())


def line(batch: int = 400) -> Tensor:
    """Everybody walks along x, one frame per metre; joints are 0.1 apart in y."""
    past = torch.zeros(batch, 25, 18, 3)
    past[..., 0] = torch.arange(25.0)[:, None]
    past[..., 1] = 0.1 * torch.arange(18.0)
    return past


def test_nothing_is_degraded_unasked() -> None:
    past = line(3)
    same, seen = degrade(DegradeConfig(), past)
    assert same is past
    assert seen is None


def test_noise_falls_on_its_share_and_stays_within_its_size() -> None:
    past = line()
    noisy, _ = degrade(DegradeConfig(noisy=0.5, noise_m=0.03), past)
    spread = (noisy - past).flatten(1).std(1)
    assert 0.4 < float((spread > 0).float().mean()) < 0.6
    assert 0.025 < float(spread.max()) < 0.032
    assert 0.012 < float(spread[spread > 0].mean()) < 0.018


def test_a_slow_camera_sees_straight_lines_and_the_newest_frame() -> None:
    past = line()
    config = DegradeConfig(slow=1.0, slowest_hz=12.0)
    straight, _ = degrade(config, past)
    # Straight motion survives sampling at any rate, but for what is held before the first sample.
    torch.testing.assert_close(straight[:, 3:], past[:, 3:], atol=1e-4, rtol=0)
    zigzag = past.clone()
    zigzag[:, ::2] += 1.0
    flattened, _ = degrade(config, zigzag)
    assert torch.equal(flattened[:, -1], zigzag[:, -1])
    changed = (flattened - zigzag).abs().amax(dim=(1, 2, 3))
    assert float(changed.median()) > 0.5  # control: fast motion does not survive


def test_missing_joints_are_replaced_by_their_nearest_observed_neighbour() -> None:
    past = line() + torch.randn(400, 25, 18, 3, generator=generator())
    filled, seen = degrade(DegradeConfig(missing=0.6), past)
    assert seen is not None
    gone = ~seen
    assert 0.3 < float(gone.any(1).float().mean()) <= 0.6
    assert not gone[:, LAYOUT.root].any()
    assert int(gone.sum(1).max()) <= 9
    assert torch.equal(
        filled[seen[:, None].expand(-1, 25, -1)], past[seen[:, None].expand(-1, 25, -1)]
    )
    wrist, elbow, shoulder = (
        LAYOUT.joint_names.index(f'l_{n}') for n in ('wrist', 'elbow', 'shoulder')
    )
    only = gone[:, wrist] & seen[:, elbow]
    assert torch.equal(filled[only][:, :, wrist], past[only][:, :, elbow])
    both = gone[:, wrist] & gone[:, elbow] & seen[:, shoulder]
    assert int(both.sum()) > 3
    assert torch.equal(filled[both][:, :, wrist], past[both][:, :, shoulder])


def test_whole_limbs_go_missing_on_one_side_and_on_both() -> None:
    _, seen = degrade(DegradeConfig(missing=1.0), line())
    assert seen is not None
    legs = [
        [LAYOUT.joint_names.index(f'{s}_{n}') for n in ('hip', 'knee', 'ankle', 'foot')]
        for s in 'lr'
    ]
    left, right = (~seen[:, leg].any(1) for leg in legs)
    assert bool((left & right).any()) and bool((left & ~right).any())


def test_substitutes_are_nearest_along_the_tree() -> None:
    nearest = NearestJoints(LAYOUT)
    everybody = np.ones(18, dtype=bool)
    assert (nearest.choose(everybody) == np.arange(18)).all()
    only_root = np.zeros((2, 18), dtype=bool)
    only_root[:, LAYOUT.root] = True
    assert (nearest.choose(only_root) == LAYOUT.root).all()
