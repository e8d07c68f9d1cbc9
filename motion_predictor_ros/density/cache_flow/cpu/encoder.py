# SPDX-License-Identifier: Apache-2.0
"""What is done in a future, as x, as inference asks it of the few futures that are predicted.

Stage: density. What `CacheFlow.latent` does, to rounding: between the encoder's state and x lies
one matrix, and on a CPU the recurrence is one compiled call.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.density.cache_flow.cpu.gru_kernels import remember
from motion_predictor_ros.density.cache_flow.model import CacheFlow


class FusedEncoder:
    """From observed poses and a future to x, by weights that will not change any more."""

    @torch.no_grad()
    def __init__(self, module: CacheFlow) -> None:
        lstm, posterior = dict(module.vae.encoder.named_parameters()), module.vae.posterior
        factorisation, behaviour = module.factorisation, len(module.factorisation.mean)
        self._seen, self._plain = module.config.seen, module.latent
        self._enter = lstm['weight_ih_l0'].mT.contiguous()
        self._bias = lstm['bias_ih_l0'] + lstm['bias_hh_l0']
        self._weight = lstm['weight_hh_l0'].mT.contiguous()
        reduce = factorisation.basis / factorisation.scale
        self._leave = posterior.weight[:behaviour].mT @ reduce
        self._leave_bias = (posterior.bias[:behaviour] - factorisation.mean) @ reduce

    def __call__(
        self,
        past: Float[Tensor, 'batch time posed xyz=3'],
        future: Float[Tensor, 'batch horizon posed xyz=3'],
    ) -> Float[Tensor, 'batch latent']:
        """Return x of futures [m]."""
        if past.device.type != 'cpu' or past.dtype != torch.float32:
            return self._plain(past, future)
        frames = torch.cat([past[:, -self._seen :], future], dim=1).flatten(2)
        weight = self._weight.numpy()
        states = np.empty((len(frames), len(weight)), np.float32)
        for each, state in zip(frames, states, strict=True):
            entered = torch.addmm(self._bias, each, self._enter)
            remember(entered.view(len(each), 4, -1).numpy(), weight, state)
        return torch.addmm(self._leave_bias, torch.from_numpy(states), self._leave)
