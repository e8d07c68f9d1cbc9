# SPDX-License-Identifier: Apache-2.0
"""All futures of everybody in the scene, in one batch.

Stage: density. Reads `Window`s, returns `Futures`; next stage: volume.
    window -> body frame -> q(z | c) -> draws -> decoder -> body frame -> room
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.density.cache import FutureCache, load_cache
from motion_predictor_ros.density.canonical import Placement
from motion_predictor_ros.density.futures import Futures
from motion_predictor_ros.density.inference import FoldedCacheFlow
from motion_predictor_ros.density.mixture import Mixture
from motion_predictor_ros.density.model_file import TrainedCacheFlow, load_cache_flow
from motion_predictor_ros.density.sampling import (
    Draws,
    cache_weights,
    cached_log_density,
    draw,
)
from motion_predictor_ros.prediction.model_file import choose_device
from motion_predictor_ros.skeleton.frame import Window


class CacheFlowPredictor:
    """CacheFlow with its cache, ready to be asked about people."""

    def __init__(
        self, trained: TrainedCacheFlow, cache: FutureCache, config: DensityConfig
    ) -> None:
        self.config, self.trained, self.cache = config, trained, cache
        self._module, self._frame = trained.module, trained.frame
        self._folded = FoldedCacheFlow(trained.module, trained.frame.root)
        self._parameter = next(trained.module.parameters())
        shape = trained.module.config
        self.horizons_s = shape.period_s * np.arange(1, shape.future + 1)
        self._generator = torch.Generator(self._parameter.device)
        self.reset()

    @classmethod
    def load(cls, config: DensityConfig) -> 'CacheFlowPredictor':
        """Load weights and cache, and warm up.

        Raises:
            CheckpointError: The weights or the cache cannot be used, or not together.
            ConfigError: The device is not there.
        """
        trained = load_cache_flow(config.weights, choose_device(config.device))
        predictor = cls(trained, load_cache(config.cache, trained), config)
        shape = trained.module.config
        still = np.random.default_rng(0).normal(size=(1, 1, shape.joints, 3))
        predictor.draw(np.repeat(still, shape.past, axis=1))
        predictor.reset()
        return predictor

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Joints in the order the model was made with."""
        return self.trained.joint_names

    @property
    def past(self) -> int:
        """Observed frames per prediction."""
        return self._module.config.past

    def reset(self) -> None:
        """Begin the draws anew."""
        self._generator.manual_seed(self.config.seed)

    def predict(self, windows: Sequence[Window]) -> Futures | None:
        """Return the futures of everybody; None where there is nobody."""
        if not windows:
            return None
        observed = np.stack([window.positions for window in windows])
        positions, draws, size = self.draw(observed)
        count = positions.shape[1]
        typical = float(self.cache.figures['typical_distance'])
        return Futures(
            person_ids=tuple(window.person_id for window in windows),
            stamp_ns=np.array([window.stamp_ns for window in windows], dtype=np.int64),
            horizons_s=self.horizons_s,
            positions=positions,
            weights=np.full((len(windows), count), 1.0 / count),
            log_density=draws.log_density.double().cpu().numpy(),
            cached=draws.cached.cpu().numpy(),
            effective_sample_size=size.double().cpu().numpy(),
            weighed=min(self.config.weighed, len(self.cache)),
            novelty=draws.distance.double().cpu().numpy() / typical,
        )

    @torch.inference_mode()
    def draw(
        self, observed: Float[np.ndarray, 'batch time joint xyz=3']
    ) -> tuple[
        Float[np.ndarray, 'batch future horizon joint xyz=3'], Draws, Float[Tensor, ' batch']
    ]:
        """Return equally probable futures [m], where they come from, and how many count.

        Args:
            observed: [m], any frame with z up.
        """
        past, placement = self._enter(observed)
        q = self._folded.observe(past)
        weights, size = cache_weights(q, self.cache, self.config.weighed)
        draws = draw(
            self.config.rule,
            q,
            self.cache,
            self._module.flow,
            self.config.futures,
            weights,
            self._generator,
        )
        ways = self._ways(draws, past)
        leaving = self._frame.leaving(self._tensor(placement.rotation))
        places = self._folded.play(draws.x, past, leaving, ways)
        positions = torch.empty(places.shape, dtype=torch.float64).copy_(places).numpy()
        # In float64: in float32, 100 km away is a staircase.
        positions += np.tile(placement.origin, observed.shape[2])[:, None, None]
        return positions.reshape(*positions.shape[:3], -1, 3), draws, size

    @torch.inference_mode()
    def log_density(
        self,
        observed: Float[np.ndarray, 'batch time joint xyz=3'],
        future: Float[np.ndarray, 'batch horizon joint xyz=3'],
    ) -> Float[np.ndarray, ' batch']:
        """Return log p(x | c) of arbitrary futures [m], by the inverse flow [nat]."""
        past, placement = self._enter(observed)
        poses = self._tensor(self._frame.enter(future, placement))
        x = self._module.latent(past, poses)
        return self._module.log_prob(self._folded.observe(past), x).double().cpu().numpy()

    @torch.inference_mode()
    def cached_log_density(
        self, observed: Float[np.ndarray, 'batch time joint xyz=3'], count: int
    ) -> Float[Tensor, 'batch cached']:
        """Return log p(x | c) of the first `count` cached futures (eq. 12) [nat].

        Args:
            observed: [m], any frame with z up.
        """
        _, q = self.observe(observed)
        return cached_log_density(q, self.cache, count)

    @torch.inference_mode()
    def observe(
        self, observed: Float[np.ndarray, 'batch time joint xyz=3']
    ) -> tuple[Float[Tensor, 'batch time posed xyz=3'], Mixture]:
        """Return observed poses and what they say of z.

        Args:
            observed: [m], any frame with z up.
        """
        past, _ = self._enter(observed)
        return past, self._folded.observe(past)

    def _enter(
        self, observed: Float[np.ndarray, 'batch time joint xyz=3']
    ) -> tuple[Float[Tensor, 'batch time posed xyz=3'], Placement[np.ndarray]]:
        """Return people's poses [m], and how they stand in the room."""
        placement = self._frame.place(observed[:, -1])
        return self._tensor(self._frame.enter(observed, placement)), placement

    def _tensor(self, array: Float[np.ndarray, '...']) -> Tensor:
        return torch.from_numpy(array).to(self._parameter)

    def _ways(
        self, draws: Draws, past: Float[Tensor, 'batch time posed xyz=3']
    ) -> Float[Tensor, 'batch future horizon xyz=3'] | None:
        """Return recorded ways of the root from where it was last seen; None to decode them."""
        roots = self.cache.roots
        if roots is None or self.config.root == 'decoded' or self.config.rule == 'flow':
            return None
        root, period_s = past[:, :, self._frame.root], self._module.config.period_s
        velocity = (root[:, -1] - root[:, -2]) / period_s
        return roots.displacement(draws.cached, velocity, period_s)
