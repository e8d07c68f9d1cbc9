# SPDX-License-Identifier: Apache-2.0
"""Dataclasses of tensors with people along the first axis. Any stage may use it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

BatchT = TypeVar('BatchT', bound='TensorBatch')


@dataclass(frozen=True)
class TensorBatch:
    """Base of dataclasses whose fields are tensors or other batches; others stay as they are."""

    def map(self: BatchT, function: Callable[[Tensor], Tensor]) -> BatchT:
        """Apply a function to every tensor."""
        return type(self)(*(map_tensors(function, getattr(self, f.name)) for f in fields(self)))

    def rows(self: BatchT, people: list[int] | slice) -> BatchT:
        """Select people."""
        return self.map(lambda tensor: tensor[people])

    @staticmethod
    def cat(batches: Sequence[BatchT]) -> BatchT:
        """Concatenate people."""
        columns = zip(*(tensors_of(batch) for batch in batches), strict=True)
        return with_tensors(batches[0], [torch.cat(column) for column in columns])


def map_tensors(function: Callable[[Tensor], Tensor], values: Any) -> Any:
    """Apply a function to every tensor in nested tuples and batches."""
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, TensorBatch):
        return values.map(function)
    if isinstance(values, tuple):
        return tuple(map_tensors(function, value) for value in values)
    return values


def tensors_of(values: Any) -> list[Tensor]:
    """List the tensors in nested tuples and batches."""
    tensors: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    map_tensors(keep, values)
    return tensors


def with_tensors(values: Any, tensors: Iterable[Tensor]) -> Any:
    """Replace the tensors in nested tuples and batches, in the order of `tensors_of`."""
    rest = iter(tensors)
    return map_tensors(lambda _: next(rest), values)
