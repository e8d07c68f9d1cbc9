# SPDX-License-Identifier: Apache-2.0
"""Small CacheFlows and caches for tests, with weights large enough to matter."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn
from walkers import walkers

from motion_predictor_ros.checkpoint import save_checkpoint
from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.density.cache_flow.cache import FutureCache
from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
from motion_predictor_ros.density.cache_flow.flow import Flow
from motion_predictor_ros.density.cache_flow.mixture import Mixture
from motion_predictor_ros.density.cache_flow.model import CacheFlow, CacheFlowConfig
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.cache_build import build_cache
from motion_predictor_ros.training.recipe import CacheFlowRecipe, ScheduleConfig

TINY = CacheFlowConfig(
    joints=18,
    past=5,
    future=6,
    hidden=16,
    behaviour=12,
    latent=4,
    modes=5,
    width=16,
    steps=8,
    mode='joint',
)
_QUICK = ScheduleConfig(steps=30, batch=8, learning_rate=5e-3, validate_every=15)
RECIPE = CacheFlowRecipe(model=TINY, behaviour=_QUICK, decoder=_QUICK, flow=_QUICK)


class Swelling(nn.Module):
    """A velocity that spreads points too, so that every volume grows."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, y: Tensor, time: Tensor) -> Tensor:
        return self.inner(y, time) + 0.1 * y

    def with_trace(self, y: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        velocity, trace = self.inner.with_trace(y, time)
        return velocity + 0.1 * y, trace + 0.1 * y.shape[1]


def lively_flow(latent: int = 8, steps: int = 16) -> Flow:
    """Build a flow that bends space: points move by about one, and volumes change."""
    torch.manual_seed(0)
    flow = Flow(latent, 16, 'rk4', steps).requires_grad_(False)
    for parameter in flow.velocity.parameters():
        parameter.mul_(1.5)
    speed = flow.velocity(torch.randn(500, latent), torch.rand(500)).norm(dim=1).mean()
    for parameter in flow.velocity.out.parameters():
        parameter.div_(speed)
    flow.velocity = Swelling(flow.velocity)
    return flow


def mixture(people: int = 2, modes: int = 3, latent: int = 8, seed: int = 1) -> Mixture:
    """Draw mixtures whose modes lie apart."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.get_default_dtype())

    return Mixture(
        normal(people, modes).log_softmax(1),
        0.7 * normal(people, modes, latent),
        0.3 * normal(people, modes, latent) - 0.3,
    )


def cache_of(flow: Flow, x: Tensor, log_rho: Tensor, digest: str = 'none') -> FutureCache:
    """Cache latents by hand, as `build_cache` would."""
    z, log_det = flow.pull(x)
    zeros = torch.zeros(len(x), dtype=torch.int32)
    figures = {'typical_distance': 1.0}
    return FutureCache(z, x, log_det, log_rho, zeros, zeros.clone(), digest, figures)


def write_cache_flow(path: Path, config: CacheFlowConfig = TINY, seed: int = 0) -> Path:
    """Write an untrained model of the common skeleton, as the predictor loads it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(seed)
    module = CacheFlow(config)
    torch.set_default_dtype(before)
    with torch.no_grad():
        module.vae.offset.weight.mul_(10.0)
        module.mixture.head.weight.mul_(5.0)
    header = {
        'kind': 'cache_flow',
        'config': dataclasses.asdict(config),
        'joint_names': list(SkeletonLayout.load('body18').joint_names),
        'training': {'recipe': dataclasses.asdict(dataclasses.replace(RECIPE, model=config))},
    }
    save_checkpoint(path, header, module.state_dict())
    return path


def write_density(
    folder: Path, config: CacheFlowConfig = TINY, **changes: object
) -> DensityConfig:
    """Write an untrained model and its cache of walkers; return how to load them."""
    weights, before = (
        write_cache_flow(folder / 'tiny.safetensors', config),
        torch.get_default_dtype(),
    )
    torch.set_default_dtype(torch.float32)
    cache = build_cache(load_cache_flow(str(weights), torch.device('cpu')), walkers(), 300)
    torch.set_default_dtype(before)
    cache.save(folder / 'cache.safetensors', 'float32')
    found = DensityConfig(
        weights=str(weights),
        cache=str(folder / 'cache.safetensors'),
        device='cpu',
        futures=20,
        importance_samples=200,
    )
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]
