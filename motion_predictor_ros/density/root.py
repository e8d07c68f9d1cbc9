# SPDX-License-Identifier: Apache-2.0
"""Where the root goes: the recorded way of a cached future, in the heading of the person in view.

Stage: density. p(t) = p_obs + R (d_k(t) + (v_obs - v_k) tau (1 - exp(-t / tau))), all of it but R
in the canonical frame: what the recorded person did, corrected by the difference in speed at the
last observation, which is forgotten within tau. Ways are smooth, so a few principal components
per future hold them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class RootPaths:
    """Recorded displacements of the root after the last observation.

    Attributes:
        codes: Coordinates of each future's displacement in `basis`.
        basis: [m], rows are displacements over all horizons; the last row is their mean, and
            counts once for every future.
        velocities: [m/s] of the recorded root at the last observation, canonical frame.
        tau_s: How long a difference in speed lasts [s].
    """

    codes: Float[Tensor, 'cached code']
    basis: Float[Tensor, 'code+1 way']
    velocities: Float[Tensor, 'cached xyz=3']
    tau_s: float

    def displacement(
        self,
        index: Int64[Tensor, 'batch future'],
        velocity: Float[Tensor, 'batch xyz=3'],
        period_s: float,
    ) -> Float[Tensor, 'batch future horizon xyz=3']:
        """Return where the roots of people go when they do what was recorded [m].

        Args:
            velocity: [m/s] of each person's root at the last observation, canonical frame.
        """
        ways = self.codes[index] @ self.basis[:-1] + self.basis[-1]
        recorded = ways.unflatten(2, (-1, 3))
        surplus = velocity[:, None] - self.velocities[index]
        lag = self._lag(recorded.shape[2], period_s, velocity.device).to(velocity.dtype)
        return recorded + surplus[:, :, None] * lag

    def _lag(
        self, horizon: int, period_s: float, device: torch.device
    ) -> Float[Tensor, 'horizon 1']:
        steps = torch.arange(1, horizon + 1, dtype=torch.float64, device=device)
        return self.tau_s * (1.0 - torch.exp(-period_s * steps[:, None] / max(self.tau_s, 1e-9)))


def compress_paths(
    paths: Float[Tensor, 'cached horizon xyz=3'],
    velocities: Float[Tensor, 'cached xyz=3'],
    codes: int,
    tau_s: float,
) -> RootPaths:
    """Keep the `codes` strongest principal components of displacements [m]."""
    flat = paths.flatten(1)
    mean = flat.mean(0)
    covariance = (flat - mean).T @ (flat - mean)
    directions = torch.linalg.eigh(covariance.double()).eigenvectors.flip(1)[:, :codes].to(flat)
    basis = torch.cat([directions.T, mean[None]])
    return RootPaths((flat - mean) @ directions, basis, velocities, tau_s)
