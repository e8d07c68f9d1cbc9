# SPDX-License-Identifier: Apache-2.0
"""A simulated GPU: tensors that report cuda:0, and hold their numbers on the CPU.

On a machine without a GPU the branches for one would never run. Here they run, with real numbers,
and what a real one rejects is rejected: tensors of two devices in one operation, `.numpy()` of
a tensor that is not on the CPU, and, while a graph is captured, whatever makes the CPU wait or
brings it something. A graph is what it is there: a list of operations, and the memory that they
read and write. Kernels, rounding and speed are the CPU's.
"""

import contextlib
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    _get_current_dispatch_mode_stack,
)

CUDA, CPU = torch.device('cuda:0'), torch.device('cpu')

_LOOKS_INTO = {'_local_scalar_dense', 'item', 'is_nonzero', 'nonzero', 'equal', 'masked_select'}
"""Operations that synchronise the CPU with the GPU."""


class WaitInCapture(RuntimeError):
    """The CPU synchronised with the GPU, or copied to it, during a capture."""


class OnGPU(Tensor):
    """A tensor that reports cuda:0."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> 'OnGPU':
        with torch.inference_mode(False):
            made = Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=CUDA,
                requires_grad=inner.requires_grad,
            )
        made.inner = inner
        return made

    # Python's methods check the build for a real GPU first.
    def __getitem__(self, index: Any) -> 'OnGPU':
        for item in index if isinstance(index, tuple) else (index,):
            if isinstance(item, Tensor) and item.dtype == torch.bool:
                _gpu().wait('index by a mask')
            elif isinstance(item, list | np.ndarray) or type(item) is Tensor:
                _gpu().wait('index from the CPU')
        return OnGPU(_gpu().do(operator.getitem, (self.inner, _each(_inner, index)), {}))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, Tensor):
            check_devices('setitem', [self, value])
        given = self.inner, _each(_inner, index), _inner(value)
        _gpu().do(operator.setitem, given, {})

    def __invert__(self) -> Tensor:
        return torch.bitwise_not(self)

    def contiguous(self, **how: Any) -> Tensor:
        return self if self.is_contiguous() else self.clone(memory_format=torch.contiguous_format)

    def copy_(self, other: Tensor, non_blocking: bool = False) -> Tensor:
        return torch.ops.aten.copy_.default(self, other)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f'OnGPU({self.inner})'

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise AssertionError(f'{function} without a pretended GPU')


class PretendGPU(TorchDispatchMode):
    """While this is on, there is a GPU.

    Attributes:
        waits: How often the CPU waited for it, by operation.
        launches: Operations and replays.
        capturing: The graph that is captured, if any.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.launches = 0
        self.capturing: PretendGraph | None = None

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        flat = list(_leaves((args, kwargs or {})))
        tensors = [item for item in flat if isinstance(item, Tensor)]
        wished = {one_item.type for one_item in flat if isinstance(one_item, torch.device)}
        here = any(isinstance(tensor, OnGPU) for tensor in tensors)
        leaves, enters = here and 'cpu' in wished, bool(tensors) and not here and 'cuda' in wished
        copies = (
            name == 'copy_' and len({isinstance(one_tensor, OnGPU) for one_tensor in tensors}) == 2
        )
        if not copies:
            check_devices(name, tensors)
        sent = name == 'where' and here and any(isinstance(item_, int | float) for item_ in flat)
        if leaves or enters or copies or sent or (here and name in _LOOKS_INTO):
            self.wait(name)
        stays = isinstance(tensors[0], OnGPU) if copies else here and not leaves
        outer = {id(item_.inner): item_ for item_ in flat if isinstance(item_, OnGPU)}
        given, named = _each(_inner, (args, kwargs or {}))
        if not (stays or 'cuda' in wished):
            return function(*given, **named)
        out = self.do(function, given, named)
        return _each(
            lambda item_: outer[id(item_)] if id(item_) in outer else _wrapped(item_), out
        )

    def do(self, function: Callable[..., Any], given: Any, named: Any) -> Any:
        """Run an operation on the tensors' contents, and record it during a capture."""
        self.launches += 1
        out = function(*given, **named)
        if self.capturing is not None:
            self.capturing.steps.append((function, given, named, out))
        return out

    def wait(self, name: str) -> None:
        self.waits[name] += 1
        if self.capturing is not None:
            raise WaitInCapture(f'{name}: operation not permitted when stream is capturing')


