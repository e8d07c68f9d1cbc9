# SPDX-License-Identifier: Apache-2.0
"""Weighted futures of all people in the scene, in one batch.

Stage: density. Reads `Window`s, returns `Futures`; next stage: volume.
    window -> body frame -> q(z | c) -> draws -> decoder -> frame of the window -> recentring
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.checkpoint import choose_device
from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.density.body_frame import FuturePoses, PastPoses, Placement
from motion_predictor_ros.density.cache_flow.cache import FutureCache, load_cache
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow, load_cache_flow
from motion_predictor_ros.density.cache_flow.inference import FusedCacheFlow
from motion_predictor_ros.density.cache_flow.mixture import Mixture, Noise
from motion_predictor_ros.density.recentring import recentre
from motion_predictor_ros.density.sampling import (
    Draws,
    SamplingOptions,
    cache_sample_size,
    cached_log_density,
    draw,
)
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.prediction.predictor import MotionPredictor
from motion_predictor_ros.prediction.types import Prediction
from motion_predictor_ros.resources import is_shipped
from motion_predictor_ros.runtime.cuda_graph import Graphs, check_on_gpu
from motion_predictor_ros.runtime.device_trial import load_on_faster
from motion_predictor_ros.runtime.threads import WorkerPool
from motion_predictor_ros.skeleton.frame import Window

Past = Float[np.ndarray, 'batch time joint xyz=3']
"""Observed positions, in any frame with z up [m]."""

Future = Float[np.ndarray, 'batch horizon joint xyz=3']
Sampled = Float[np.ndarray, 'batch future horizon joint xyz=3']
PerPerson = Float[Tensor, ' batch']


class CacheFlowPredictor:
    """CacheFlow with its cache: draws futures and evaluates densities.

    Attributes:
        device_choice: Why `device: auto` took its device; empty if another was asked for.
    """

    def __init__(
        self,
        trained: TrainedCacheFlow,
        cache: FutureCache,
        config: DensityConfig,
        pool: WorkerPool | None = None,
    ) -> None:
        """Fold the weights.

        Args:
            pool: Its threads share the people; default: only the caller's.
        """
        self.config, self.trained, self.cache = config, trained, cache
        self.device_choice = ''
        self._module, self._frame = trained.module, trained.frame
        self._parameter = next(trained.module.parameters())
        self._fused, self._pool = FusedCacheFlow(trained.module), pool or WorkerPool(1)
        shape = trained.module.config
        self.horizons_s = shape.period_s * np.arange(1, shape.future + 1)
        self._generator = torch.Generator()  # on the CPU: the same draws on every device
        if config.cuda_graph:
            check_on_gpu(cache.z.device, 'density.cuda_graph')
        replayed: Callable[[Callable[..., Any]], Any]
        replayed = Graphs if config.cuda_graph else lambda function: function
        self._observe_tensors = replayed(lambda _, past: self._module.observe(past))
        self._draw_tensors = replayed(self._draw_positions)
        self._evaluate_tensors = replayed(self._evaluate)
        self._evaluate_cached = replayed(lambda count, q: cached_log_density(q, self.cache, count))
        self.reset()

    @classmethod
    def load(cls, config: DensityConfig, pool: WorkerPool | None = None) -> 'CacheFlowPredictor':
        """Load weights and cache, and warm up.

        Raises:
            CheckpointError: The weights or the cache cannot be used, or not together.
            ConfigError: The device does not exist.
        """

        def load(device: torch.device) -> CacheFlowPredictor:
            trained = load_cache_flow(config.weights, device)
            return cls(trained, load_cache(config.cache, trained), config, pool)

        if config.device == 'auto' and not config.cuda_graph:
            predictor, choice = load_on_faster(load)
            predictor.device_choice = choice
            return predictor
        predictor = load(choose_device(config.device))
        predictor.warm_up()
        return predictor

    @classmethod
    def load_if_enabled(
        cls, config: DensityConfig, pool: WorkerPool | None = None
    ) -> 'CacheFlowPredictor | None':
        """Load if `config.enabled` is 'always', or 'auto' and the files exist.

        Raises:
            CheckpointError: As `load`.
            ConfigError: As `load`.
        """
        files = (config.weights, config.cache)
        exist = all(is_shipped(name, 'weights', '.safetensors') for name in files)
        enabled = config.enabled == 'always' or (config.enabled == 'auto' and exist)
        return cls.load(config, pool) if enabled else None

    @property
    def model(self) -> str:
        """Name of the weights, with the first digits of their hash."""
        return self.trained.name

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Joints in the order of the model."""
        return self.trained.joint_names

    @property
    def past(self) -> int:
        """Observed frames per prediction."""
        return self._module.config.past

    @property
    def period_s(self) -> float:
        """Model clock [s]."""
        return self._module.config.period_s

    def reset(self) -> None:
        """Reset the random generator."""
        self._generator.manual_seed(self.config.seed)

    def warm_up(self) -> None:
        """Draw once for a synthetic person, so that the first real one is fast."""
        shape = self._module.config
        pose = np.random.default_rng(0).normal(size=(1, 1, shape.joints, 3))
        still = np.repeat(pose, shape.past, axis=1)
        self.log_density(still, self.draw(still)[0][:, 0])
        self.reset()

    def predict(
        self, windows: Sequence[Window], predictions: Sequence[Prediction] = (), share: float = 1.0
    ) -> Futures | None:
        """Return the futures of all people; None without people.

        The result depends on the windows alone, not on earlier calls.

        Args:
            windows: At least as long as the model's past.
            predictions: Of the same people in order: futures are moved towards them.
            share: Share of the configured number of futures; at least one is drawn.
        """
        sample = self.sample(windows, share)
        return sample.weighted(predictions, sample.recentred(predictions)) if sample else None

    def sample(
        self,
        windows: Sequence[Window],
        share: float = 1.0,
        between: Callable[[], None] = lambda: None,
    ) -> 'Sample | None':
        """Run the part of `predict` that needs no predictions; thread-safe.

        On a CPU each person is one piece of work for the threads: the result for a person does
        not depend on the rest of the batch. On a GPU all are one batch.

        Args:
            between: Called between people that the caller's thread draws for.
        """
        if not windows:
            return None
        rows = list(range(len(windows)))
        parts = [[row] for row in rows] if self._parameter.device.type == 'cpu' else [rows]
        pieces = [partial(self._sample, windows, share, part) for part in parts]
        return Sample.cat(self._pool.run(pieces, between))

    def _sample(self, windows: Sequence[Window], share: float, rows: list[int]) -> 'Sample':
        chosen = [windows[row] for row in rows]
        encoded = self._encode(np.stack([window.positions[-self.past :] for window in chosen]))
        count = max(1, round(share * self.config.futures))
        generator = torch.Generator().manual_seed(self.config.seed + windows[0].stamp_ns)
        noise = self._noise(len(windows), count, generator).rows(rows)
        positions, draws, size = self._draw(encoded, noise)
        typical = float(self.cache.figures['typical_distance'])
        futures = Futures(
            person_ids=tuple(window.person_id for window in chosen),
            stamp_ns=np.array([window.stamp_ns for window in chosen], dtype=np.int64),
            horizons_s=self.horizons_s,
            positions=positions,
            weights=np.full((len(chosen), count), 1.0 / count),
            log_density=draws.log_density.double().cpu().numpy(),
            cached=draws.cached.cpu().numpy(),
            effective_sample_size=size.double().cpu().numpy(),
            importance_samples=min(self.config.importance_samples, len(self.cache)),
            novelty=draws.distance.double().cpu().numpy() / typical,
            model=self.trained.name,
            out_of_sight=tuple(self._out_of_sight(window) for window in chosen),
        )
        return Sample(futures, encoded, self.trained.frame.root, self._densities_of)

    def _out_of_sight(self, window: Window) -> str:
        return ', '.join(self.joint_names[joint] for joint in np.flatnonzero(~window.seen))

    def _densities_of(
        self, encoded: '_Encoded', predictions: Sequence[Prediction], futures: Sampled
    ) -> Float[np.ndarray, ' batch'] | None:
        """Return log p(x | c) of predictions; NaN of those without positions."""
        if not predictions:
            return None
        densities = np.full(len(predictions), np.nan)
        continued = {
            row: continue_as_nearest(prediction.positions, futures[row])
            for row, prediction in enumerate(predictions)
            if prediction.positions is not None
        }
        if continued:
            rows = list(continued)
            whole = np.stack(list(continued.values()))
            densities[rows] = self._log_density(encoded.rows(rows), whole)
        return densities

    @torch.inference_mode()
    def draw(self, observed: Past, count: int | None = None) -> tuple[Sampled, Draws, PerPerson]:
        """Return equally probable futures [m], their latents, and effective sample sizes.

        Args:
            count: Number per person; None: as configured.
        """
        noise = self._noise(len(observed), count or self.config.futures, self._generator)
        return self._draw(self._encode(observed), noise)

    @torch.inference_mode()
    def log_density(self, observed: Past, future: Future) -> Float[np.ndarray, ' batch']:
        """Return log p(x | c) of arbitrary futures [m], by the inverse flow [nat]."""
        return self._log_density(self._encode(observed), future)

    @torch.inference_mode()
    def cached_log_density(self, observed: Past, count: int) -> Float[Tensor, 'batch cached']:
        """Return log p(x | c) of the first `count` cached futures (eq. 12) [nat]."""
        log_density: Tensor = self._evaluate_cached(count, self._encode(observed).q)
        return log_density

    @torch.inference_mode()
    def observe(self, observed: Past) -> tuple[PastPoses, Mixture]:
        """Return observed poses in body frames, and q(z | c)."""
        encoded = self._encode(observed)
        return encoded.past, encoded.q

    @torch.inference_mode()
    def _encode(self, observed: Past) -> '_Encoded':
        placement = self._frame.place(observed[:, -1])
        past = self._tensor(self._frame.enter(observed, placement))
        return _Encoded(past, placement, self._observe_tensors(None, past))

    def _noise(self, people: int, count: int, generator: torch.Generator) -> Noise:
        """Return the random numbers of `count` draws for each person."""
        shape = people, count, self._module.config.latent
        return Noise.drawn(shape, self._parameter, generator)

    @torch.inference_mode()
    def _draw(self, encoded: '_Encoded', noise: Noise) -> tuple[Sampled, Draws, PerPerson]:
        past = encoded.past
        options = SamplingOptions(self.config.rule, self.config.importance_samples)
        rotation = torch.from_numpy(encoded.placement.rotation).to(past)
        local, draws, size = self._draw_tensors(options, past, rotation, encoded.q, noise)
        # Origins are added in float64: in float32, positions 100 km away have steps of 8 mm.
        positions = local.double().cpu().numpy().reshape(*local.shape[:3], -1, 3)
        return positions + encoded.placement.origin[:, None, None, None], draws, size

    @torch.inference_mode()
    def _log_density(self, encoded: '_Encoded', future: Future) -> Float[np.ndarray, ' batch']:
        poses = self._tensor(self._frame.enter(future, encoded.placement))
        log_density = self._evaluate_tensors(None, encoded.past, poses, encoded.q)
        array: Float[np.ndarray, ' batch'] = log_density.double().cpu().numpy()
        return array

    def _tensor(self, array: Float[np.ndarray, '...']) -> Tensor:
        return torch.from_numpy(array).to(self._parameter)

    # Functions of tensors alone, which can be captured as CUDA graphs.

    def _draw_positions(
        self,
        options: SamplingOptions,
        past: PastPoses,
        rotation: Float[Tensor, 'batch xyz=3 xyz=3'],
        q: Mixture,
        noise: Noise,
    ) -> tuple[Tensor, Draws, PerPerson]:
        """Return flat positions from the origins of the people [m], draws, and sample sizes."""
        size = cache_sample_size(q, self.cache, options.importance_samples)
        draws = draw(options.rule, q, self.cache, self._module.flow, noise)
        local = self._fused.decode_local(draws.x, past, self._frame.leaving(rotation))
        return local, draws, size

    def _evaluate(self, _: None, past: PastPoses, poses: FuturePoses, q: Mixture) -> PerPerson:
        """Return log p(x | c) = log q(z | c) + log|det dz/dx| [nat]."""
        z, log_det = self._fused.pull(self._module.latent(past, poses))
        return q.log_prob(z[:, None])[:, 0] + log_det


