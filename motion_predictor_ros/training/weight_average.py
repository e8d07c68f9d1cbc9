# SPDX-License-Identifier: Apache-2.0
"""Averages of weights: along a training, and between its start and its end.

    w_bar <- d w_bar + (1 - d) w,   d = min(decay, (1 + step) / (10 + step))    [Polyak 1992]
    w     =  s w_start + (1 - s) w_end                                          [WiSE-FT]

The smaller d of the first steps keeps the random initial weights out of the average.

References:
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint

_PREFIX = 'average.'


class WeightAverage:
    """The averaged parameters of a module; decay 0 means the parameters themselves."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = dict(module.named_parameters()) if decay > 0.0 else {}
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after optimiser step `step`, counted from 0."""
        decay = min(self._decay, (1.0 + step) / (10.0 + step))
        for name, parameter in self._parameters.items():
            self._averages[name].lerp_(parameter, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in place of the parameters for the length of a `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            kept = parameter.clone()
            parameter.copy_(self._averages[name])
            self._averages[name].copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, named so that it can lie in one file with the weights."""
        return {_PREFIX + name: value for name, value in self._averages.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of `tensors`.

        Raises:
            KeyError: The run was made without averaging.
        """
        for name, average in self._averages.items():
            average.copy_(tensors[_PREFIX + name])


def mix_with_start(end: Path, start: Path, share: float, kind: str) -> None:
    """Replace the weights of checkpoint `end` by s w_start + (1 - s) w_end.

    Weights that the start does not have count as zero there. A checkpoint is mixed once: if its
    header says that it was, nothing changes.

    Raises:
        CheckpointError: One of them cannot be read, or is of another kind.
    """
    first, last = load_checkpoint(start, kind), load_checkpoint(end, kind)
    if share == 0.0 or 'start_share' in last.header:
        return
    mixed = {
        name: torch.lerp(weight, first.tensors.get(name, torch.zeros_like(weight)), share)
        for name, weight in last.tensors.items()
    }
    save_checkpoint(end, {**last.header, 'start_share': share}, mixed)
