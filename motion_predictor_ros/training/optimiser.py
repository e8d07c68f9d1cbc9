# SPDX-License-Identifier: Apache-2.0
"""Adam for everything, or Muon for the matrices and Adam for the rest, with a state to resume.

Muon [Jordan et al. 2024] takes momentum's nearest orthogonal matrix as its step.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from motion_predictor_ros.training.recipe import ScheduleConfig

_PREFIX = 'optimiser'


class Optimiser:
    """An optimiser of parts with different rates, which keep their ratio."""

    def __init__(self, module: nn.Module, schedule: ScheduleConfig) -> None:
        self._names: dict[Tensor, str] = {
            p: name for name, p in module.named_parameters() if p.requires_grad
        }
        matrices = _matrices(module) if schedule.muon_rate > 0.0 else []
        taken = set(matrices)
        others = [parameter for parameter in self._names if parameter not in taken]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if others:
            self._parts.append((torch.optim.Adam(others), schedule.learning_rate))
        if matrices:
            muon = torch.optim.Muon(matrices, momentum=0.95, weight_decay=schedule.muon_decay)
            self._parts.append((muon, schedule.muon_rate))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part, _ in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self, share: float) -> None:
        """Move the parameters at this share of the peak rates."""
        for part, rate in self._parts:
            for group in part.param_groups:
                group['lr'] = share * rate
            part.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, by names of parameters."""
        return {
            f'{_PREFIX}.{key}.{self._names[parameter]}': value
            for part, _ in self._parts
            for parameter, state in part.state.items()
            for key, value in state.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of `tensors`.

        Raises:
            KeyError: The state is that of another optimiser or module.
        """
        for part, _ in self._parts:
            keys = ('momentum_buffer',) if isinstance(part, torch.optim.Muon) else _ADAM
            for parameter in _parameters(part):
                name = self._names[parameter]
                state = {key: tensors[f'{_PREFIX}.{key}.{name}'] for key in keys}
                # Adam counts its steps on the CPU.
                part.state[parameter] = {
                    key: value if key == 'step' else value.to(parameter.device)
                    for key, value in state.items()
                }


_ADAM = ('step', 'exp_avg', 'exp_avg_sq')


def _parameters(part: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    return (parameter for group in part.param_groups for parameter in group['params'])


def _matrices(module: nn.Module) -> list[Tensor]:
    """List the matrices that map one width to another; not columns, vectors per joint, decoders.

    A decoder (`out`) is in metres: its scale matters, and Muon ignores scales.
    """
    return [
        part.weight
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and name != 'out' and min(part.weight.shape) > 4
        if part.weight.requires_grad
    ]
