# SPDX-License-Identifier: Apache-2.0
"""Configuration from outside is checked by name, type and range."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motion_predictor_ros.config import (
    PipelineConfig,
    VolumeConfig,
    from_mapping,
    iterate_params,
    read_parameter_file,
    validate,
)
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.pipeline import Pipeline


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'skeleton': {'layuot': 'x'}}, 'layuot'),
        ({'skeleton': {'max_gap_s': 5.0}}, r'skeleton\.max_gap_s must be in'),
        ({'skeleton': {'max_gap_s': float('nan')}}, 'max_gap_s'),
        ({'skeleton': {'max_people': 2.5}}, 'must be a int'),
        ({'skeleton': {'max_people': True}}, 'must be a int'),
        ({'skeleton': 'body18'}, 'mapping'),
        ({'prediction': {'weights': 3}}, 'must be a str'),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(PipelineConfig, values)


def test_an_int_may_stand_for_a_float() -> None:
    config = from_mapping(PipelineConfig, {'skeleton': {'forget_after_s': 2}})
    assert config.skeleton.forget_after_s == 2.0
    assert type(config.skeleton.forget_after_s) is float


def test_numpy_scalars_stand_for_their_python_kinds() -> None:
    config = from_mapping(
        PipelineConfig,
        {
            'skeleton': {'max_gap_s': np.float32(0.125), 'max_people': np.int64(3)},
            'associate': np.bool_(True),
        },
    )
    assert validate(config) == config
    values = config.skeleton.max_gap_s, config.skeleton.max_people, config.associate
    assert [(type(value), value) for value in values] == [(float, 0.125), (int, 3), (bool, True)]
    for wrong in ({'max_people': np.float64(3.0)}, {'max_gap_s': np.float64('nan')}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            from_mapping(PipelineConfig, {'skeleton': wrong})


def test_every_parameter_says_what_it_is_and_its_unit() -> None:
    for name, item, value in iterate_params(PipelineConfig()):
        assert item.metadata['description'].rstrip().endswith(']'), name
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            assert item.metadata['low'] <= value <= item.metadata['high'], name


def test_dotted_and_nested_parameter_files_mean_the_same(tmp_path: Path) -> None:
    nested, dotted = tmp_path / 'nested.yaml', tmp_path / 'dotted.yaml'
    nested.write_text(
        'motion_predictor: {ros__parameters: {input_topic: s, skeleton: {max_gap_s: 0.1},'
        ' prediction: {max_steps: 7}}}'
    )
    dotted.write_text('/**: {ros__parameters: {skeleton.max_gap_s: 0.1, prediction.max_steps: 7}}')
    assert read_parameter_file(nested) == read_parameter_file(dotted)
    assert read_parameter_file(nested).prediction.max_steps == 7


@pytest.mark.parametrize('content', ['[1, 2', 'just text', 'node: {skeleton: {}}', ''])
def test_a_file_that_is_no_parameter_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / 'bad.yaml'
    path.write_text(content)
    with pytest.raises(ConfigError, match=r'bad\.yaml'):
        read_parameter_file(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='gone'):
        read_parameter_file(tmp_path / 'gone.yaml')


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ('{sourse: zed}', "'sourse': is 'source' meant"),
        ('{volume: {promis: risk}}', 'promis'),
        ('{skeleton: 1, skeleton.up: y}', 'skeleton must be a mapping'),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_file_and_the_nearest_name(
    tmp_path: Path, parameters: str, message: str
) -> None:
    path = tmp_path / 'people.yaml'
    path.write_text(f'/**: {{ros__parameters: {parameters}}}')
    with pytest.raises(ConfigError, match=rf'people\.yaml: .*{message}'):
        read_parameter_file(path)


def test_parameters_of_both_nodes_of_rclpy_and_of_other_nodes_pass(tmp_path: Path) -> None:
    path = tmp_path / 'people.yaml'
    path.write_text(
        '/**: {ros__parameters: {source: zed, score.memory_s: 60.0, use_sim_time: true}}\n'
        '/cell/planner: {ros__parameters: {sourse: map}}'
    )
    assert read_parameter_file(path).source == 'zed'


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (PipelineConfig(max_rate_hz=-1.0), 'max_rate_hz must be in'),
        (PipelineConfig(threads=0), 'threads must be in'),
        (PipelineConfig(volume=VolumeConfig(level=95.0)), r'volume\.level must be in'),
        (PipelineConfig(volume=VolumeConfig(level=float('nan'))), r'volume\.level must be in'),
    ],
)
def test_a_pipeline_refuses_a_config_made_in_python_as_one_from_a_file(
    config: PipelineConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Pipeline.load(config)


def test_a_config_within_its_ranges_is_valid() -> None:
    config = PipelineConfig(max_rate_hz=25, volume=VolumeConfig(level=0.9))
    assert validate(config) == config
