# SPDX-License-Identifier: Apache-2.0
"""Functions of tensors, replayed as CUDA graphs: one launch instead of a thousand.

Any stage may use it. A captured function must not make the CPU wait for the GPU, copy between the
two, or depend on a number in a tensor. The batch is padded to a power of two, so that few graphs
serve any number of people.
"""

import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.runtime.tensors import map_tensors, tensors_of, with_tensors

Function = Callable[..., Any]

_WARM_UPS = 3
"""Calls before the capture: libraries initialise themselves, and allocate, in the first."""

_CAPTURE = threading.Lock()
"""Only one capture may be under way."""

_MAX_GRAPHS = 32
"""Graphs of one function that are kept; each holds the memory of its intermediates."""


def check_on_gpu(device: torch.device, parameter: str) -> None:
    """Check that there is a GPU for the graphs that a parameter asks for.

    Raises:
        ConfigError: The model is not on a GPU.
    """
    if device.type != 'cuda':
        stage = parameter.partition('.')[0]
        raise ConfigError(
            f'parameter "{parameter}" needs a GPU, but the model is on {str(device)!r}; set it to '
            f'false, or "{stage}.device" to a GPU that this machine has'
        )


class Graphs:
    """A function, captured once for each key and batch size.

    It takes a hashable key, and tensors or `TensorBatch`es; it returns such, or a tuple of them.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._captures: dict[Hashable, _Capture] = {}

    @torch.inference_mode()
    def __call__(self, key: Hashable, *inputs: Any) -> Any:
        """Return the function's result.

        Raises:
            ConfigError: The function cannot be captured on this GPU.
        """
        return pad_batch_to_power_of_two(partial(self._replay, key), inputs)

    def _replay(self, key: Hashable, *inputs: Any) -> Any:
        tensors = tensors_of(inputs)
        key = key, tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
        if key not in self._captures:
            if len(self._captures) == _MAX_GRAPHS:
                self._captures.pop(next(iter(self._captures)))
            self._captures[key] = _Capture(partial(self._function, key[0]), inputs)
        return self._captures[key].replay(tensors)


def pad_batch_to_power_of_two(function: Function, inputs: tuple[Any, ...]) -> Any:
    """Call a function with the last person repeated; return the result without the repetitions."""
    people = len(tensors_of(inputs)[0])
    more = (1 << (people - 1).bit_length()) - people

    def padded(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor[-1:].expand(more, *tensor.shape[1:])])

    return map_tensors(lambda tensor: tensor[:people], function(*map_tensors(padded, inputs)))


class _Capture:
    """One graph, the tensors it reads and those it writes."""

    def __init__(self, function: Function, inputs: tuple[Any, ...]) -> None:
        self._inputs = [tensor.clone() for tensor in tensors_of(inputs)]
        call = partial(function, *with_tensors(inputs, self._inputs))
        with _CAPTURE, torch.cuda.device(self._inputs[0].device):
            try:
                self._graph, self._outputs = _captured(call)
            except RuntimeError as error:
                raise ConfigError(
                    f'this GPU or this torch cannot capture a CUDA graph of the model: {error}; '
                    'set parameters "prediction.cuda_graph" and "density.cuda_graph" to false'
                ) from error

    def replay(self, inputs: list[Tensor]) -> Any:
        """Return outputs that the next replay will not overwrite."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return map_tensors(Tensor.clone, self._outputs)


def _captured(call: Callable[[], Any]) -> tuple[Any, Any]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the GPU meanwhile.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
        outputs = call()
    return graph, outputs
