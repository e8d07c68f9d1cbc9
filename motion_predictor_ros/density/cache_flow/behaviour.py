# SPDX-License-Identifier: Apache-2.0
"""Encode a future as a short latent x, and decode x from a start pose.

Stage: density. Source: [CacheFlow] arXiv 2505.13140, on the behavioural latent space of BeLFusion
(arXiv 2211.14304). The latent describes the behaviour, not the pose: decoding adds offsets to the
last observed frame, so a recorded behaviour can be decoded for the person in view.
    b = encoder(last frames, future)             128-d, variational
    x = (Q^T (b - m)) / s                         8-d, Q orthonormal, whitened
    future = last frame + decoder(m + Q s x, last frames)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Posterior:
    """Result of the encoder: independent Gaussians."""

    mean: Float[Tensor, 'batch behaviour']
    log_variance: Float[Tensor, 'batch behaviour']

    def sample(self, noise: Float[Tensor, 'batch behaviour']) -> Float[Tensor, 'batch behaviour']:
        """Turn standard normal noise into behaviours."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def divergence(self) -> Float[Tensor, ' batch']:
        """Return KL(posterior || N(0, I)) [nat]."""
        terms = self.log_variance.exp() + self.mean.square() - 1.0 - self.log_variance
        return 0.5 * terms.sum(1)


class ConstantGRU(nn.Module):
    """GRU from a zero state under a constant input, which is multiplied only once."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(inputs, 3 * hidden)
        self.state = nn.Linear(hidden, 3 * hidden)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(
        self, constant: Float[Tensor, 'batch inputs'], steps: int
    ) -> Float[Tensor, 'batch step hidden']:
        """Return the state after each of `steps` steps."""
        sizes = [2 * self.hidden, self.hidden]
        gates_input, candidate_input = self.input(constant).split(sizes, dim=1)
        weight, bias = self.state.weight.t(), self.state.bias
        state = constant.new_zeros(len(constant), self.hidden)
        states = []
        for _ in range(steps):
            gates, candidate = torch.addmm(bias, state, weight).split(sizes, dim=1)
            reset, keep = torch.sigmoid(gates_input + gates).chunk(2, dim=1)
            new = torch.tanh(torch.addcmul(candidate_input, reset, candidate))
            state = torch.lerp(new, state, keep)
            states.append(state)
        return torch.stack(states, dim=1)


class BehaviourVAE(nn.Module):
    """Encoder and decoder of behaviours.

    Args:
        size: Numbers in a pose, three for each joint.
        seen: Observed frames that encoder and decoder read.
    """

    def __init__(self, size: int, seen: int, future: int, hidden: int, behaviour: int) -> None:
        super().__init__()
        self.seen, self.future = seen, future
        self.encoder = nn.LSTM(size, hidden, batch_first=True)
        self.posterior = nn.Linear(hidden, 2 * behaviour)
        self.start = nn.Linear(seen * size, hidden)
        self.decoder = ConstantGRU(behaviour + hidden, hidden)
        self.offset = nn.Linear(hidden, size)

    def encode(self, frames: Float[Tensor, 'batch time size']) -> Posterior:
        """Encode the last `seen` observed frames and the future after them."""
        _, (state, _) = self.encoder(frames)
        mean, log_variance = self.posterior(state[0]).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-10.0, 5.0))

    def decode(
        self, behaviour: Float[Tensor, 'batch behaviour'], last: Float[Tensor, 'batch seen size']
    ) -> Float[Tensor, 'batch horizon size']:
        """Decode behaviours from the last observed frames."""
        constant = torch.cat([behaviour, self.start(last.flatten(1))], dim=1)
        return last[:, -1:] + self.offset(self.decoder(constant, self.future))


class Factorisation(nn.Module):
    """Linear map between behaviours and the whitened latent x.

    Q is the QR factor of a free matrix, so that it stays orthonormal in training.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, behaviour: int, latent: int) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.eye(behaviour, latent))
        self.register_buffer('mean', torch.zeros(behaviour))
        self.register_buffer('scale', torch.ones(latent))

    @property
    def basis(self) -> Float[Tensor, 'behaviour latent']:
        """Return Q."""
        factor, triangle = torch.linalg.qr(self.free)
        return factor * triangle.diagonal().sign()

    def reduce(
        self, behaviour: Float[Tensor, '*batch behaviour']
    ) -> Float[Tensor, '*batch latent']:
        """Return x."""
        return (behaviour - self.mean) @ self.basis / self.scale

    def reduce_posterior(self, posterior: Posterior) -> Posterior:
        """Return the posterior of each component of x."""
        variance = posterior.log_variance.exp() @ self.basis.square() / self.scale.square()
        return Posterior(self.reduce(posterior.mean), variance.log())

    def expand(self, x: Float[Tensor, '*batch latent']) -> Float[Tensor, '*batch behaviour']:
        """Return the behaviour of x."""
        return self.mean + (x * self.scale) @ self.basis.mT

    @torch.no_grad()
    def fit_directions(self, behaviours: Float[Tensor, 'sample behaviour']) -> None:
        """Set m and Q to mean and principal directions."""
        self.mean.copy_(behaviours.mean(0))
        _, _, directions = torch.linalg.svd(behaviours - self.mean, full_matrices=False)
        self.free.copy_(directions[: self.free.shape[1]].mT)

    @torch.no_grad()
    def fit_scale(self, behaviours: Float[Tensor, 'sample behaviour']) -> None:
        """Set s so that every component of x has unit variance."""
        self.scale.fill_(1.0)
        self.scale.copy_(self.reduce(behaviours).std(0).clamp_min(1e-6))
