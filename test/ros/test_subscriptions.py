# SPDX-License-Identifier: Apache-2.0
"""A source whose package is missing is a clear word at configure."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ros.graph import Process

Launch = Callable[..., Process]


@pytest.mark.parametrize(
    ('source', 'changes', 'says'),
    [
        ('zed', {}, 'ros-jazzy-zed-msgs'),
        ('hiros', {}, 'ros-jazzy-hiros-skeleton-msgs'),
        ('azure_kinect', {'fixed_frame': 'map'}, 'ros-jazzy-tf2-msgs'),
        ('pose_array', {}, 'skeleton.source_layout'),
    ],
)
def test_what_is_missing_is_said_at_configure(
    source: str, changes: dict[str, str], says: str, launch: Launch, model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    given = {'source': source, 'prediction.weights': str(model), **changes}
    words = [word for name, value in given.items() for word in ('-p', f'{name}:={value}')]
    node = launch('predictor_node', '--ros-args', *words)
    node.wait_for('cannot configure')
    assert says in node.output
    assert node.alive
    node.stop()
