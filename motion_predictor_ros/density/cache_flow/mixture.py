# SPDX-License-Identifier: Apache-2.0
"""The conditional density of the base sample z: a small Gaussian mixture q(z | c).

Stage: density. [CacheFlow] section 3.3. Only this is computed online; the rest is in the cache.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from motion_predictor_ros.runtime.tensors import TensorBatch

_LOG_SIGMA = (-5.0, 3.0)
_BLOCK = 5_000
_FAINT = 2.0**-90
"""Sums below this may have lost modes to float32's range."""


@dataclass(frozen=True)
class Mixture(TensorBatch):
    """One diagonal Gaussian mixture per person.

    Attributes:
        log_weights: Normalised over `mode`.
    """

    log_weights: Float[Tensor, 'batch mode']
    means: Float[Tensor, 'batch mode latent']
    log_sigmas: Float[Tensor, 'batch mode latent']

    def log_prob(self, z: Float[Tensor, 'batch future latent']) -> Float[Tensor, 'batch future']:
        """Evaluate each person's mixture at points of that person [nat]."""
        scaled = (z[:, :, None] - self.means[:, None]) / self.log_sigmas.exp()[:, None]
        terms = -0.5 * scaled.square().sum(3) - self.log_sigmas.sum(2)[:, None]
        constant = 0.5 * z.shape[2] * math.log(2 * math.pi)
        return torch.logsumexp(self.log_weights[:, None] + terms, dim=2) - constant

    def coefficients(self) -> Float[Tensor, 'batch mode power']:
        """Return A, such that [z^2, z, 1] . A is the log-density of each weighted mode."""
        precision = (-2.0 * self.log_sigmas).exp()
        linear = precision * self.means
        nats = 0.5 * self.means.shape[2] * math.log(2 * math.pi)
        lost = torch.addcmul(self.log_sigmas, linear, self.means, value=0.5).sum(2) + nats
        constant = (self.log_weights - lost)[..., None]
        return torch.cat([-0.5 * precision, linear, constant], dim=2)

    def log_prob_shared(
        self, powers: Float[Tensor, 'power cached'], count: int | None = None
    ) -> Float[Tensor, 'batch count']:
        """Evaluate the mixtures of all people at the same points [nat].

        One matrix product per person: with p = 1 / sigma^2 and A = [-p / 2, p mu, constant]
            log(w N(z; mu, sigma)) = A . [z^2, z, 1]

        Args:
            powers: Of the points, see `powers_of`.
            count: Number of points, from the first; None: all.
        """
        count = powers.shape[1] if count is None else min(count, powers.shape[1])
        # Relative to the highest peak of all modes, so that no sum can overflow.
        nats = 0.5 * self.means.shape[2] * math.log(2 * math.pi)
        heights = self.log_weights - self.log_sigmas.sum(2)
        peak = heights.amax(dim=1, keepdim=True)
        bits = self.coefficients()
        bits[..., -1] -= peak - nats
        bits /= math.log(2.0)
        powers = powers[:, :count]
        relative = torch.stack([_log2_densities(person, powers) for person in bits])
        return relative.mul_(math.log(2.0)).add_(peak - nats)

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, 'batch future latent']:
        """Draw `count` times from each person's mixture."""
        people, _, latent = self.means.shape
        return self.draw(Noise.drawn((people, count, latent), self.means, generator))

    def draw(self, noise: 'Noise') -> Float[Tensor, 'batch future latent']:
        """Transform noise into draws."""
        summed = self.log_weights.exp().cumsum(1).double()
        mode = torch.searchsorted(summed, noise.uniform).clamp_max(summed.shape[1] - 1)
        index = mode[..., None].expand(-1, -1, self.means.shape[2])
        return self.means.gather(1, index) + self.log_sigmas.gather(1, index).exp() * noise.normal


@dataclass(frozen=True)
class Noise(TensorBatch):
    """Random numbers for draws from a mixture, the same on every device.

    Attributes:
        uniform: In [0, 1); selects the mode.
        normal: Standard normal; selects the point in the mode.
    """

    uniform: Float64[Tensor, 'batch future']
    normal: Float[Tensor, 'batch future latent']

    @classmethod
    def drawn(
        cls, shape: tuple[int, int, int], like: Tensor, generator: torch.Generator | None = None
    ) -> 'Noise':
        """Draw on the generator's device, then move to that of `like`."""
        device = torch.device('cpu') if generator is None else generator.device
        uniform = torch.rand(shape[:2], dtype=torch.float64, device=device, generator=generator)
        normal = torch.randn(shape, dtype=like.dtype, device=device, generator=generator)
        return cls(uniform.to(like.device), normal.to(like.device))


def powers_of(z: Float[Tensor, 'cached latent']) -> Float[Tensor, 'power cached']:
    """Return [z^2, z, 1], in which the log-density of a Gaussian is linear."""
    return torch.cat([z.square(), z, torch.ones_like(z[:, :1])], dim=1).T.contiguous()


def _log2_densities(
    bits: Float[Tensor, 'mode power'], powers: Float[Tensor, 'power cached']
) -> Float[Tensor, ' cached']:
    """Return log2(sum(exp2(bits . powers))), in blocks that stay in the processor's cache.

    In bits, because exp2 takes less time than exp.
    """
    parts = []
    for block in powers.split(_BLOCK, dim=1):
        sums = (bits @ block).exp2_().sum(dim=0)
        # On a GPU the test would take longer than the exact sum.
        if block.is_cuda or bool(sums.detach().amin() < _FAINT):
            parts.append(_exact_log2_densities(bits, block))
        else:
            parts.append(sums.log2_())
    return torch.cat(parts)


def _exact_log2_densities(
    bits: Float[Tensor, 'mode power'], powers: Float[Tensor, 'power cached']
) -> Float[Tensor, ' cached']:
    """Return the same, each point relative to its densest mode."""
    terms = bits @ powers
    top = terms.detach().amax(dim=0)
    return terms.sub_(top).exp2_().sum(dim=0).log2_().add_(top)


class ObservationMixture(nn.Module):
    """One-layer GRU over observed frames, then a linear head.

    Args:
        size: Numbers in an observed frame.
        dropout: Share of inputs and states that are left out while training.
    """

    def __init__(
        self, size: int, hidden: int, modes: int, latent: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.modes, self.latent = modes, latent
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(size, hidden, batch_first=True)
        self.head = nn.Linear(hidden, modes * (1 + 2 * latent))
        with torch.no_grad():  # modes start apart, else they stay one
            spread = self.head.bias.unflatten(0, (modes, 1 + 2 * latent))
            spread[:, 1 : 1 + latent] = torch.randn(modes, latent)

    def forward(self, frames: Float[Tensor, 'batch time size']) -> Mixture:
        """Return q(z | c) of each person."""
        _, state = self.gru(self.dropout(frames))
        return split_head(self.head(self.dropout(state[0])), self.modes, self.latent)


def split_head(raw: Float[Tensor, 'batch output'], modes: int, latent: int) -> Mixture:
    """Convert outputs of the head to a mixture."""
    logits, means, log_sigmas = raw.view(-1, modes, 1 + 2 * latent).split([1, latent, latent], 2)
    return Mixture(logits[..., 0].log_softmax(dim=1), means, log_sigmas.clamp(*_LOG_SIGMA))
