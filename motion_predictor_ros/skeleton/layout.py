# SPDX-License-Identifier: Apache-2.0
"""Which joints a skeleton has, how they hang together and mirror, and how they become another's.

Stage: skeleton. Joints are matched by name, never by place: trackers agree on neither number nor
order. A layout is one YAML file (`config/skeletons`), so a new tracker needs no code. Its entry
`to` says how its joints become those of another layout: each is a weighted mean of joints (weights
sum to one, so it turns and shifts with the room).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Bool, Float32, Float64, Int64

from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.resources import resolve_file
from motion_predictor_ros.skeleton.frame import JointMask, Pose

_ENTRIES = ('joints', 'mirror', 'root', 'to', 'body')  # `body`: volume/body.py


@dataclass(frozen=True)
class SkeletonLayout:
    """A tree of named joints.

    Attributes:
        parents: Joint index of each joint's parent; -1 for the root.
        mirror: Joint index of each joint's left or right counterpart; its own if it has none.
        root: Joint index.
        lengths: [m] of each bone in an adult, in the order of `bones`, NaN where the file gives
            none; empty if it gives none at all.
    """

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    mirror: tuple[int, ...]
    root: int
    lengths: tuple[float, ...] = ()

    @classmethod
    def load(cls, name_or_path: str) -> 'SkeletonLayout':
        """Read a shipped layout or a YAML file.

        Raises:
            ConfigError: There is no such file, or it does not describe one tree of joints.
        """
        path = resolve_file(name_or_path, 'config/skeletons', '.yaml')
        try:
            return _from_yaml(path)
        except (ConfigError, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'skeleton layout {path}: {error}') from error

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) joint indices, one bone for every joint but the root."""
        return tuple((parent, child) for child, parent in enumerate(self.parents) if parent >= 0)

    def bones_between(self) -> Bool[np.ndarray, 'joint joint bone']:
        """Return which bones lie on the way between each two joints."""
        to_root = np.zeros((len(self.joint_names), len(self.bones)), dtype=bool)
        for bone, (_, child) in enumerate(self.bones):
            to_root[child, bone] = True
        for joint in range(len(self.joint_names)):
            above = joint
            while (above := self.parents[above]) >= 0:
                to_root[joint] |= to_root[above]
        return np.asarray(to_root[:, None] ^ to_root[None])

    def order_from(self, joint_names: Iterable[str]) -> Int64[np.ndarray, ' joint']:
        """Return where each joint of this layout stands in `joint_names`; extra ones are ignored.

        Raises:
            SkeletonFormatError: `layout_mismatch`; a joint is missing or named twice.
        """
        return _order(self, tuple(joint_names))


@lru_cache(maxsize=64)
def _order(layout: SkeletonLayout, names: tuple[str, ...]) -> Int64[np.ndarray, ' joint']:
    place = {name: index for index, name in enumerate(names)}
    missing = [name for name in layout.joint_names if name not in place]
    if missing or len(place) < len(names):
        fault = f'misses {missing}' if missing else 'names a joint twice'
        raise SkeletonFormatError(
            'layout_mismatch',
            f'joint_names {fault}; received {list(names)}; '
            f'does parameter "skeleton.layout" ({layout.name!r}) match the tracker?',
        )
    order = np.array([place[name] for name in layout.joint_names], dtype=np.int64)
    order.setflags(write=False)  # shared by every caller through the cache
    return order


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets the last of two equal keys win; in a layout that is a lost joint."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise ConfigError(f'{twice} is given twice')
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _read_yaml(path: Path) -> Any:
    """Read YAML; a key that is given twice raises `ConfigError`."""
    return yaml.load(path.read_text(encoding='utf-8'), _UniqueKeyLoader)


def _from_yaml(path: Path) -> SkeletonLayout:
    content = _read_yaml(path)
    if not isinstance(content, Mapping) or not content.get('joints'):
        raise ConfigError('no joints; expected "joints:", a mapping of joint name to parent name')
    unknown = sorted(str(key) for key in content if key not in _ENTRIES)
    if unknown:
        raise ConfigError(f'unknown entries {unknown}; known: {", ".join(_ENTRIES)}')
    joints = _name_mapping(content['joints'], 'joints')
    names = tuple(joints)
    parents = _parents(joints)
    root = parents.index(-1)
    if content.get('root', names[root]) != names[root]:
        raise ConfigError(f'root is {content["root"]!r}, but {names[root]!r} has no parent')
    mirror = _mirror(_name_mapping(content.get('mirror') or {}, 'mirror'), names)
    lengths = _lengths(content.get('body'), names, parents)
    return SkeletonLayout(path.stem, names, parents, mirror, root, lengths)


def _lengths(body: Any, names: tuple[str, ...], parents: tuple[int, ...]) -> tuple[float, ...]:
    """Read the bones' lengths from the entry `body`; volume/body.py checks the rest of it."""
    parts = body if isinstance(body, Mapping) else {}
    if not parts:
        return ()
    lengths = []
    for name, parent in zip(names, parents, strict=True):
        part = parts.get(name)
        length: Any = part.get('length') if isinstance(part, Mapping) else None
        if parent >= 0:
            usable = isinstance(length, int | float) and length > 0
            lengths.append(float(length) if usable else math.nan)
    return tuple(lengths)