@dataclass(frozen=True)
class _Encoded:
    """People in their body frames, and q(z | c)."""

    past: PastPoses
    placement: Placement[np.ndarray]
    q: Mixture

    def rows(self, people: list[int]) -> '_Encoded':
        """Select people."""
        origin, rotation = self.placement.origin[people], self.placement.rotation[people]
        return _Encoded(self.past[people], Placement(origin, rotation), self.q.rows(people))

    @staticmethod
    def cat(parts: Sequence['_Encoded']) -> '_Encoded':
        """Concatenate people."""
        origin = np.concatenate([part.placement.origin for part in parts])
        rotation = np.concatenate([part.placement.rotation for part in parts])
        past = torch.cat([part.past for part in parts])
        return _Encoded(past, Placement(origin, rotation), Mixture.cat([p.q for p in parts]))


@dataclass(frozen=True)
class Sample:
    """Futures as drawn, without the density of the predicted motion."""

    futures: Futures
    encoded: _Encoded
    root: int
    densities: Callable[..., Float[np.ndarray, ' batch'] | None]

    @staticmethod
    def cat(parts: Sequence['Sample']) -> 'Sample':
        """Concatenate people."""
        futures = Futures.cat([part.futures for part in parts])
        encoded = _Encoded.cat([part.encoded for part in parts])
        return Sample(futures, encoded, parts[0].root, parts[0].densities)

    def recentred(self, predictions: Sequence[Prediction]) -> Futures:
        """Return futures moved towards predictions of the same people, in order."""
        drawn = self.futures
        positions = drawn.positions.copy()
        for row, prediction in enumerate(predictions):
            if (predicted := prediction.positions) is not None:
                positions[row] = recentre(positions[row], drawn.horizons_s, predicted, self.root)
        return replace(drawn, positions=positions)

    def weighted(self, predictions: Sequence[Prediction], futures: Futures | None) -> Futures:
        """Return recentred futures with the density that the predictions have as drawn ones."""
        densities = self.densities(self.encoded, predictions, self.futures.positions)
        return replace(futures or self.futures, predicted_log_density=densities)


