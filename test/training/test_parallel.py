# SPDX-License-Identifier: Apache-2.0
"""Two processes learn what one does from the whole batch; only the first one writes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from torch import multiprocessing
from walkers import walkers

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.training import parallel

PATIENCE_S = 300


def two_processes(out: Path, alone: str = '') -> dict[str, torch.Tensor]:
    multiprocessing.spawn(ranks.accumulate_gradients, (2, out, alone), nprocs=2)
    return ranks.learnt(out)


@pytest.fixture(scope='module')
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """One process with the whole batch."""
    out = tmp_path_factory.mktemp('one')
    ranks.accumulate_gradients(0, 1, out)
    return ranks.learnt(out)


@pytest.mark.slow
def test_two_processes_train_as_one(one: dict[str, torch.Tensor], tmp_path: Path) -> None:
    assert one['step'].tolist() == [3, 6]
    assert float(one['train_hinge'][-1]) > 0.0
    assert ranks.largest_difference(one, two_processes(tmp_path / 'two')) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize('alone', ['average_gradients', 'largest'])
def test_processes_without_synchronisation_train_differently(
    alone: str, one: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    apart = two_processes(tmp_path / 'two', alone)
    assert ranks.largest_difference(one, apart) > 1e-6


def torchrun(recipe: Path, data: Path, out: Path) -> 'subprocess.CompletedProcess[str]':
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    command += [
        '-m',
        'motion_predictor_ros.cli.main',
        'train',
        'motion-deq',
        '--recipe',
        str(recipe),
    ]
    command += ['--data', str(data), '--out', str(out), '--device', 'cpu', '--threads', '1']
    own = {'GLOO_SOCKET_IFNAME': 'lo', 'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, env=os.environ | own
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    recordings = walkers()
    clips = {clip.key: {'subject': clip.subject, 'split': clip.split} for clip in recordings.clips}
    meta = {'joint_names': recordings.joint_names, 'fps': recordings.fps, 'clips': clips}
    arrays = dict(zip(clips, recordings.positions.reshape(2, 200, 18, 3), strict=True))
    np.savez(tmp_path / 'clips.npz', __meta__=np.array(json.dumps(meta)), **arrays)
    return tmp_path / 'clips.npz'


@pytest.mark.slow
def test_torchrun_trains_and_the_first_process_alone_writes(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / 'tiny.yaml'
    recipe.write_text(json.dumps(dataclasses.asdict(ranks.TASK)))
    done = torchrun(recipe, data, tmp_path / 'run')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count(str(tmp_path / 'run' / 'best.safetensors')) == 1
    found = ranks.learnt(tmp_path / 'run')
    assert found['step'].tolist() == [3, 6]
    assert {path.name for path in (tmp_path / 'run').iterdir()} == {
        'best.safetensors',
        'last.safetensors',
        'losses.csv',
    }


def test_a_batch_that_does_not_divide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, 'world', lambda: 2)
    assert parallel.shard(8) == slice(0, None, 2)
    with pytest.raises(ConfigError, match='batch of 7 windows does not divide by 2 processes'):
        parallel.shard(7)


def test_shares_of_the_first_windows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, 'world', lambda: 3)
    counts = []
    for rank in range(3):
        monkeypatch.setattr(parallel, 'rank', lambda rank=rank: rank)
        rows = np.arange(12)[parallel.shard(12)]
        counts.append(parallel.shard_size(7))
        assert list(rows[: counts[-1]]) == [row for row in rows if row < 7]
    assert counts == [3, 2, 2]


def test_a_process_on_its_own_has_everything() -> None:
    assert parallel.world() == 1 and parallel.is_first()
    assert list(range(8))[parallel.shard(8)] == list(range(8))
    assert parallel.shard_size(3) == 3 and parallel.largest(4) == 4
    assert parallel.average({'loss': 2.0}) == {'loss': 2.0}
    assert parallel.broadcast_from_rank0(True) and not parallel.broadcast_from_rank0(False)
    assert parallel.init_process_group('cpu') == torch.device('cpu')
    with pytest.raises(ConfigError, match='tpu'):
        parallel.init_process_group('tpu')
