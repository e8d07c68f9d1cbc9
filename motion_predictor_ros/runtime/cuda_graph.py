# SPDX-License-Identifier: Apache-2.0
"""Functions of tensors, replayed as CUDA graphs: one launch instead of a thousand.

Any stage may use it. What is captured must never make the CPU wait for the GPU, nor bring anything
from one to the other, and what it does must depend on no number in a tensor. People are rounded up
to a power of two, so that few graphs serve any crowd.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from motion_predictor_ros.errors import ConfigError

Answer = tuple[Tensor, ...]

_WARM_UPS = 3
"""Calls before the capture: libraries set themselves up, and take their memory, in the first."""

_CAPTURE = threading.Lock()
"""Only one capture may be under way."""

_MOST = 32
"""Graphs of one function that are kept; each holds the memory of its intermediates."""


def check_on_gpu(device: torch.device, parameter: str) -> None:
    """Refuse graphs where there is no GPU to capture them.

    Args:
        parameter: That asked for graphs.

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
    """A function, captured once for each number of people and each way it is asked."""

    def __init__(self, function: Callable[..., Answer]) -> None:
        """Capture nothing yet.

        Args:
            function: Takes a way to be asked, and tensors with people along their first axis;
                returns such tensors.
        """
        self._function = function
        self._captured: dict[Hashable, _Capture] = {}

    @torch.inference_mode()
    def __call__(self, way: Hashable, *inputs: Tensor) -> Answer:
        """Return what the function would.

        Raises:
            ConfigError: The function cannot be captured on this GPU.
        """
        return pad_batch_to_power_of_two(partial(self._replay, way), inputs)

    def _replay(self, way: Hashable, *inputs: Tensor) -> Answer:
        key = way, tuple((each.shape, each.dtype, each.device) for each in inputs)
        if key not in self._captured:
            if len(self._captured) == _MOST:
                self._captured.pop(next(iter(self._captured)))
            self._captured[key] = _Capture(partial(self._function, way), inputs)
        return self._captured[key].replay(inputs)


def pad_batch_to_power_of_two(function: Callable[..., Answer], inputs: Sequence[Tensor]) -> Answer:
    """Call with people rounded up to a power of two, and answer those who are there.

    The last person is repeated: of somebody made up, who knows where they would lead.
    """
    people = len(inputs[0])
    more = (1 << (people - 1).bit_length()) - people
    whole = [torch.cat([each, each[-1:].expand(more, *each.shape[1:])]) for each in inputs]
    return tuple(each[:people] for each in function(*whole))


class _Capture:
    """One graph, the tensors it reads and those it writes."""

    def __init__(self, function: Callable[..., Answer], inputs: Sequence[Tensor]) -> None:
        self._inputs = [each.clone() for each in inputs]
        with _CAPTURE, torch.cuda.device(inputs[0].device):
            try:
                self._graph, self._outputs = self._captured(function)
            except RuntimeError as error:
                raise ConfigError(
                    f'this GPU or this torch cannot capture a CUDA graph of the model: {error}; '
                    'set parameters "prediction.cuda_graph" and "density.cuda_graph" to false'
                ) from error

    def _captured(self, function: Callable[..., Answer]) -> tuple[Any, Answer]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile, as long as this one keeps to the rules.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
            outputs = function(*self._inputs)
        return graph, outputs

    def replay(self, inputs: Sequence[Tensor]) -> Answer:
        """Return outputs that the next replay will not overwrite."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return tuple(each.clone() for each in self._outputs)
