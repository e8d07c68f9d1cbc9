# SPDX-License-Identifier: Apache-2.0
"""How much memory a process holds, for diagnostics and trials."""

from pathlib import Path

import torch

_KB_PER_MB = 1024.0


def resident_mb(pid: int | str = 'self') -> float | None:
    """Read a process's resident memory [MiB]; None where it ended, or the system does not tell."""
    try:
        lines = Path(f'/proc/{pid}/status').read_text(encoding='utf-8').splitlines()
        return (
            int(next(line.split()[1] for line in lines if line.startswith('VmRSS:'))) / _KB_PER_MB
        )
    except (OSError, StopIteration):
        return None


def memory_facts(device: torch.device) -> dict[str, str]:
    """Report this process's memory, and on a GPU what its tensors and torch's cache take there."""
    resident = resident_mb()
    facts = {} if resident is None else {'memory_mb': f'{resident:.0f}'}
    if device.type == 'cuda':
        held = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        names = 'device_memory_mb', 'device_memory_reserved_mb'
        facts |= {name: f'{each / 2**20:.0f}' for name, each in zip(names, held, strict=True)}
    return facts