def _name_mapping(value: Any, where: str) -> dict[str, str]:
    """Check that names map to names; a parent left blank (null) is the empty name."""
    if not isinstance(value, Mapping):
        raise ConfigError(f'{where} must map names to names, got {value!r}')
    pairs = {key: '' if other is None else other for key, other in value.items()}
    wrong = [item for pair in pairs.items() for item in pair if not isinstance(item, str)]
    if wrong or '' in pairs:
        raise ConfigError(f'{where}: names must be text, got {wrong or [""]}; quote them')
    return pairs


def _parents(joints: Mapping[str, str]) -> tuple[int, ...]:
    names = list(joints)
    unknown = sorted({parent for parent in joints.values() if parent and parent not in joints})
    if unknown:
        raise ConfigError(f'parents {unknown} are not joints; joints: {names}')
    roots = [name for name, parent in joints.items() if not parent]
    if len(roots) != 1:
        raise ConfigError(f"exactly one joint must have the parent '' (the root), got {roots}")
    try:
        TopologicalSorter({name: [parent] for name, parent in joints.items()}).prepare()
    except CycleError as error:
        cycle = ' -> '.join(error.args[1])
        raise ConfigError(f'joints hang from each other in a cycle: {cycle}') from error
    return tuple(names.index(parent) if parent else -1 for parent in joints.values())


def _mirror(pairs: Mapping[str, str], names: tuple[str, ...]) -> tuple[int, ...]:
    used = [name for pair in pairs.items() for name in pair]
    unknown = sorted(set(used) - set(names))
    if unknown:
        raise ConfigError(f'mirror names {unknown} are not joints; joints: {list(names)}')
    twice = sorted({name for name in used if used.count(name) > 1})
    if twice:
        raise ConfigError(f'mirror names {twice} are used twice; give each left: right pair once')
    counterpart = {**pairs, **{right: left for left, right in pairs.items()}}
    return tuple(names.index(counterpart.get(name, name)) for name in names)


@dataclass(frozen=True)
class JointMap:
    """How a source's joints become another layout's.

    Attributes:
        weights: Rows of joints that the source does not have are zero.
    """

    source: SkeletonLayout
    weights: Float64[np.ndarray, 'joint seen']

    @property
    def given(self) -> JointMask:
        """Which joints the source has."""
        return np.asarray(self.weights.any(axis=1))

    def apply(
        self,
        positions: Float64[np.ndarray, 'seen xyz=3'],
        confidences: Float32[np.ndarray, ' seen'],
    ) -> tuple[Pose, Float32[np.ndarray, ' joint']]:
        """Return positions, NaN unless all that a joint is made of was seen, and confidences.

        Args:
            positions: NaN where a joint was not seen.
        """
        used = self.weights != 0
        unseen = np.isnan(positions).any(axis=1)
        missing = (used & unseen).any(axis=1) | ~self.given
        ignored = unseen | ~used.any(axis=0)
        mapped = self.weights @ np.where(ignored[:, None], 0.0, positions)
        mapped[missing] = np.nan
        sure = np.where(used, confidences, np.inf).min(axis=1)
        return mapped, np.where(missing, 0.0, sure).astype(np.float32)


@lru_cache(maxsize=64)
def load_joint_map(name_or_path: str, target: SkeletonLayout) -> JointMap:
    """Read how the joints of a layout, a shipped name or a YAML file, become those of `target`.

    Raises:
        ConfigError: There is no such layout, or it does not say how.
    """
    source = SkeletonLayout.load(name_or_path)
    path = resolve_file(name_or_path, 'config/skeletons', '.yaml')
    entries = (_read_yaml(path).get('to') or {}).get(target.name)
    if source.joint_names == target.joint_names:
        entries = {name: name for name in target.joint_names}
    if not isinstance(entries, Mapping):
        raise ConfigError(
            f'skeleton layout {path}: does not say how its joints become those of '
            f'{target.name!r}; add an entry "to: {target.name}:" like that of coco17'
        )
    weights = np.zeros((len(target.joint_names), len(source.joint_names)))
    for name, made_of in entries.items():
        try:
            row = target.joint_names.index(name)
            for joint, weight in _parts(made_of).items():
                weights[row, source.joint_names.index(joint)] = weight
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f'skeleton layout {path}: to: {name}: {error}') from error
    weights.setflags(write=False)  # shared by every caller through the cache
    return JointMap(source, weights)


def _parts(made_of: Any) -> dict[str, float]:
    """Return the weight of each joint that an entry names."""
    if isinstance(made_of, str):
        return {made_of: 1.0}
    if isinstance(made_of, list):
        return {joint: 1.0 / len(made_of) for joint in made_of}
    parts = {joint: float(weight) for joint, weight in made_of.items()}
    if abs(sum(parts.values()) - 1.0) > 1e-6:
        raise ValueError(f'weights {parts} do not sum to 1')
    return parts
