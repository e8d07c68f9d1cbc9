# SPDX-License-Identifier: Apache-2.0
"""The inverse flow as inference runs it on a CPU, for the few futures whose density is asked for.

Stage: density. What `Flow.pull` does with an MLP, to rounding, in one compiled call. Times are
known beforehand, so what the network makes of them, scales and shifts, is kept.
"""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from motion_predictor_ros.density.cache_flow.cpu.flow_kernels import ROWS, WIDE, follow
from motion_predictor_ros.density.cache_flow.flow import Flow, MLPVelocity, even_times

Pull = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From x to z and log|det dz/dx|."""

_STAGES = {
    'midpoint': ((0.0, 0.5), (0.0, 1.0)),
    'rk4': ((0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""Of each scheme, how far into a step each stage looks, along the rate before; and its weight."""


def fold_pull(flow: Flow) -> Pull:
    """Return the inverse flow; folded if it is an MLP in float32 on the CPU."""
    weight = next(flow.parameters())
    fits = weight.dtype == torch.float32 and weight.device.type == 'cpu'
    if not (fits and isinstance(flow.velocity, MLPVelocity)):
        return flow.pull
    return FusedPull(flow.velocity, flow.scheme, flow.steps)


class FusedPull:
    """f^-1 by an MLP whose weights will not change any more."""

    @torch.no_grad()
    def __init__(self, velocity: MLPVelocity, scheme: str, steps: int) -> None:
        layers = [each for each in velocity.layers if isinstance(each, torch.nn.Linear)]
        self._velocity, self._biases = velocity, [each.bias for each in layers]
        hidden, latent = layers[0].weight.shape
        self._workspace = -(-hidden // WIDE) * WIDE
        first = np.zeros((latent, self._workspace), np.float32)
        first[:, :hidden] = layers[0].weight.mT.numpy()
        last = np.zeros((latent, self._workspace), np.float32)
        last[:, :hidden] = velocity.out.weight.numpy()
        rest = np.stack([self._packed(each.weight) for each in layers[1:]])
        self._weights = first, rest, last, velocity.out.bias.numpy()
        looks, weights = _STAGES[scheme]
        backwards = even_times(steps)[::-1]
        films = [
            self._film(begin + look * (end - begin))
            for begin, end in itertools.pairwise(backwards)
            for look in looks
        ]
        self._grid = (
            np.stack(films).reshape(steps, len(looks), *films[0].shape),
            *np.array([looks, weights], np.float32),
            np.diff(np.array(backwards)).astype(np.float32),
        )

    def __call__(
        self, x: Float[Tensor, 'batch latent']
    ) -> tuple[Float[Tensor, 'batch latent'], Float[Tensor, ' batch']]:
        """Return z and log|det dz/dx| [nat]."""
        z, log_det = x.clone(memory_format=torch.contiguous_format), x.new_zeros(len(x))
        scratch = np.zeros((2, -(-(1 + x.shape[1]) // ROWS) * ROWS, self._workspace), np.float32)
        follow(z.numpy(), log_det.numpy(), *self._weights, *self._grid, scratch)
        return z, log_det

    def _packed(
        self, weight: Float[Tensor, 'hidden hidden']
    ) -> Float32[np.ndarray, 'block room wide']:
        workspace = np.zeros((self._workspace, self._workspace), np.float32)
        workspace[: len(weight), : len(weight)] = weight.mT.numpy()
        return workspace.reshape(self._workspace, -1, WIDE).transpose(1, 0, 2).copy()

    def _film(self, time: float) -> Float32[np.ndarray, 'layer two room']:
        """Return what multiplies each layer's product, and what is added then."""
        parts = self._velocity.films(torch.tensor([time], dtype=torch.float32))
        fused = np.zeros((len(parts), 2, self._workspace), np.float32)
        for row, bias, film in zip(fused, self._biases, parts, strict=True):
            scale, shift = film[0].chunk(2)
            row[:, : len(bias)] = torch.stack([1.0 + scale, bias * (1.0 + scale) + shift]).numpy()
        return fused
