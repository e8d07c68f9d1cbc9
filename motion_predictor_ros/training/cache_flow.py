# SPDX-License-Identifier: Apache-2.0
"""Train CacheFlow in three parts, with one run of `loop.train` per part.

    behaviour  the VAE of behaviours; then Q and m from its latents
    decoder    encoder, Q and decoder, fine-tuned with no more than eight numbers between them
    flow       flow and observation mixture on the fixed latents x

Modes of the flow ([CacheFlow] eq. 11 as written lets z collapse to a point, because lost volume
costs nothing):
    joint           flow matching from draws of q, and the exact log-likelihood of x through both
    joint-stopgrad  flow matching from draws of q; q is fitted to z = f^-1(x) without its gradient
    two-stage       flow matching from N(0, I); q is fitted to z after the flow
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.density.body_frame import BodyFrame, FuturePoses, PastPoses, body_frame
from motion_predictor_ros.density.cache_flow.checkpoint import KIND
from motion_predictor_ros.density.cache_flow.flow import Latents, even_times, random_times
from motion_predictor_ros.density.cache_flow.mixture import Mixture
from motion_predictor_ros.density.cache_flow.model import CacheFlow
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.motion_deq.layers import Past
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.loop import Task, train
from motion_predictor_ros.training.recipe import CacheFlowRecipe, ScheduleConfig
from motion_predictor_ros.training.windows import (
    Origins,
    WindowSampler,
    every_window,
    limit_training,
)

_STATISTICS = 4096
"""Training windows from which mean, directions and scale of latents are taken."""

_BEHAVIOUR = (
    *('joints', 'past', 'future', 'period_s', 'frame'),
    *('seen', 'hidden', 'behaviour', 'latent'),
)
"""Fields that behaviours depend on; the flow after them is independent of these."""

_CHUNK = 256


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
        recordings.check_joints(layout.joint_names, f"the recipe's layout {recipe.layout!r}")
        model = recipe.model
        if model.joints != len(layout.joint_names):
            raise DataError(
                f'the recipe has {model.joints} joints, its layout {recipe.layout!r} has '
                f'{len(layout.joint_names)}'
            )
        self.attribution = recordings.attribution
        self.joint_names = layout.joint_names
        self.frame: BodyFrame = body_frame(layout.joint_names)
        self.past, self.device, self._size = model.past, device, recipe.variety.size
        length = model.past + model.future
        train = limit_training(_of_split(recordings, 'train'), recipe.sampling)
        self.sampler = WindowSampler(
            train, length, model.period_s, layout.mirror, recipe.sampling, device
        )
        self.held_out_positions = every_window(
            _of_split(recordings, 'val'),
            length,
            model.period_s,
            recipe.sampling.validation_stride_s,
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


def _of_split(recordings: Recordings, split: str) -> Recordings:
    return recordings.select(lambda clip: clip.split == split)


def batch_generator(seed: int, index: int) -> torch.Generator:
    """Return the generator of step `index`: a batch follows from seed and index alone."""
    return torch.Generator().manual_seed(seed * _SEED_STRIDE + index)


Losses = tuple[Float[Tensor, ''], dict[str, Float[Tensor, '']]]
"""The loss of a batch, and figures to report."""


class FutureTask:
    """Base of the trainings on `FutureData`: one batch per step, and the header.

    Attributes:
        config_fields: Entries of the model's configuration that matter; empty: all of them.
    """

    kind = ''
    config_fields: tuple[str, ...] = ()
    has_dropout = False
    module: nn.Module

    def __init__(
        self, name: str, recipe: CacheFlowRecipe, data: FutureData, schedule: ScheduleConfig
    ) -> None:
        torch.manual_seed(schedule.seed)
        self.name, self.recipe, self.data, self.schedule = name, recipe, data, schedule

    def header(self) -> dict[str, Any]:
        """Return the header: configuration of the model and of its training."""
        config = dataclasses.asdict(self.recipe.model)
        return {
            'name': self.name,
            'config': {key: config[key] for key in self.config_fields or config},
            'joint_names': list(self.data.joint_names),
            'training': {
                'recipe': dataclasses.asdict(self.recipe),
                'attribution': list(self.data.attribution),
            },
        }

    def step(self, index: int) -> dict[str, float]:
        """Accumulate the gradients of one batch, which follows from seed and index alone."""
        generator = batch_generator(self.schedule.seed, index)
        if self.has_dropout:
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            self.module.train()
        batch = self.data.draw(self.schedule.batch, generator)
        loss, figures = self.losses(batch, generator, index)
        loss.backward()
        return {name: float(value.detach()) for name, value in figures.items()}

    def losses(self, batch: Batch, generator: torch.Generator, index: int) -> Losses:
        """Compute the losses of a batch."""
        raise NotImplementedError


class BehaviourTask(FutureTask):
    """First part: the VAE of behaviours."""

    kind, config_fields = 'cache_flow_behaviour', _BEHAVIOUR
    module: CacheFlow

    def __init__(self, name: str, recipe: CacheFlowRecipe, data: FutureData) -> None:
        super().__init__(name, recipe, data, recipe.behaviour)
        self.module = CacheFlow(recipe.model).to(data.device)
        del self.module.flow, self.module.mixture, self.module.factorisation

    def losses(self, batch: Batch, generator: torch.Generator, index: int) -> Losses:
        """Return the evidence lower bound."""
        seen, future = self._frames(batch)
        vae = self.module.vae
        posterior = vae.encode(torch.cat([seen, future], dim=1))
        noise = torch.randn(posterior.mean.shape, generator=generator).to(seen)
        error = squared_error(vae.decode(posterior.sample(noise), seen), future)
        divergence = posterior.divergence().mean()
        loss = error + self.recipe.losses.divergence * divergence
        return loss, {'error': error, 'divergence': divergence}

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the error of reconstruction, from mean behaviours, on held-out subjects."""
        errors, divergences = [], []
        vae = self.module.vae
        for batch in chunks(self.data.held_out):
            seen, future = self._frames(batch)
            posterior = vae.encode(torch.cat([seen, future], dim=1))
            decoded = vae.decode(posterior.mean, seen)
            errors.append((decoded - future).square().sum(2).mean(1))
            divergences.append(posterior.divergence())
        return evidence_figures(errors, divergences, self.recipe.losses.divergence), {}

    def _frames(
        self, batch: Batch
    ) -> tuple[Float[Tensor, 'batch seen size'], Float[Tensor, 'batch horizon size']]:
        return batch.past[:, -self.recipe.model.seen :].flatten(2), batch.future.flatten(2)


