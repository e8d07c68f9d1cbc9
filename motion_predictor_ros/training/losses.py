# SPDX-License-Identifier: Apache-2.0
"""Errors, and the gradient of a fixed point in one tracked evaluation.

The phantom gradient dL/dtheta ~ dL/dz* (I + df/dz*) df/dtheta needs two evaluations of f when
unrolled. Here f is tracked once at the detached z: v = dL/dz, then u = v + J^T v through that same
graph, then u is sent back. Same value, half the memory. The exact implicit gradient has
(I - J)^-1 = I + J + J^2 + ... in place of I + J; more of its terms cost time, not memory.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.prediction.motion_deq.cell import Condition, State
from motion_predictor_ros.prediction.motion_deq.layers import Future
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.runtime.tensors import tensors_of

_ROUNDING = 1e-2


def joint_error(predicted: Future, target: Future) -> Float[Tensor, 'batch horizon joint']:
    """Return the distance of every joint from the truth [m]."""
    return (predicted - target).square().sum(-1).add(1e-12).sqrt()


def horizon_weights(horizon: int, power: float) -> Float[Tensor, ' horizon']:
    """Weigh frame t by t^-power, mean one: with power 0 the far future decides alone."""
    weights = torch.arange(1, horizon + 1, dtype=torch.float64) ** -power
    return weights / weights.mean()


def leaves_of(condition: Condition) -> Condition:
    """Detach a condition, so that gradients of several backward passes accumulate at it."""
    return condition.map(_detached)


def backward_through(condition: Condition, leaves: Condition) -> None:
    """Backpropagate the gradients accumulated at the leaves through the features."""
    pairs = zip(tensors_of(condition), tensors_of(leaves), strict=True)
    live = [(t, leaf.grad) for t, leaf in pairs if leaf.grad is not None and t.requires_grad]
    torch.autograd.backward([tensor for tensor, _ in live], [grad for _, grad in live])


def phantom_backward(
    model: MotionDEQ,
    state: State,
    leaves: Condition,
    last: Float[Tensor, 'batch joint xyz=3'],
    target: Future,
    weights: Float[Tensor, ' horizon'],
    *,
    neumann_terms: int = 1,
) -> float:
    """Accumulate the phantom gradient of the weighted error decoded at f(state).

    Args:
        weights: Of each horizon in the mean; scale them to scale the loss.
        neumann_terms: Powers of J = df/dz beside I; 1: as published.

    Returns:
        The loss [m], times the mean of `weights`.
    """
    entry = state.map(_detached)
    image = model.cell(entry, leaves)
    exit_ = image.map(_detached)
    error = joint_error(model.decode(exit_, last), target).mean(dim=(0, 2))
    loss = (error * weights).mean()
    loss.backward()
    outputs = [image.geometry, image.pattern]
    total = carried = [_gradient(exit_.geometry), _gradient(exit_.pattern)]
    for _ in range(neumann_terms):
        carried = list(
            torch.autograd.grad(
                outputs, [entry.geometry, entry.pattern], carried, retain_graph=True
            )
        )
        total = [a + b for a, b in zip(total, carried, strict=True)]
    torch.autograd.backward(outputs, total)
    return float(loss.detach())


def contraction_hinge(
    model: MotionDEQ, state: State, leaves: Condition, limit: float
) -> Float[Tensor, '']:
    """Penalise steps that do not shrink: relu(|f(f(z)) - f(z)| / |f(z) - z| - limit)^2.

    Without it the layer drifts away from contraction while it trains, and solving costs ever more
    steps. The denominator carries no gradient. States closer to the fixed point than a relative
    step of `_ROUNDING` cost nothing: there the ratio is one of rounding errors (pairs may be
    bfloat16), and its gradient would exceed all others.
    """
    first = model.cell(state, leaves)
    second = model.cell(first, leaves)
    flat = [model.pack(item, leaves) for item in (state, first, second)]
    before = (flat[1] - flat[0]).detach().norm(dim=1)
    after = (flat[2] - flat[1]).norm(dim=1)
    counts = before > _ROUNDING * flat[1].detach().norm(dim=1)
    ratio = torch.where(counts, after / before.clamp_min(1e-9), 0.0)
    return (ratio - limit).relu().square().mean()


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _gradient(leaf: Tensor) -> Tensor:
    # The decoder does not read the patterns: no gradient is a zero gradient.
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