def continue_as_nearest(
    predicted: Float[np.ndarray, 'predicted joint xyz=3'],
    futures: Float[np.ndarray, 'future horizon joint xyz=3'],
) -> Float[np.ndarray, 'horizon joint xyz=3']:
    """Continue a shorter prediction by the future nearest to it [m]."""
    common = min(len(predicted), futures.shape[1])
    between = futures[:, :common] - predicted[:common]
    distances = np.sqrt(np.einsum('fhjx,fhjx->fhj', between, between)).sum(axis=(1, 2))
    nearest = futures[distances.argmin()]
    rest = nearest[common:] + (predicted[common - 1] - nearest[common - 1])
    return np.concatenate([predicted[:common], rest])


def check_same_windows(predictor: MotionPredictor, density: CacheFlowPredictor) -> None:
    """Check that both models read the same windows.

    Raises:
        ConfigError: Joints or clock differ, or the density model needs a longer past.
    """
    ours, theirs = density.model, predictor.model
    hint = 'set parameter "density.weights" or "prediction.weights"'
    if density.joint_names != predictor.joint_names or density.period_s != predictor.period_s:
        raise ConfigError(f'{ours!r} has other joints or another clock than {theirs!r}; {hint}')
    if density.past > predictor.past:
        frames = density.past, predictor.past
        raise ConfigError(
            f'{ours!r} observes {frames[0]} frames, {theirs!r} only {frames[1]}; {hint}'
        )
