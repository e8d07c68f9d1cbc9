# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of weights [Polyak and Juditsky 1992], kept beside a training.

    w_bar <- d w_bar + (1 - d) w,   d = min(decay, (1 + step) / (10 + step))

The smaller d of the first steps keeps the random initial weights out of the average.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