class DecoderTask(FutureTask):
    """Second part: the VAE with eight numbers in its middle, from their principal directions."""

    kind, config_fields = 'cache_flow_decoder', _BEHAVIOUR
    module: CacheFlow

    def __init__(
        self, name: str, recipe: CacheFlowRecipe, data: FutureData, behaviour: Path
    ) -> None:
        super().__init__(name, recipe, data, recipe.decoder)
        self.module = CacheFlow(recipe.model).to(data.device)
        del self.module.flow, self.module.mixture
        trained = load_checkpoint(behaviour, BehaviourTask.kind).tensors
        prefix = 'vae.'
        self.module.vae.load_state_dict(
            {k.removeprefix(prefix): v for k, v in trained.items() if k.startswith(prefix)}
        )
        self.module.factorisation.fit_directions(behaviours(self.module, data, recipe))

    def losses(self, batch: Batch, generator: torch.Generator, index: int) -> Losses:
        """Return the evidence lower bound of x."""
        frames = torch.cat([batch.past[:, -self.recipe.model.seen :], batch.future], dim=1)
        factorisation = self.module.factorisation
        posterior = factorisation.reduce_posterior(self.module.vae.encode(frames.flatten(2)))
        noise = torch.randn(posterior.mean.shape, generator=generator)
        decoded = self.module.decode(posterior.sample(noise.to(posterior.mean)), batch.past)
        error = squared_error(decoded.flatten(2), batch.future.flatten(2))
        divergence = posterior.divergence().mean()
        loss = error + self.recipe.losses.divergence * divergence
        return loss, {'error': error, 'divergence': divergence}

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the error of reconstruction from x, on held-out subjects."""
        squares, distances = [], []
        for batch in chunks(self.data.held_out):
            decoded = self.module.decode(self.module.latent(batch.past, batch.future), batch.past)
            difference = decoded - batch.future
            squares.append(difference.square().sum((2, 3)).mean(1))
            distances.append(difference.norm(dim=3).mean((1, 2)))
        figures = {
            'score': float(torch.cat(squares).mean()),
            'joint_mm': 1e3 * float(torch.cat(distances).mean()),
        }
        return figures, {}


class FlowTask(FutureTask):
    """Third part: flow and mixture, on latents that no longer change."""

    kind, has_dropout = KIND, True
    module: CacheFlow

    def __init__(
        self, name: str, recipe: CacheFlowRecipe, data: FutureData, decoder: Path
    ) -> None:
        super().__init__(name, recipe, data, recipe.flow)
        self.module = CacheFlow(recipe.model).to(data.device)
        fresh = {
            key: value
            for key, value in self.module.state_dict().items()
            if key.startswith(('flow.', 'mixture.'))
        }
        trained = load_checkpoint(decoder, DecoderTask.kind).tensors
        self.module.load_state_dict({**trained, **fresh})
        self.module.flow.begin_at_rest()
        self.module.factorisation.fit_scale(behaviours(self.module, data, recipe))
        self.module.requires_grad_(False)
        for part in (self.module.flow, self.module.mixture):
            part.requires_grad_(True)

    def losses(self, batch: Batch, generator: torch.Generator, index: int) -> Losses:
        """Return the losses of the recipe's mode."""
        with torch.no_grad():
            x = vary_latent(self.module.latent(batch.past, batch.future), self.recipe, generator)
        matching, likelihood = self._terms(batch, x, generator, index)
        loss = self.recipe.losses.matching * matching - likelihood
        return loss, {'matching': matching, 'log_prob': likelihood / self.recipe.model.latent}

    def _terms(
        self, batch: Batch, x: Latents, generator: torch.Generator, index: int
    ) -> tuple[Tensor, Tensor]:
        """Return the flow-matching error and the log-likelihood, as the mode has them."""
        mode, flow = self.recipe.model.mode, self.module.flow
        q = self.module.observe(vary_past(batch.past, self.recipe, generator))
        time = torch.rand(len(x), generator=generator).to(x)
        if mode == 'two-stage':
            return self._one_of_two(q, x, time, generator, index)
        z = q.sample(1, generator)[:, 0].detach()
        matching = flow.matching_error(z, x, time).mean()
        reached, log_det = self._pull(x, generator, with_gradient=mode == 'joint')
        return matching, (q.log_prob(reached[:, None])[:, 0] + log_det).mean()

    def _one_of_two(
        self,
        q: Mixture,
        x: Latents,
        time: Float[Tensor, ' batch'],
        generator: torch.Generator,
        index: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the losses of two-stage training: first the flow, then q."""
        z = torch.randn(x.shape, generator=generator).to(x)
        matching = self.module.flow.matching_error(z, x, time).mean()
        if index < self.recipe.flow.steps // 2:
            # The inactive part gets a zero gradient, not None, so that a resumed run has its
            # moments.
            return matching, 0.0 * q.log_prob(z[:, None])[:, 0].mean()
        reached, _ = self._pull(x, generator, with_gradient=False)
        return matching.detach(), q.log_prob(reached[:, None])[:, 0].mean()

    def _pull(
        self, x: Latents, generator: torch.Generator, *, with_gradient: bool
    ) -> tuple[Latents, Float[Tensor, ' batch']]:
        times = random_times(self.recipe.losses.pull_steps, generator)
        with torch.set_grad_enabled(with_gradient):
            return self.module.flow.pull(x, times=times, scheme='midpoint')

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the exact log-density per dimension of held-out futures.

        With a small weight of matching, a flow may exploit errors of its integrator. The score is
        that of four times as many steps, and the difference between the two counts tenfold.
        """
        flow, parts = self.module.flow, []
        finer = even_times(4 * flow.steps)
        self.module.eval()
        for batch in chunks(self.data.held_out):
            x = self.module.latent(batch.past, batch.future)
            q = self.module.observe(batch.past)
            z, log_det = flow.pull(x)
            fine_z, fine_det = flow.pull(x, times=finer)
            density = q.log_prob(z[:, None])[:, 0] + log_det
            finely = q.log_prob(fine_z[:, None])[:, 0] + fine_det
            parts.append((density, finely, z))
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        density, finely = (column / self.recipe.model.latent for column in columns[:2])
        base, wrong = columns[2], (density.mean() - finely.mean()).abs()
        figures = {
            'score': float(10.0 * wrong - finely.mean()),
            'log_prob_per_dim': float(density.mean()),
            'log_prob_per_dim_median': float(density.median()),
            'log_prob_per_dim_finely': float(finely.mean()),
            'z_std': float(base.std(0).mean()),
        }
        return figures, {}


def vary_past(past: PastPoses, recipe: CacheFlowRecipe, generator: torch.Generator) -> PastPoses:
    """Add noise of low frequency, which leaves velocities usable."""
    ends = torch.randn(len(past), 2, *past.shape[2:], generator=generator).to(past)
    along = torch.linspace(0.0, 1.0, past.shape[1]).to(past)[:, None, None]
    return past + recipe.variety.noise_m * torch.lerp(ends[:, :1], ends[:, 1:], along)


def vary_latent(x: Latents, recipe: CacheFlowRecipe, generator: torch.Generator) -> Latents:
    """Add noise to latents, as a model of similar futures."""
    noise = torch.randn(x.shape, generator=generator).to(x)
    return x + recipe.variety.latent * noise


def evidence_figures(
    errors: Sequence[Tensor], divergences: Sequence[Tensor], weight: float
) -> dict[str, float]:
    """Return the terms of the evidence lower bound over all batches, and their weighted sum."""
    error, divergence = (float(torch.cat(list(v)).mean()) for v in (errors, divergences))
    return {'score': error + weight * divergence, 'error': error, 'divergence': divergence}


def squared_error(
    decoded: Float[Tensor, 'batch horizon size'], future: Float[Tensor, 'batch horizon size']
) -> Float[Tensor, '']:
    """Return the squared error of whole poses, mean over horizons and people [m^2]."""
    return (decoded - future).square().sum(2).mean()


def chunks(batch: Batch) -> Sequence[Batch]:
    """Split many windows into batches that fit into memory."""
    pairs = zip(batch.past.split(_CHUNK), batch.future.split(_CHUNK), strict=True)
    return [Batch(past, future) for past, future in pairs]


@torch.no_grad()
def behaviours(
    module: CacheFlow, data: FutureData, recipe: CacheFlowRecipe
) -> Float[Tensor, 'sample behaviour']:
    """Return the mean behaviours of some thousand training windows, always the same ones."""
    generator = batch_generator(recipe.flow.seed, -1)
    rounds = range(_STATISTICS // _CHUNK)
    batches = (data.draw(_CHUNK, generator) for _ in rounds)
    return torch.cat([module.behaviour(batch.past, batch.future) for batch in batches])


def train_cache_flow(
    name: str,
    recipe: CacheFlowRecipe,
    recordings: Recordings,
    out: Path,
    device: torch.device,
    *,
    minutes: float | None = None,
    resume: bool = False,
) -> Path:
    """Train all three parts, into `out/behaviour`, `out/decoder` and `out`.

    Returns:
        The best checkpoint of the last part that was reached.
    """
    data = FutureData(recipe, recordings, device)
    deadline = None if minutes is None else time.monotonic() + 60.0 * minutes

    def run(task: Task, schedule: ScheduleConfig, folder: Path) -> tuple[Path, bool]:
        left = None if deadline is None else max(0.0, (deadline - time.monotonic()) / 60.0)
        last = folder / 'last.safetensors'
        best = train(task, schedule, folder, minutes=left, resume=resume)
        return best, load_checkpoint(last, task.kind).header['done'] >= schedule.steps

    behaviour, whole = run(BehaviourTask(name, recipe, data), recipe.behaviour, out / 'behaviour')
    if not whole:
        return behaviour
    decoder, whole = run(
        DecoderTask(name, recipe, data, behaviour), recipe.decoder, out / 'decoder'
    )
    if not whole:
        return decoder
    return run(FlowTask(name, recipe, data, decoder), recipe.flow, out)[0]
