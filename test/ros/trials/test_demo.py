# SPDX-License-Identifier: Apache-2.0
"""The demo from end to end: replay, then live node, recorder and player."""

import io
import json
from pathlib import Path

import pytest
import torch
from cache_flow_models import write_density
from models import write_weights
from rich.console import Console
from scenes import stream, write_bag

from motion_predictor_ros.config import DensityConfig, PipelineConfig, PredictionConfig
from motion_predictor_ros.errors import BagError, CheckpointError
from motion_predictor_ros.ros.tools.demo import run_demo

NO_DENSITY = DensityConfig(enabled='never')


def run(bag: Path, out: Path, weights: Path, density: DensityConfig = NO_DENSITY) -> None:
    prediction = PredictionConfig(weights=str(weights), device='cpu')
    config = PipelineConfig(prediction=prediction, density=density)
    run_demo(bag, out, 0.5, config, Console(file=io.StringIO()))  # for busy machines


def test_the_demo_can_be_run_again_and_live_equals_replay(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'walk.mcap', stream(0.0, 3.0, 'ann'))
    weights = write_weights(tmp_path / 'motion.safetensors')
    torch.set_default_dtype(torch.float32)  # as in the node's process
    density = write_density(tmp_path, enabled='always')
    for _ in range(2):
        run(bag, tmp_path / 'out', weights, density)
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert (tmp_path / 'out' / 'scene.png').is_file()
    assert 'live node' in (tmp_path / 'out' / 'report.html').read_text()
    assert report['live']['processed_share'] > 0.5
    # Where nothing was skipped the two agree to the last bit; after a skipped frame they start
    # the next solution elsewhere, and end within the solver's tolerance.
    assert report['live']['max_abs_difference_m'] < 0.01
    assert report['live']['futures'] >= 5
    assert report['live']['futures_max_abs_difference_m'] < 1e-5


def test_unusable_input_is_an_error_before_any_process_starts(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'walk.mcap', stream(0.0, 3.0, 'ann'))
    weights = write_weights(tmp_path / 'tiny.safetensors')
    with pytest.raises(CheckpointError, match='gone'):
        run(bag, tmp_path / 'out', tmp_path / 'gone.safetensors')
    with pytest.raises(BagError, match='gone'):
        run(tmp_path / 'gone.mcap', tmp_path / 'out', weights)
    assert not (tmp_path / 'out').exists()  # the test above is the control: it writes there
