# SPDX-License-Identifier: Apache-2.0
"""Compressed volumes of a replay: a few kilobytes instead of megabytes.

Probabilities are quantised to 1/255. People without a prediction have a volume at every
observation; theirs are kept as rarely as those of the others.
"""

import dataclasses
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.types import SafetyVolume, WindowVolume

_APART_NS = round(0.19 * NS_PER_S)
_PARTS = 255


@dataclass(frozen=True)
class KeptWindow:
    """One window of time.

    Attributes:
        start_s, end_s: After the observation.
        volume_m3: Of the keep-out volume [m^3].
    """

    start_s: float
    end_s: float
    volume_m3: float
    grid: VoxelGrid
    packed_covered: bytes = field(repr=False)
    packed_probability: bytes = field(repr=False)
    packed_other: bytes | None = field(repr=False)

    @classmethod
    def of(cls, window: WindowVolume) -> 'KeptWindow':
        """Compress one window of a volume."""
        parts = np.round(_PARTS * window.probability.clip(0.0, 1.0)).astype(np.uint8)
        other = None if window.other is None else _packed(window.other)
        return cls(
            window.start_s,
            window.end_s,
            window.volume_m3,
            window.grid,
            _packed(window.covered),
            zlib.compress(parts.tobytes(), 1),
            other,
        )

    @property
    def covered(self) -> Bool[np.ndarray, 'x y z']:
        """The keep-out volume."""
        return _unpacked(self.packed_covered, self.grid)

    @property
    def other(self) -> Bool[np.ndarray, 'x y z'] | None:
        """The volume of the other promise; None in a reachable set."""
        return None if self.packed_other is None else _unpacked(self.packed_other, self.grid)

    @property
    def parts_of_255(self) -> UInt8[np.ndarray, 'x y z']:
        """Probability that a body part is in the voxel at any time of the window, times 255."""
        parts = np.frombuffer(zlib.decompress(self.packed_probability), np.uint8)
        return parts.reshape(self.grid.shape)

    @property
    def probability(self) -> Float32[np.ndarray, 'x y z']:
        """The same as a probability."""
        return self.parts_of_255 / np.float32(_PARTS)


def _packed(inside: Bool[np.ndarray, 'x y z']) -> bytes:
    return zlib.compress(np.packbits(inside).tobytes(), 1)


def _unpacked(packed: bytes, grid: VoxelGrid) -> Bool[np.ndarray, 'x y z']:
    bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    return np.unpackbits(bits, count=int(np.prod(grid.shape))).reshape(grid.shape).astype(bool)


@dataclass(frozen=True)
class KeptVolume:
    """One person's volumes; attributes as in `SafetyVolume`."""

    person_id: str
    stamp_ns: int
    validity: Validity
    cause: str
    promise: str
    level: float
    horizon_s: float
    calibration: str
    windows: tuple[KeptWindow, ...]

    @property
    def other(self) -> str:
        """The promise that is not made, whose volumes are kept too."""
        return 'coverage' if self.promise == 'risk' else 'risk'

    @classmethod
    def of(cls, volume: SafetyVolume) -> 'KeptVolume':
        """Compress a volume."""
        fields = {field.name: getattr(volume, field.name) for field in dataclasses.fields(cls)}
        return cls(**fields | {'windows': tuple(map(KeptWindow.of, volume.windows))})


class VolumeKeeper:
    """Collects compressed volumes.

    Attributes:
        kept: By the number of backward time jumps before, and stamp.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], tuple[KeptVolume, ...]] = {}
        self._last_ns: dict[tuple[int, str], int] = {}

    def take(self, epoch: int, volumes: Iterable[SafetyVolume]) -> None:
        """Keep volumes, at a limited rate per person."""
        for volume in volumes:
            last_ns = self._last_ns.get((epoch, volume.person_id))
            if last_ns is None or volume.stamp_ns - last_ns >= _APART_NS:
                self._last_ns[epoch, volume.person_id] = volume.stamp_ns
                others = self.kept.get((epoch, volume.stamp_ns), ())
                self.kept[epoch, volume.stamp_ns] = (*others, KeptVolume.of(volume))
