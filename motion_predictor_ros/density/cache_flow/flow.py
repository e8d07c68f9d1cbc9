# SPDX-License-Identifier: Apache-2.0
"""A continuous normalizing flow without context: x = f(z), z = f^-1(x).

Stage: density. [CacheFlow] section 3.2: dy/dt = v(y, t), y(0) = z, y(1) = x, trained by flow
matching over straight paths (eq. 6). One fixed-step scheme serves forward, inverse and
log-determinant, and the trace of dv/dy is exact: all tangents are pushed, there are only eight.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

Rate = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""From y and t to dy/dt and d(log-volume)/dt."""

Latents = Float[Tensor, 'batch latent']

_FREQUENCIES = 16


def time_embedding(time: Float[Tensor, ' batch']) -> Float[Tensor, 'batch wave']:
    """Return sines and cosines of t in [0, 1] at 0.5 to 8 rad: v stays smooth in time.

    Faster waves would let a few integration steps miss what happens between them.
    """
    waves = torch.logspace(-1.0, 3.0, _FREQUENCIES, base=2.0, device=time.device)
    angles = time[:, None] * waves.to(time.dtype)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class MLPVelocity(nn.Module):
    """v(y, t) as three hidden layers, each scaled and shifted by the time (FiLM)."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        sizes = [latent, width, width, width]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.film = nn.Linear(2 * _FREQUENCIES, 2 * width * len(self.layers))
        self.out = nn.Linear(width, latent)

    def forward(self, y: Latents, time: Float[Tensor, ' batch']) -> Latents:
        """Return the velocity of each row at its own time."""
        for layer, film in zip(self.layers, self.films(time), strict=True):
            scale, shift = film.chunk(2, dim=1)
            y = nn.functional.silu(layer(y) * (1.0 + scale) + shift)
        return self.out(y)

    @property
    def linear_layers(self) -> list[nn.Linear]:
        """The hidden layers."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def films(self, time: Float[Tensor, ' batch']) -> tuple[Tensor, ...]:
        """Return scale and shift of each layer, side by side."""
        return self.film(time_embedding(time)).chunk(len(self.layers), dim=1)

    def with_trace(
        self, y: Latents, time: Float[Tensor, ' batch']
    ) -> tuple[Latents, Float[Tensor, ' batch']]:
        """Return the velocity and the trace of dv/dy, all tangents pushed through the layers.

        What `torch.func` does for any network, without its twenty-fold overhead on a small one.
        """
        pushed = torch.eye(y.shape[1], dtype=y.dtype, device=y.device).expand(len(y), -1, -1)
        for layer, film in zip(self.linear_layers, self.films(time), strict=True):
            scale, shift = film.chunk(2, dim=1)
            inner = layer(y) * (1.0 + scale) + shift
            gate = torch.sigmoid(inner)
            slope = gate * (1.0 + inner * (1.0 - gate)) * (1.0 + scale)
            pushed = nn.functional.linear(pushed, layer.weight) * slope[:, None]
            y = inner * gate
        return self.out(y), (pushed * self.out.weight).sum((1, 2))


class Flow(nn.Module):
    """The flow between base samples z and latents x.

    Args:
        width: Hidden units of a layer.
        scheme: 'midpoint' or 'rk4'.
    """

    def __init__(self, latent: int, width: int, scheme: str, steps: int) -> None:
        super().__init__()
        self.latent, self.scheme, self.steps = latent, scheme, steps
        self.velocity = MLPVelocity(latent, width)

    def begin_at_rest(self) -> None:
        """Make f the identity: the mixture is then a density of x."""
        for parameter in self.velocity.get_submodule('out').parameters():
            nn.init.zeros_(parameter)

    def matching_error(
        self, z: Latents, x: Latents, time: Float[Tensor, ' batch']
    ) -> Float[Tensor, ' batch']:
        """Return the squared error of v at the time's place on the way from z to x (eq. 6)."""
        at = torch.lerp(z, x, time[:, None])
        return (self.velocity(at, time) - (x - z)).square().sum(1)

    def push_with_volume(self, z: Latents) -> tuple[Latents, Float[Tensor, ' batch']]:
        """Return x = f(z) and log|det dx/dz| [nat]."""
        return integrate(self._velocity_and_trace, z, even_times(self.steps), self.scheme)

    def pull(
        self, x: Latents, *, times: Sequence[float] | None = None, scheme: str | None = None
    ) -> tuple[Latents, Float[Tensor, ' batch']]:
        """Return z = f^-1(x) and log|det dz/dx| [nat].

        Args:
            times: Boundaries of the steps, from 0 to 1; default: `steps` even ones.
        """
        backwards = list(reversed(times or even_times(self.steps)))
        return integrate(self._velocity_and_trace, x, backwards, scheme or self.scheme)

    def _velocity_and_trace(
        self, y: Latents, time: float
    ) -> tuple[Latents, Float[Tensor, ' batch']]:
        return self.velocity.with_trace(y, torch.full_like(y[:, 0], time))


def even_times(steps: int) -> list[float]:
    """Return the boundaries of `steps` even steps from 0 to 1."""
    return [index / steps for index in range(steps + 1)]


def random_times(steps: int, generator: torch.Generator) -> list[float]:
    """Return boundaries of `steps` steps, each moved at random.

    A flow trained by its own likelihood on a fixed grid exploits the grid: errors between the
    evaluations cost nothing. A random grid prevents that.
    """
    moves = (0.8 * torch.rand(steps - 1, generator=generator) - 0.4).tolist()
    return [0.0, *((index + 1 + move) / steps for index, move in enumerate(moves)), 1.0]


def integrate(
    rate: Rate, start: Latents, times: Sequence[float], scheme: str
) -> tuple[Latents, Float[Tensor, ' batch']]:
    """Integrate along `times`; return y at the end, and the log-volume gained."""
    y, volume = start, start.new_zeros(len(start))
    advance = {'midpoint': _midpoint, 'rk4': _rk4}[scheme]
    for begin, end in itertools.pairwise(times):
        change, growth = advance(rate, y, begin, end - begin)
        y, volume = y + (end - begin) * change, volume + (end - begin) * growth
    return y, volume


def _midpoint(rate: Rate, y: Tensor, time: float, step: float) -> tuple[Tensor, Tensor]:
    first, _ = rate(y, time)
    return rate(y + 0.5 * step * first, time + 0.5 * step)


def _rk4(rate: Rate, y: Tensor, time: float, step: float) -> tuple[Tensor, Tensor]:
    k1, g1 = rate(y, time)
    k2, g2 = rate(y + 0.5 * step * k1, time + 0.5 * step)
    k3, g3 = rate(y + 0.5 * step * k2, time + 0.5 * step)
    k4, g4 = rate(y + step * k3, time + step)
    return (k1 + 2 * (k2 + k3) + k4) / 6.0, (g1 + 2 * (g2 + g3) + g4) / 6.0
