# SPDX-License-Identifier: Apache-2.0
"""CacheFlow as inference runs it: what no observation changes is multiplied together once.

Stage: density. The answers are those of `CacheFlow` to rounding. What is folded:
    x to the decoder's gates      whitening, basis, mean and input weights are one matrix
    last frames to the gates      one matrix, and once per person instead of once per future
    states to positions           offsets leave the body frame by the product that makes them
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from motion_predictor_ros.density.cache_flow.cpu.encoder import FusedEncoder
from motion_predictor_ros.density.cache_flow.cpu.flow import fold_pull
from motion_predictor_ros.density.cache_flow.cpu.gru import Recurrence
from motion_predictor_ros.density.cache_flow.cpu.gru_kernels import WIDE, decode
from motion_predictor_ros.density.cache_flow.mixture import Mixture, split_head
from motion_predictor_ros.density.cache_flow.model import CacheFlow, pose_features
from motion_predictor_ros.runtime.threads import WorkerPool


class FusedCacheFlow:
    """A trained CacheFlow whose weights will not change any more.

    Attributes:
        pull: From x to z and log|det dz/dx|.
        latent: From observed poses and a future to x.
        is_compiled: Whether loops for a CPU in float32 run.
    """

    @torch.no_grad()
    def __init__(self, module: CacheFlow, root: int, pool: WorkerPool | None = None) -> None:
        """Fold the weights.

        Args:
            root: Row of a pose that holds the root.
            pool: People are shared out to its threads; default: only the caller's.
        """
        self._config, self._pool = module.config, pool or WorkerPool(1)
        weight = module.vae.offset.weight
        self.is_compiled = weight.device.type == 'cpu' and weight.dtype == torch.float32
        self._fold_mixture(module)
        self._fold_decoder(module)
        self._offset, self._offset_bias = _from_u(module.vae.offset.weight, module.vae.offset.bias)
        still = torch.ones_like(self._offset_bias)
        still[3 * root : 3 * root + 3] = 0.0
        self._rootless, self._rootless_bias = self._offset * still, self._offset_bias * still
        self._root = root
        self.pull, self.latent = fold_pull(module.flow), FusedEncoder(module)

    def _fold_mixture(self, module: CacheFlow) -> None:
        gru, head = dict(module.mixture.gru.named_parameters()), module.mixture.head
        self._reader = Recurrence.of(gru['weight_hh_l0'], gru['bias_hh_l0'])
        self._read, self._read_bias = self._reader.entry(gru['weight_ih_l0'].mT, gru['bias_ih_l0'])
        self._head, self._head_bias = _from_u(head.weight, head.bias)

    def _fold_decoder(self, module: CacheFlow) -> None:
        vae, factorisation = module.vae, module.factorisation
        self._decoder = Recurrence.of(vae.decoder.state.weight, vae.decoder.state.bias)
        to_gates = vae.decoder.input.weight.mT
        behaviour, start = to_gates.split([len(factorisation.mean), vae.decoder.hidden])
        bias = vae.decoder.input.bias + factorisation.mean @ behaviour + vae.start.bias @ start
        spread = factorisation.scale[:, None] * factorisation.basis.mT
        self._decode, _ = self._decoder.entry(spread @ behaviour, bias)
        self._begin, self._begin_bias = self._decoder.entry(vae.start.weight.mT @ start, bias)

    def observe(self, past: Float[Tensor, 'batch time posed xyz=3']) -> Mixture:
        """Return q(z | c) of observed poses [m]."""
        frames = pose_features(past, self._config.period_s).transpose(0, 1)
        entered = torch.addmm(self._read_bias, frames.flatten(0, 1), self._read)
        states = self._reader.states(entered.unflatten(0, frames.shape[:2]), len(frames))
        raw = torch.addmm(self._head_bias, states[-1], self._head)
        return split_head(raw, self._config.modes, self._config.latent)

    def decode(
        self,
        x: Float[Tensor, 'batch future latent'],
        past: Float[Tensor, 'batch time posed xyz=3'],
        leaving: Float[Tensor, 'batch size value'],
        origin: Float64[np.ndarray, 'batch xyz=3'],
        ways: Float[Tensor, 'batch future horizon xyz=3'] | None = None,
    ) -> Float64[np.ndarray, 'batch future horizon value']:
        """Play x from where observations end; flat joint positions in the room [m].

        Args:
            leaving: Of the body frame.
            origin: Of the placements [m]; added in float64: in float32, 100 km away is a
                staircase.
            ways: Of the root since the last observation, in the body frame [m]; None: as decoded.
        """
        if not self.is_compiled:
            return placed(self.decode_local(x, past, leaving, ways), origin)
        entered, matrix, start = self._prepared(x, past, leaving, decoded=ways is None)
        origins = np.tile(origin, matrix.shape[2] // 3)
        places = np.empty((*x.shape[:2], self._config.future, matrix.shape[2]))
        everybody = zip(entered, matrix, start, origins, places, strict=True)
        self._pool.run([partial(self._decode_compiled, *person) for person in everybody])
        if ways is not None:
            places += (ways @ self._along(leaving)).double().numpy()
        return places

    def decode_local(
        self,
        x: Float[Tensor, 'batch future latent'],
        past: Float[Tensor, 'batch time posed xyz=3'],
        leaving: Float[Tensor, 'batch size value'],
        ways: Float[Tensor, 'batch future horizon xyz=3'] | None = None,
    ) -> Float[Tensor, 'batch future horizon value']:
        """Do the same about the origin, everybody at once, by tensors alone."""
        entered, matrix, start = self._prepared(x, past, leaving, decoded=ways is None)
        steps = self._config.future
        states = self._decoder.states(entered.flatten(0, 1)[None], steps)
        own = states.unflatten(1, x.shape[:2]).permute(1, 2, 0, 3).flatten(1, 2)
        places = torch.baddbmm(start[:, None], own, matrix).unflatten(1, (-1, steps))
        return places if ways is None else places + ways @ self._along(leaving)

    def _prepared(
        self,
        x: Float[Tensor, 'batch future latent'],
        past: Float[Tensor, 'batch time posed xyz=3'],
        leaving: Float[Tensor, 'batch size value'],
        *,
        decoded: bool,
    ) -> tuple[
        Float[Tensor, 'batch future entry'],
        Float[Tensor, 'batch hidden value'],
        Float[Tensor, 'batch value'],
    ]:
        """Return what enters the recurrence, and what makes places of its states.

        Args:
            decoded: Whether that says where the root goes.
        """
        people, futures = x.shape[:2]
        last = past[:, -self._config.seen :].flatten(1)
        begun = torch.addmm(self._begin_bias, last, self._begin).repeat_interleave(futures, dim=0)
        entered = torch.addmm(begun, x.flatten(0, 1), self._decode).unflatten(0, (people, futures))
        matrix = (self._offset if decoded else self._rootless) @ leaving
        bias = self._offset_bias if decoded else self._rootless_bias
        start = ((past[:, -1].flatten(1) + bias)[:, None] @ leaving)[:, 0]
        return entered, matrix, start

    def _along(
        self, leaving: Float[Tensor, 'batch size value']
    ) -> Float[Tensor, 'batch 1 xyz=3 value']:
        """Return what a way of the root adds to all places."""
        return leaving[:, None, 3 * self._root : 3 * self._root + 3]

    @torch.no_grad()
    def _decode_compiled(
        self,
        entered: Float[Tensor, 'future entry'],
        matrix: Float[Tensor, 'hidden value'],
        start: Float[Tensor, ' value'],
        origin: Float64[np.ndarray, ' value'],
        places: Float64[np.ndarray, 'future horizon value'],
    ) -> None:
        """Write one person's futures."""
        (hidden, value), decoder = matrix.shape, self._decoder
        blocks = -(-value // WIDE)
        workspace = np.zeros((1 + hidden, blocks * WIDE), np.float32)
        workspace[0, :value], workspace[1:, :value] = start.numpy(), matrix.numpy()
        offset = workspace[1:].reshape(hidden, blocks, WIDE).transpose(1, 0, 2).copy()
        packed = decoder.packed_entry(entered[None])[0]
        decode(packed, decoder.packed, offset, workspace[0], origin, places)


def placed(
    about: Float[Tensor, 'batch future horizon value'], origin: Float64[np.ndarray, 'batch xyz=3']
) -> Float64[np.ndarray, 'batch future horizon value']:
    """Return flat joint positions about the origins of people where they are in the room [m]."""
    places: Float64[np.ndarray, 'batch future horizon value'] = about.double().cpu().numpy()
    return places + np.tile(origin, places.shape[3] // 3)[:, None, None]


def _from_u(
    weight: Float[Tensor, 'outputs hidden'], bias: Float[Tensor, ' outputs']
) -> tuple[Float[Tensor, 'hidden outputs'], Float[Tensor, ' outputs']]:
    """Return matrix and bias that do with u = (h + 1) / 2 what a linear layer does with h."""
    return (2.0 * weight.mT).contiguous(), bias - weight.sum(1)