class PretendGraph:
    """torch.cuda.CUDAGraph: operations, and where they read and write."""

    def __init__(self) -> None:
        self.steps: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def made(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yield step, place and tensor of all that operations made, but for views."""
        for number, (_, given, named, out) in enumerate(self.steps):
            read = {_memory(e) for e in _leaves((given, named)) if isinstance(e, Tensor)}
            for place, leave in enumerate(_leaves(out)):
                if isinstance(leave, Tensor) and _memory(leave) not in read:
                    yield number, place, leave

    def forget(self) -> None:
        """Clear the results of the capture: on a GPU nothing runs before the replay."""
        for _, _, item in self.made():
            item.fill_(torch.nan if item.is_floating_point() else 0)

    def replay(self) -> None:
        _gpu().launches += 1
        kept = {(number, place): item for number, place, item in self.made()}
        with _disable_current_modes():
            for number, (function, given, named, _) in enumerate(self.steps):
                for place, leave in enumerate(_leaves(function(*given, **named))):
                    if (number, place) in kept:
                        kept[number, place].copy_(leave)


@contextlib.contextmanager
def pretended_gpu() -> Iterator[PretendGPU]:
    """Let there be one GPU."""
    if torch.cuda.is_available():
        torch.cuda.init()  # torch believes that this was done, once a pretended one was there
    torch._C._ensureCUDADeviceGuardSet()  # a torch with CUDA must not look for a device
    with pytest.MonkeyPatch.context() as patch, PretendGPU() as gpu:
        # Modules that move get new parameters, instead of new numbers in the old ones.
        patch.setattr(torch.__future__, '_overwrite_module_params_on_conversion', True)
        patch.setattr(torch.cuda, '_lazy_init', lambda: None)
        patch.setattr(torch.cuda, 'is_available', lambda: True)
        patch.setattr(torch.cuda, 'device_count', lambda: 1)
        patch.setattr(torch.cuda, 'Stream', _Stream)
        patch.setattr(torch.cuda, 'current_stream', _Stream)
        patch.setattr(torch.cuda, 'stream', contextlib.nullcontext)
        patch.setattr(torch.cuda, 'device', contextlib.nullcontext)
        patch.setattr(torch.cuda, 'CUDAGraph', PretendGraph)
        patch.setattr(torch.cuda, 'graph', _captured)
        patch.setattr(torch.backends.cudnn, 'allow_tf32', torch.backends.cudnn.allow_tf32)
        yield gpu


class _Stream:
    def wait_stream(self, other: '_Stream') -> None:
        pass


@contextlib.contextmanager
def _captured(graph: PretendGraph, stream: Any, capture_error_mode: str) -> Iterator[None]:
    _gpu().capturing = graph
    try:
        yield
    finally:
        _gpu().capturing = None
    graph.forget()


def check_devices(name: str, tensors: list[Tensor]) -> None:
    """Refuse tensors of two devices, but for single numbers, in one operation."""
    kinds = {
        isinstance(tensor, OnGPU)
        for tensor in tensors
        if tensor.dim() or isinstance(tensor, OnGPU)
    }
    if len(kinds) == 2:
        raise RuntimeError(f'{name}: expected all tensors to be on the same device')


def _gpu() -> PretendGPU:
    modes = [item for item in _get_current_dispatch_mode_stack() if isinstance(item, PretendGPU)]
    return modes[-1]


def _leaves(values: Any) -> Iterator[Any]:
    """Yield the leaves of lists, tuples and dictionaries."""
    if isinstance(values, list | tuple):
        for value in values:
            yield from _leaves(value)
    elif isinstance(values, dict):
        yield from _leaves(list(values.values()))
    else:
        yield values


def _each(change: Callable[[Any], Any], values: Any) -> Any:
    """Map the leaves of lists, tuples and dictionaries."""
    if isinstance(values, dict):
        return {key: _each(change, item) for key, item in values.items()}
    if isinstance(values, list | tuple):
        changed = [_each(change, value) for value in values]
        return changed if isinstance(values, list) else tuple(changed)
    return change(values)


def _inner(each: Any) -> Any:
    if isinstance(each, OnGPU):
        return each.inner
    return CPU if isinstance(each, torch.device) else each


def _wrapped(each: Any) -> Any:
    return OnGPU(each) if isinstance(each, Tensor) else each


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
