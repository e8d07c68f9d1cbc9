# SPDX-License-Identifier: Apache-2.0
"""What bodies have in common: where joints lie that many trackers leave out.

Stage: skeleton. All lengths are in units of the ruler, the summed length of thighs, shanks, upper
arms and forearms: bones keep their length, so the ruler does not change as a person moves, and
what is put in place by it keeps its bone length too. The chest alone is measured by the spine.
`motion-predictor train proportions` makes the shipped file, `config/proportions.yaml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float64

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.share import share_file

LIMBS = tuple(
    (f'{side}_{upper}', f'{side}_{lower}')
    for side in 'lr'
    for upper, lower in (
        ('hip', 'knee'),
        ('knee', 'ankle'),
        ('shoulder', 'elbow'),
        ('elbow', 'wrist'),
    )
)
"""The bones that make up the ruler."""


@dataclass(frozen=True)
class Proportions:
    """A body in units of the ruler.

    Attributes:
        limbs: Length of each of `LIMBS`; they sum to one.
        neck: From the middle of the shoulders to the neck: ahead, left, up in the chest's frame.
        head: From the neck to the head, in the same frame.
        foot: From the ankle to the foot: ahead, outwards, up along the shank.
        chest: From the pelvis to the chest: ahead, left, up along the line from pelvis to neck, in
            units of that line's length: a bent spine is short, and its chest near the pelvis.
    """

    limbs: Float64[np.ndarray, ' bone']
    neck: Float64[np.ndarray, ' xyz=3']
    head: Float64[np.ndarray, ' xyz=3']
    foot: Float64[np.ndarray, ' xyz=3']
    chest: Float64[np.ndarray, ' xyz=3']

    def save(self, path: Path) -> None:
        """Write them as YAML."""
        lines = [
            '# How bodies are built, in units of the eight limb bones (chest: of the spine).',
            '# Made by `motion-predictor train proportions`; entries: skeleton/proportions.py.',
        ]
        for name, value in vars(self).items():
            lines.append(f'{name}: [{", ".join(f"{number:.4f}" for number in value)}]')
        path.write_text('\n'.join([*lines, '']), encoding='utf-8')


def load_proportions(path: Path) -> Proportions:
    """Read a file of proportions.

    Raises:
        ConfigError: It is missing or malformed.
    """
    sizes = {'limbs': len(LIMBS), 'neck': 3, 'head': 3, 'foot': 3, 'chest': 3}
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        assert isinstance(content, Mapping) and set(content) == set(sizes), f'expected {sizes}'
        values = {name: np.array(content[name], dtype=np.float64) for name in sizes}
        assert all(values[name].shape == (size,) for name, size in sizes.items()), sizes
    except (OSError, AssertionError, ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f'{path} is no file of proportions: {error}') from error
    return Proportions(**values)


@cache
def shipped_proportions() -> Proportions:
    """Return the proportions of the people the shipped models learnt from."""
    return load_proportions(share_file('config', 'proportions.yaml'))
