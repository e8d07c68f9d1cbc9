# SPDX-License-Identifier: Apache-2.0
"""Two recorded people in one message are predicted as if each were alone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from models import write_weights
from pairs import evaluate_pairs, pairs_of
from scenes import pose
from walkers import walkers

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import DataError


def pair(apart_m: float = 1.5) -> Recordings:
    """Two people side by side who go straight ahead, stiff, the second for a shorter time."""
    people = walkers()
    times = np.arange(200, dtype=np.float32)[:, None, None] / 50
    path = times * np.array([1.2, 0.0, 0.0], np.float32)
    standing = pose(0.0).astype(np.float32)
    beside = np.array([0.0, apart_m, 0.0])
    positions = np.concatenate([standing + path, standing + path + beside]).astype(np.float32)
    one, other = people.clips
    clips = (
        dataclasses.replace(one, pair=other.key),
        dataclasses.replace(other, pair=one.key, length=180),
    )
    return dataclasses.replace(people, positions=positions, clips=clips)


def test_company_does_not_change_a_prediction(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    weights = write_weights(tmp_path / 'tiny.safetensors')
    report = evaluate_pairs(pair(), str(weights), 'cpu')
    assert report['pairs'] == 1 and report['predictions'] > 40
    assert report['mpjpe_mm']['constant_velocity']['1000'] == pytest.approx(0.0, abs=0.5)
    assert report['mpjpe_mm']['repeat_last']['1000'] == pytest.approx(1200.0, abs=2.0)
    assert report['compared_with_alone'] > 80 and report['company_changes_mm'] < 0.5
    assert report['mpjpe_mm']['motion_deq']['1000'] > 1.0  # control: the model is untrained


def test_only_clips_that_name_each_other_are_a_pair() -> None:
    people = pair()
    assert len(pairs_of(people)) == 1
    alone = dataclasses.replace(people.clips[1], pair='')
    one_sided = dataclasses.replace(people, clips=(people.clips[0], alone))
    assert pairs_of(one_sided) == []
    with pytest.raises(DataError, match='pair'):
        evaluate_pairs(one_sided, 'body_1s', 'cpu')
