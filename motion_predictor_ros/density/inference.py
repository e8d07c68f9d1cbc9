# SPDX-License-Identifier: Apache-2.0
"""CacheFlow as inference runs it: what no observation changes is multiplied together once.

Stage: density. The answers are those of `CacheFlow` to rounding. What is folded:
    x to the decoder's gates      whitening, basis, mean and input weights are one matrix
    last frames to the gates      one matrix, and once per person instead of once per future
    states to positions           offsets leave the body frame by the product that makes them
"""

import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.density.cache_flow import CacheFlow, pose_features
from motion_predictor_ros.density.folded_flow import fold_pull
from motion_predictor_ros.density.mixture import Mixture, split_head
from motion_predictor_ros.density.recurrence import Recurrence


class FoldedCacheFlow:
    """A trained CacheFlow whose weights will not change any more.

    Attributes:
        pull: From x to z and log|det dz/dx|.
    """

    @torch.no_grad()
    def __init__(self, module: CacheFlow, root: int) -> None:
        """Fold the weights.

        Args:
            root: Row of a pose that holds the root.
        """
        self._config = module.config
        self._fold_mixture(module)
        self._fold_decoder(module)
        self._offset, self._offset_bias = _from_u(module.vae.offset.weight, module.vae.offset.bias)
        still = torch.ones_like(self._offset_bias)
        still[3 * root : 3 * root + 3] = 0.0
        self._rootless, self._rootless_bias = self._offset * still, self._offset_bias * still
        self._root = root
        self.pull = fold_pull(module.flow)

    def _fold_mixture(self, module: CacheFlow) -> None:
        gru, head = dict(module.mixture.gru.named_parameters()), module.mixture.head
        self._reader = Recurrence.of(gru['weight_hh_l0'], gru['bias_hh_l0'])
        self._read, self._read_bias = self._reader.entry(gru['weight_ih_l0'].mT, gru['bias_ih_l0'])
        self._head, self._head_bias = _from_u(head.weight, head.bias)

    def _fold_decoder(self, module: CacheFlow) -> None:
        vae, factorisation = module.vae, module.factorisation
        self._player = Recurrence.of(vae.decoder.state.weight, vae.decoder.state.bias)
        to_gates = vae.decoder.input.weight.mT
        behaviour, start = to_gates.split([len(factorisation.mean), vae.decoder.hidden])
        bias = vae.decoder.input.bias + factorisation.mean @ behaviour + vae.start.bias @ start
        spread = factorisation.scale[:, None] * factorisation.basis.mT
        self._play, _ = self._player.entry(spread @ behaviour, bias)
        self._begin, self._begin_bias = self._player.entry(vae.start.weight.mT @ start, bias)

    def observe(self, past: Float[Tensor, 'batch time posed xyz=3']) -> Mixture:
        """Return q(z | c) of observed poses [m]."""
        frames = pose_features(past, self._config.period_s).transpose(0, 1)
        entered = torch.addmm(self._read_bias, frames.flatten(0, 1), self._read)
        states = self._reader.states(entered.unflatten(0, frames.shape[:2]), len(frames))
        raw = torch.addmm(self._head_bias, states[-1], self._head)
        return split_head(raw, self._config.modes, self._config.latent)

    def play(
        self,
        x: Float[Tensor, 'batch future latent'],
        past: Float[Tensor, 'batch time posed xyz=3'],
        leaving: Float[Tensor, 'batch size value'],
        ways: Float[Tensor, 'batch future horizon xyz=3'] | None = None,
    ) -> Float[Tensor, 'batch future horizon value']:
        """Play x from where observations end; flat joint positions in the room's axes [m].

        Args:
            leaving: Of the body frame; what is added to the placement's origin comes out.
            ways: Of the root since the last observation, in the body frame [m]; None: as decoded.
        """
        people, futures = x.shape[:2]
        last = past[:, -self._config.seen :].flatten(1)
        begun = torch.addmm(self._begin_bias, last, self._begin).repeat_interleave(futures, dim=0)
        entered = torch.addmm(begun, x.flatten(0, 1), self._play)
        states = self._player.states(entered[None], self._config.future)
        own = ways is None
        matrix = (self._offset if own else self._rootless) @ leaving
        from_pose = past[:, -1].flatten(1) + (self._offset_bias if own else self._rootless_bias)
        start = (from_pose[:, None] @ leaving)[:, 0]
        rows = states.unflatten(1, (people, futures))
        played = [
            torch.addmm(start[person], rows[:, person].flatten(0, 1), matrix[person])
            for person in range(people)
        ]
        places = torch.stack(played).unflatten(1, (-1, futures)).transpose(1, 2)
        if ways is None:
            return places
        along = leaving[:, None, 3 * self._root : 3 * self._root + 3]
        return places + ways @ along


def _from_u(
    weight: Float[Tensor, 'outputs hidden'], bias: Float[Tensor, ' outputs']
) -> tuple[Float[Tensor, 'hidden outputs'], Float[Tensor, ' outputs']]:
    """Return matrix and bias that do with u = (h + 1) / 2 what a linear layer does with h."""
    return (2.0 * weight.mT).contiguous(), bias - weight.sum(1)
