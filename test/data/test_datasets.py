# SPDX-License-Identifier: Apache-2.0
"""Every known form of data is told apart, and the shipped recipes learn from it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cmu_files import wander, write_benchmark
from licensed_files import (
    body_of,
    h36m_rows,
    swing,
    write_3dpw,
    write_amass,
    write_body_model,
    write_h36m,
    write_h36m_positions,
)

from motion_predictor_ros.cli.main import main
from motion_predictor_ros.data.datasets import load_training_data
from motion_predictor_ros.data.h36m import ACTIONS
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.skeleton.layout import SkeletonLayout


@pytest.fixture(scope='module')
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write every form once; the layout that each is read in is its key."""
    top = tmp_path_factory.mktemp('data')

    def rows(who: str, action: str, take: int) -> np.ndarray:
        long = who in ('S1', 'S11') and action == 'walking'
        return h36m_rows(120 if long else 8, int(who[1:]) + ACTIONS.index(action))

    people = {f'{name}/a_00': [body_of(60, 3)] for name in ('train', 'validation', 'test')}
    positions = {'S1': {'Walking': np.zeros((9, 32, 3), np.float32)}}
    write_body_model(top / 'amass/smplh/male/model.npz')
    write_amass(top / 'amass/CMU/01/a_poses.npz', swing(9, 22, 1), 60.0)
    return {
        'h36m22': write_h36m(top / 'h36m', rows),
        '3dpw23': write_3dpw(top / '3dpw', people),
        'amass22': top / 'amass',
        'h36m17': write_h36m_positions(top / 'data_3d_h36m.npz', positions),
        'cmu25': write_benchmark(top / 'cmu.npz', {'train/walking_1': wander(50, 1)}),
    }


@pytest.mark.parametrize('layout', ['h36m22', '3dpw23', 'amass22', 'h36m17', 'cmu25'])
def test_every_format_is_recognised_and_read_in_its_layout(
    layout: str, homes: dict[str, Path]
) -> None:
    recordings = load_training_data(homes[layout])
    assert recordings.joint_names == SkeletonLayout.load(layout).joint_names
    assert recordings.attribution


def test_an_unknown_folder_is_an_error_that_names_known_formats(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('hello')
    with pytest.raises(DataError, match=r'no known data set; expected S1/walking_1\.txt .*3DPW'):
        load_training_data(tmp_path)


@pytest.mark.parametrize(
    ('name', 'layout'), [('h36m_short', 'h36m22'), ('h36m_long', 'h36m22'), ('3dpw', '3dpw23')]
)
def test_a_shipped_recipe_trains_two_steps_from_the_shell(
    name: str, layout: str, homes: dict[str, Path], tmp_path: Path
) -> None:
    """The recipe as shipped, but for its length and width."""
    torch.set_default_dtype(torch.float32)
    recipe = yaml.safe_load(share_file('config/recipes', f'{name}.yaml').read_text())
    recipe['schedule'] |= {'epochs': 0, 'steps': 2, 'batch': 2}
    recipe['model'] |= {'channels': 8, 'patterns': 8}
    path = tmp_path / f'{name}.yaml'
    path.write_text(yaml.safe_dump(recipe))
    where = ['--data', str(homes[layout]), '--out', str(tmp_path / 'run')]
    options = ['--recipe', str(path), *where, '--device', 'cpu', '--threads', '1']
    assert main(['train', 'motion-deq', *options]) == 0
    trained = load_motion_deq(str(tmp_path / 'run/best.safetensors'), torch.device('cpu'))
    assert trained.joint_names == SkeletonLayout.load(layout).joint_names
    assert trained.training['step'] == 2 and trained.training['attribution']


def test_epochs_of_a_recipe_decide_how_long_it_trains(
    homes: dict[str, Path], tmp_path: Path
) -> None:
    """Walking of S1, twice 60 frames, holds 82 windows of 20: at 41 a step, two steps."""
    torch.set_default_dtype(torch.float32)
    recipe = yaml.safe_load(share_file('config/recipes/h36m_short.yaml').read_text())
    recipe['schedule'] |= {'epochs': 1, 'batch': 41, 'validate_every': 100}
    recipe['model'] |= {'channels': 8, 'patterns': 8}
    recipe['equilibrium'] |= {'solver_steps': 2}
    path = tmp_path / 'short.yaml'
    path.write_text(yaml.safe_dump(recipe))
    where = ['--data', str(homes['h36m22']), '--out', str(tmp_path / 'run')]
    assert main(['train', 'motion-deq', '--recipe', str(path), *where, '--device', 'cpu']) == 0
    trained = load_motion_deq(str(tmp_path / 'run/best.safetensors'), torch.device('cpu'))
    assert trained.training['step'] == 2
    assert trained.training['recipe']['schedule']['steps'] == 2


def test_a_recipe_for_other_joints_ends_in_one_line(
    homes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ['--data', str(homes['3dpw23']), '--out', str(tmp_path)]
    assert main(['train', 'motion-deq', '--recipe', 'h36m_short', *where, '--device', 'cpu']) == 2
    said = capsys.readouterr().err
    assert "the recipe's layout 'h36m22'" in said and said.count('\n') == 1
