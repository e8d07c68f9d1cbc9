# SPDX-License-Identifier: Apache-2.0
"""`device: auto` takes the faster device, and never one that fails."""

import dataclasses
import time
from pathlib import Path

import pytest
import torch
from cache_flow_models import TINY, write_density
from models import write_weights
from pretend_gpu import pretended_gpu

from motion_predictor_ros.config import PipelineConfig, PredictionConfig
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.runtime.device_trial import load_on_faster


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


class Waiting:
    """Answers after a time that depends on its device."""

    def __init__(self, device: torch.device, cpu_s: float, gpu_s: float) -> None:
        self.device, self.answers = device, 0
        self._wait_s = gpu_s if device.type == 'cuda' else cpu_s

    def warm_up(self) -> None:
        self.answers += 1
        # The first answer compiles and allocates: it must not count.
        time.sleep(0.2 if self.answers == 1 else self._wait_s)


class FailsOnGPU(Waiting):
    def warm_up(self) -> None:
        if self.device.type == 'cuda':
            raise RuntimeError('CUDA error: no kernel image is available')
        super().warm_up()


def test_the_faster_device_is_taken_and_both_times_are_reported() -> None:
    with pretended_gpu():
        for cpu_s, gpu_s, faster in ((0.03, 0.001, 'cuda:0'), (0.001, 0.03, 'cpu')):
            taken, choice = load_on_faster(lambda device, a=cpu_s, b=gpu_s: Waiting(device, a, b))
            assert str(taken.device) == faster and choice.startswith(f'{faster}: ')
            assert 'cpu ' in choice and 'cuda:0 ' in choice and choice.count(' ms') == 2


def test_a_gpu_that_fails_is_not_taken() -> None:
    with pretended_gpu():
        taken, choice = load_on_faster(lambda device: FailsOnGPU(device, 0.03, 0.001))
    assert taken.device.type == 'cpu' and 'no kernel image' in choice


def test_without_a_gpu_nothing_is_measured() -> None:
    if torch.cuda.is_available():
        pytest.skip('there is a GPU')
    taken, choice = load_on_faster(lambda device: Waiting(device, 0.0, 0.0))
    assert taken.answers == 1 and choice == 'cpu: no GPU is visible'


def test_what_cannot_be_loaded_on_the_cpu_is_an_error() -> None:
    def load(device: torch.device) -> Waiting:
        raise CheckpointError('damaged')

    with pytest.raises(CheckpointError, match='damaged'):
        load_on_faster(load)


def test_both_models_answer_on_both_devices_before_one_is_chosen(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / 'motion.safetensors')
    config = PipelineConfig(
        prediction=PredictionConfig(weights=str(weights)),
        density=write_density(tmp_path, dataclasses.replace(TINY, steps=2), enabled='always'),
    )
    config = dataclasses.replace(
        config, density=dataclasses.replace(config.density, device='auto')
    )
    with pretended_gpu() as gpu:
        pipeline = Pipeline.load(config)
        assert gpu.launches > 100
        assert pipeline.density is not None
        for stage in (pipeline.predictor, pipeline.density):
            assert 'cpu ' in stage.device_choice and 'cuda:0 ' in stage.device_choice
        pipeline.close()
