# SPDX-License-Identifier: Apache-2.0
"""Training data: files and folders of every known format, recognised by their content."""

from collections.abc import Callable
from pathlib import Path

from motion_predictor_ros.data.amass import is_amass, load_amass
from motion_predictor_ros.data.cmu import is_cmu_benchmark, load_cmu_benchmark
from motion_predictor_ros.data.h36m import (
    is_h36m,
    is_h36m_positions,
    load_h36m,
    load_h36m_positions,
)
from motion_predictor_ros.data.recordings import Recordings, load_recordings
from motion_predictor_ros.data.three_dpw import is_3dpw, load_3dpw
from motion_predictor_ros.errors import DataError

Form = tuple[Callable[[Path], bool], Callable[[Path], Recordings]]

_FOLDERS: tuple[Form, ...] = ((is_h36m, load_h36m), (is_3dpw, load_3dpw), (is_amass, load_amass))
_FILES: tuple[Form, ...] = (
    (is_cmu_benchmark, load_cmu_benchmark),
    (is_h36m_positions, load_h36m_positions),
)


def load_training_data(path: Path) -> Recordings:
    """Read a folder of Human3.6M, 3DPW or AMASS, or a file of Human3.6M, CMU or our own clips.

    Raises:
        DataError: It is none of them, or a part is missing.
    """
    folder = path.is_dir()
    for fits, load in _FOLDERS if folder else _FILES:
        if fits(path):
            return load(path)
    if folder:
        raise DataError(
            f'{path} holds no known data set; expected S1/walking_1.txt and its like (Human3.6M), '
            'sequenceFiles/train/*.pkl (3DPW) or CMU/<subject>/*.npz (AMASS): see docs/data.md'
        )
    return load_recordings(path)
