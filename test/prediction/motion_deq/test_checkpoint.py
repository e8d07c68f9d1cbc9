# SPDX-License-Identifier: Apache-2.0
"""Weight files from outside: what does not fit is refused with a reason."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from models import write_weights
from safetensors.torch import load_file, save_file

from motion_predictor_ros.checkpoint import choose_device, load_checkpoint, save_checkpoint
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq

CPU = torch.device('cpu')


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / 'tiny.safetensors')


def header_of(path: Path) -> dict[str, object]:
    return dict(load_checkpoint(path, 'motion_deq').header)


def test_a_whole_file_loads(weights: Path) -> None:
    trained = load_motion_deq(str(weights), CPU)
    assert trained.joint_names[0] == 'pelvis'
    assert trained.name.startswith('tiny@')


@pytest.mark.parametrize(('umask', 'mode'), [(0o022, 0o644), (0o077, 0o600)])
def test_the_robots_user_may_read_what_another_wrote(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        written = write_weights(tmp_path / 'tiny.safetensors')
    finally:
        os.umask(before)
    assert written.stat().st_mode & 0o777 == mode


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r'gone\.safetensors'):
        load_motion_deq(str(tmp_path / 'gone.safetensors'), CPU)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(CheckpointError, match='no_such_model'):
        load_motion_deq('no_such_model', CPU)


@pytest.mark.parametrize('size', [0, 4, 100, 5000])
def test_a_truncated_file_is_refused(weights: Path, size: int) -> None:
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(CheckpointError, match='damaged'):
        load_motion_deq(str(weights), CPU)


def test_a_header_that_lies_about_its_length_is_refused(weights: Path) -> None:
    content = weights.read_bytes()
    weights.write_bytes(struct.pack('<Q', 2**60) + content[8:])
    with pytest.raises(CheckpointError, match='damaged'):
        load_motion_deq(str(weights), CPU)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'evil.safetensors'
    torch.save({'a': torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match='damaged'):
        load_motion_deq(str(path), CPU)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'foreign.safetensors'
    save_file({'a': torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match='was not written by'):
        load_motion_deq(str(path), CPU)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'kind': 'cache_flow'}, 'expected'),
        ({'config': {'channels': 16, 'patterns': 8}}, 'does not describe'),
        ({'config': {'chanels': 8}}, 'chanels'),
        ({'config': {'channels': -1}}, 'channels'),
        ({'joint_names': ['pelvis']}, 'names'),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    weights: Path, change: dict[str, object], message: str
) -> None:
    tensors = load_file(weights)
    save_checkpoint(weights, {**header_of(weights), **change}, tensors)
    with pytest.raises(CheckpointError, match=message):
        load_motion_deq(str(weights), CPU)


def test_tensors_of_another_model_are_refused(weights: Path) -> None:
    tensors = {**load_file(weights), 'adversary.weight': torch.zeros(1)}
    save_checkpoint(weights, header_of(weights), tensors)
    with pytest.raises(CheckpointError, match='adversary'):
        load_motion_deq(str(weights), CPU)


def test_another_format_is_refused(weights: Path) -> None:
    document = json.dumps({**header_of(weights), 'format': 99})
    save_file(load_file(weights), weights, metadata={'motion_predictor_ros': document})
    with pytest.raises(CheckpointError, match='format 99'):
        load_motion_deq(str(weights), CPU)


def test_weights_that_are_not_finite_are_refused(weights: Path) -> None:
    tensors = load_file(weights)
    tensors['out.weight'][0, 0] = torch.nan
    save_checkpoint(weights, header_of(weights), tensors)
    with pytest.raises(CheckpointError, match='not finite'):
        load_motion_deq(str(weights), CPU)


@pytest.mark.parametrize('wish', ['gpu', 'cuda:99', 'meta', ''])
def test_a_device_that_is_not_there_is_refused(wish: str) -> None:
    with pytest.raises(ConfigError, match='device'):
        choose_device(wish)


def test_auto_chooses_something() -> None:
    assert choose_device('auto').type in ('cpu', 'cuda')
