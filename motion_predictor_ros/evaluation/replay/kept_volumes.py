# SPDX-License-Identifier: Apache-2.0
"""What a replay keeps of volumes: a few kilobytes of each instead of megabytes.

Probabilities are kept to 1/255. People of whom nothing is known yet are assessed at every
observation; they are kept as rarely as everybody else.
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

    @classmethod
    def of(cls, window: WindowVolume) -> 'KeptWindow':
        """Compress one window of a volume."""
        parts = np.round(_PARTS * window.probability.clip(0.0, 1.0)).astype(np.uint8)
        packed = np.packbits(window.covered).tobytes(), parts.tobytes()
        covered, probability = (zlib.compress(each, 1) for each in packed)
        size_m3 = window.volume_m3
        return cls(window.start_s, window.end_s, size_m3, window.grid, covered, probability)

    @property
    def covered(self) -> Bool[np.ndarray, 'x y z']:
        """The keep-out volume."""
        bits = np.frombuffer(zlib.decompress(self.packed_covered), np.uint8)
        count = int(np.prod(self.grid.shape))
        return np.unpackbits(bits, count=count).reshape(self.grid.shape).astype(bool)

    @property
    def parts_of_255(self) -> UInt8[np.ndarray, 'x y z']:
        """Probability that a body part is in the voxel at any time of the window, times 255."""
        parts = np.frombuffer(zlib.decompress(self.packed_probability), np.uint8)
        return parts.reshape(self.grid.shape)

    @property
    def probability(self) -> Float32[np.ndarray, 'x y z']:
        """The same as a probability."""
        return self.parts_of_255 / np.float32(_PARTS)


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

    @classmethod
    def of(cls, volume: SafetyVolume) -> 'KeptVolume':
        """Compress a volume."""
        own = {each.name: getattr(volume, each.name) for each in dataclasses.fields(cls)}
        return cls(**own | {'windows': tuple(map(KeptWindow.of, volume.windows))})


class VolumeKeeper:
    """Chooses what is kept.

    Attributes:
        kept: By how often time had jumped back before, and stamp.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], tuple[KeptVolume, ...]] = {}
        self._last_ns: dict[tuple[int, str], int] = {}

    def take(self, epoch: int, volumes: Iterable[SafetyVolume]) -> None:
        """Keep the volumes of people of whom none was kept just before."""
        for each in volumes:
            last_ns = self._last_ns.get((epoch, each.person_id))
            if last_ns is None or each.stamp_ns - last_ns >= _APART_NS:
                self._last_ns[epoch, each.person_id] = each.stamp_ns
                submit = self.kept.get((epoch, each.stamp_ns), ())
                self.kept[epoch, each.stamp_ns] = (*submit, KeptVolume.of(each))
