# SPDX-License-Identifier: Apache-2.0
"""Trade time for memory in training: a layer's graph is built when its gradient is asked for.

Stage: prediction. torch.utils.checkpoint would do the same, but what it builds again is hidden
from whoever counts the bytes held for backward.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Run = Callable[..., tuple[Tensor, ...]]


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Run, inputs: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.run, ctx.inputs = run, inputs
        ctx.save_for_backward(*tensors)
        return run(*tensors[:inputs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, parameters = (
            ctx.saved_tensors[: ctx.inputs],
            ctx.saved_tensors[ctx.inputs :],
        )
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        with torch.enable_grad():
            outputs = ctx.run(*leaves)
        found = torch.autograd.grad(outputs, [*leaves, *parameters], gradients, allow_unused=True)
        return None, None, *found


def recomputed(run: Run, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Any:
    """Return run(*inputs), of which autograd keeps the inputs alone.

    Args:
        parameters: Everything else that `run` reads and that learns.
    """
    return _Recomputed.apply(run, len(inputs), *inputs, *parameters)  # type: ignore[no-untyped-call]
