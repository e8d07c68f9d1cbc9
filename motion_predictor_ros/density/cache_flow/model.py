# SPDX-License-Identifier: Apache-2.0
"""CacheFlow: the density of all futures, with the costly half independent of the observation.

Stage: density. Source: [CacheFlow] arXiv 2505.13140. With x the latent of a future and z = f^-1(x)
    log p(x | c) = log q(z | c) + log|det dz/dx|                                   (eq. 7)
The flow f ignores the observation c, so (z, x, log|det|) of every recorded future is computed once
(`cache.py`); online only the mixture q is evaluated. Densities are those of the whitened x.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motion_predictor_ros.config import param
from motion_predictor_ros.density.body_frame import FuturePoses, PastPoses
from motion_predictor_ros.density.cache_flow.behaviour import BehaviourVAE, Factorisation
from motion_predictor_ros.density.cache_flow.flow import Flow, Latents
from motion_predictor_ros.density.cache_flow.mixture import Mixture, ObservationMixture

MODES = ('joint', 'joint-stopgrad', 'two-stage')


@dataclass(frozen=True)
class CacheFlowConfig:
    """Shape of the model; stored with its weights."""

    joints: int = param(18, 'joints of the recorded skeleton [-]', low=2, high=128)
    past: int = param(25, 'observed frames [-]', low=3, high=200)
    future: int = param(50, 'predicted frames [-]', low=2, high=400)
    period_s: float = param(0.04, 'model clock [s]', low=0.005, high=0.5)
    frame: str = param('heading', 'body frame; stored in older files [-]', choices=('heading',))
    seen: int = param(3, 'observed frames that encoder and decoder read [-]', low=1, high=50)
    hidden: int = param(128, 'state of the recurrent networks [-]', low=4, high=1024)
    behaviour: int = param(128, 'behaviour latent before factorisation [-]', low=2, high=1024)
    latent: int = param(8, 'latent x after factorisation [-]', low=1, high=1024)
    modes: int = param(50, 'Gaussians in the mixture q(z | c) [-]', low=1, high=1000)
    dropout: float = param(
        0.2, "share left out of the mixture's input and state in training [-]", low=0.0, high=0.9
    )
    velocity: str = param('mlp', "the flow's network; stored in older files [-]", choices=('mlp',))
    width: int = param(256, "the flow's hidden units per layer [-]", low=4, high=2048)
    scheme: str = param('rk4', "the flow's integrator [-]", choices=('midpoint', 'rk4'))
    steps: int = param(8, "the flow's integration steps [-]", low=1, high=1000)
    mode: str = param('two-stage', 'how flow and mixture were trained [-]', choices=MODES)


class CacheFlow(nn.Module):
    """Behaviour VAE, factorisation, unconditional flow and observation mixture."""

    def __init__(self, config: CacheFlowConfig) -> None:
        super().__init__()
        self.config = config
        size = 3 * config.joints
        self.vae = BehaviourVAE(size, config.seen, config.future, config.hidden, config.behaviour)
        self.factorisation = Factorisation(config.behaviour, config.latent)
        self.flow = Flow(config.latent, config.width, config.scheme, config.steps)
        self.mixture = ObservationMixture(
            2 * size, config.hidden, config.modes, config.latent, config.dropout
        )

    def observe(self, past: PastPoses) -> Mixture:
        """Return q(z | c) of observed poses [m]."""
        return self.mixture(self.features(past))

    def features(self, past: PastPoses) -> Float[Tensor, 'batch time feature']:
        """Return the input of the mixture."""
        return pose_features(past, self.config.period_s)

    def behaviour(self, past: PastPoses, future: FuturePoses) -> Float[Tensor, 'batch behaviour']:
        """Return the mean behaviour of futures [-]."""
        last = past[:, -self.config.seen :]
        return self.vae.encode(torch.cat([last, future], dim=1).flatten(2)).mean

    def latent(self, past: PastPoses, future: FuturePoses) -> Latents:
        """Return x of futures."""
        return self.factorisation.reduce(self.behaviour(past, future))

    def decode(self, x: Latents, past: PastPoses) -> FuturePoses:
        """Decode x from the end of the observation; poses [m]."""
        last = past[:, -self.config.seen :].flatten(2)
        return self.vae.decode(self.factorisation.expand(x), last).unflatten(2, (-1, 3))

    def log_prob(self, q: Mixture, x: Latents) -> Float[Tensor, ' batch']:
        """Return log p(x | c) of any x, through the inverse flow (eq. 7) [nat]."""
        z, log_det = self.flow.pull(x)
        return q.log_prob(z[:, None])[:, 0] + log_det

    def forward(self, past: PastPoses, future: FuturePoses) -> Float[Tensor, ' batch']:
        """Return the log-density of arbitrary futures [nat]."""
        return self.log_prob(self.observe(past), self.latent(past, future))


def pose_features(past: PastPoses, period_s: float) -> Float[Tensor, 'batch time feature']:
    """Return poses [m] and their velocities [m/s], flat."""
    frames = past.flatten(2)
    speed = frames.diff(dim=1) / period_s
    return torch.cat([frames, torch.cat([speed[:, :1], speed], dim=1)], dim=2)
