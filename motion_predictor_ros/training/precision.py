# SPDX-License-Identifier: Apache-2.0
"""Training faster on the same machine: pairs in bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from motion_predictor_ros.prediction.layers import PairModule


@contextmanager
def pairs_in(module: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Compute the pairs of joints in `dtype`; states, nodes and weights stay what they are."""
    parts = [part for part in module.modules() if isinstance(part, PairModule)]
    before = [part.pair_dtype for part in parts]
    for part in parts:
        part.pair_dtype = dtype
    try:
        yield
    finally:
        for part, own in zip(parts, before, strict=True):
            part.pair_dtype = own
