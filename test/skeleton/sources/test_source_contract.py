# SPDX-License-Identifier: Apache-2.0
"""A source is one class: one that is defined in this file alone feeds the pipeline."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from models import write_weights
from scenes import START_NS, pose

from motion_predictor_ros.config import (
    SOURCES,
    DensityConfig,
    InputConfig,
    PipelineConfig,
    PredictionConfig,
    from_mapping,
    iterate_params,
    param,
)
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import (
    RawSkeleton,
    Source,
    SourceConfig,
    make_source,
)


@dataclass(frozen=True)
class OutlineConfig(SourceConfig):
    person_id: str = param('outline', 'id of the one person [-]')
    unit_m: float = param(1.0, 'metres in one unit of the message [m]', low=0.001, high=1.0)


class Outline(Source[OutlineConfig]):
    """geometry_msgs/PolygonStamped whose points are the joints of one person."""

    msgtype = 'geometry_msgs/msg/PolygonStamped'
    joint_layout = 'body18'

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        return [(self.parameters.person_id, msg.polygon.points)]

    def decode_person(self, label: str, person: Any) -> RawSkeleton:
        units = np.array([(point.x, point.y, point.z) for point in person], dtype=np.float64)
        return RawSkeleton(self.joints, self.parameters.unit_m * units)


@pytest.fixture
def toy() -> Iterator[None]:
    SOURCES.register('outline', OutlineConfig)(Outline)
    yield
    SOURCES.unregister('outline')


def message(time_s: float) -> SimpleNamespace:
    """Return a polygon in millimetres."""
    stamp_ns = START_NS + round(time_s * 1e9)
    stamp = SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    points = [SimpleNamespace(x=x, y=y, z=z) for x, y, z in (1000 * pose(time_s)).tolist()]
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id='world'),
        polygon=SimpleNamespace(points=points),
    )


def test_a_source_that_is_registered_is_chosen_configured_and_predicted(
    toy: None, tmp_path: Path
) -> None:
    config = from_mapping(
        PipelineConfig,
        {'source': 'outline', 'sources': {'outline': {'unit_m': 0.001, 'person_id': 'eve'}}},
    )
    weights = str(write_weights(tmp_path / 'tiny.safetensors'))
    prediction = PredictionConfig(weights=weights, device='cpu')
    pipeline = Pipeline.load(
        PipelineConfig(
            source=config.source,
            sources=config.sources,
            prediction=prediction,
            density=DensityConfig(enabled='never'),
        )
    )
    scenes = [pipeline.step(message(frame / 30)) for frame in range(36)]
    assert scenes[-1] is not None
    (person,) = scenes[-1].prediction.people
    assert (person.person_id, person.validity) == ('eve', Validity.OK)
    assert person.window is not None
    np.testing.assert_allclose(person.window.positions[-1], pose(35 / 30), atol=0.02)
    assert not pipeline.skeleton.drops


def test_without_its_parameter_the_same_message_is_refused(toy: None) -> None:
    source = make_source('outline', SkeletonLayout.load('body18'), InputConfig().skeleton)
    observation = source.decode(message(0.0))
    assert observation is not None and not observation.people
    assert len(observation.rejected) == 1


def test_the_parameters_of_a_source_have_a_name_and_a_range(toy: None) -> None:
    names = {name for name, _, _ in iterate_params(InputConfig())}
    assert {'sources.outline.unit_m', 'sources.outline.person_id'} <= names
    with pytest.raises(ConfigError, match=r'sources\.outline\.unit_m'):
        from_mapping(InputConfig, {'sources': {'outline': {'unit_m': 2.0}}})


def test_a_source_that_is_not_registered_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"source must be one of .*'zed'.*, got 'outline'"):
        from_mapping(InputConfig, {'source': 'outline'})
    assert not any('outline' in name for name, _, _ in iterate_params(InputConfig()))
