# SPDX-License-Identifier: Apache-2.0
"""Publish volumes as ProbabilityVolumeArray; `volume/wire` decodes them."""

from array import array
from dataclasses import dataclass

import numpy as np

from motion_predictor_ros.config import param
from motion_predictor_ros.msg import ProbabilityVolume, ProbabilityVolumeArray
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.base import OUTPUTS, Output, OutputConfig, VolumeScene
from motion_predictor_ros.volume.sparse import sparse
from motion_predictor_ros.volume.types import SafetyVolume


@dataclass(frozen=True)
class ProbabilityVolumesConfig(OutputConfig):
    """Parameters of `probability_volumes`."""

    enabled: bool = param(True, 'publish probability_volumes [-]')
    rate_hz: float = param(10.0, 'maximum rate, by stamps [Hz]', 0.1, 100.0)
    max_voxels: int = param(
        50_000, 'voxels of all people together; beyond, voxels are merged [-]', 100, 10**7
    )
    min_probability: float = param(
        0.01, 'less likely voxels outside the volume are left out [-]', 0.0, 1.0
    )


@OUTPUTS.register('probability_volumes', ProbabilityVolumesConfig)
class ProbabilityVolumes(Output[ProbabilityVolumesConfig]):
    """ProbabilityVolumeArray on `probability_volumes`."""

    def open(self) -> None:
        """Create the publisher."""
        self._publisher = self.create_publisher(ProbabilityVolumeArray, 'probability_volumes')

    def publish(self, scene: VolumeScene) -> None:
        """Publish every person's voxels."""
        limits = self.config.max_voxels, self.config.min_probability
        self._publisher.publish(encode_volumes(scene, *limits))


def encode_volumes(
    scene: VolumeScene, max_voxels: int, min_probability: float
) -> ProbabilityVolumeArray:
    """Encode every person's volume; stamp and frame are those of the observation.

    Args:
        max_voxels: Voxels of all people together; beyond, voxels are merged into larger ones.
        min_probability: Less likely voxels outside the volume are left out.
    """
    share = max_voxels // max(len(scene.volumes), 1)
    return ProbabilityVolumeArray(
        header=encode_header(scene.stamp_ns, scene.frame_id),
        age_s=scene.age_s,
        persons=[_encode_volume(volume, share, min_probability) for volume in scene.volumes],
    )


def _encode_volume(
    volume: SafetyVolume, max_voxels: int, min_probability: float
) -> ProbabilityVolume:
    windows = sparse(volume, max_voxels, min_probability)
    return ProbabilityVolume(
        person_id=volume.person_id,
        validity=int(volume.validity),
        cause=volume.cause,
        reason=volume.reason,
        promise=volume.promise,
        level=volume.level,
        horizon=volume.horizon_s,
        approximate=volume.approximate,
        calibration=volume.calibration,
        effective_sample_size=volume.effective_sample_size,
        window_starts=array('f', [window.start_s for window in windows]),
        window_ends=array('f', [window.end_s for window in windows]),
        thresholds=array('f', np.nan_to_num([window.threshold for window in windows])),
        origins=array('d', [place for window in windows for place in window.grid.origin]),
        voxel_sizes=array('f', [window.grid.size_m for window in windows]),
        shapes=array('I', [count for window in windows for count in window.grid.shape]),
        window_voxels=array('I', [len(window.voxels) for window in windows]),
        voxels=_flat('I', [window.voxels.astype(np.uint32) for window in windows]),
        probabilities=_flat('f', [np.minimum(window.probability, 1.0) for window in windows]),
        covered=_flat('B', [window.covered for window in windows]),
    )


def _flat(typecode: str, parts: list[np.ndarray]) -> 'array[float]':
    flat: array[float] = array(typecode)
    for part in parts:
        flat.frombytes(part.tobytes())
    return flat
