# SPDX-License-Identifier: Apache-2.0
"""What a user of Python imports, and the lines that the README prints."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import write_weights
from scenes import NAMES, message, pose

import motion_predictor_ros
from motion_predictor_ros import Observation, Pipeline, PipelineConfig
from motion_predictor_ros.config import DensityConfig, PredictionConfig
from motion_predictor_ros.skeleton.tracking import Restart

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_ROS = 'import sys; sys.modules["rclpy"] = None\n'


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(tmp_path: Path, on_restart: Callable[[Restart], None] = lambda restart: None) -> Pipeline:
    weights = str(write_weights(tmp_path / 'tiny.safetensors'))
    prediction = PredictionConfig(weights=weights, device='cpu')
    density = DensityConfig(enabled='never')
    config = PipelineConfig(prediction=prediction, density=density)
    return Pipeline.load(config, on_restart=on_restart)


def test_the_lines_of_the_readme_run_without_ros_and_say_where_a_person_will_be() -> None:
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    (code,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    found = re.search(r'anna in 1\.0 s: pelvis at \[(.+)\] m, OK', run(WITHOUT_ROS + code))
    assert found is not None
    x, y, z = map(float, found[1].split())
    assert 0.7 < z < 1.2 and abs(x) < 10 and abs(y) < 10


def test_importing_the_package_imports_no_model() -> None:
    code = 'import sys, motion_predictor_ros; print(sorted({"torch", "numba"} & set(sys.modules)))'
    assert run(code) == '[]\n'
    assert run(code.replace('; print', '; motion_predictor_ros.Pipeline; print')) != '[]\n'


@pytest.mark.parametrize('name', motion_predictor_ros.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(motion_predictor_ros, name).__name__ == name


def test_a_name_that_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match='Pipelines'):
        motion_predictor_ros.Pipelines  # noqa: B018


def test_arrays_are_answered_as_the_message_with_the_same_numbers(tmp_path: Path) -> None:
    from_arrays, from_messages = load(tmp_path), load(tmp_path)
    order = np.random.default_rng(0).permutation(len(NAMES))
    names = [NAMES[joint] for joint in order]
    for frame in range(36):
        sent = message(frame / 30, 'ann')
        stamp = sent.header.stamp
        seen = pose(frame / 30).astype(np.float32).astype(np.float64)
        arrays = Observation.from_arrays(
            stamp.sec + stamp.nanosec / 1e9, names, {'ann': seen[order]}
        )
        here, there = from_arrays.step(arrays), from_messages.step(sent)
    assert here is not None and there is not None
    ours, theirs = here.prediction.people[0], there.prediction.people[0]
    assert ours.positions is not None and theirs.positions is not None
    np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-3)
    assert not from_arrays.skeleton.drops


def test_arrays_that_cannot_be_used_are_counted_as_messages_are(tmp_path: Path) -> None:
    pipeline = load(tmp_path)
    assert pipeline.step(Observation.from_arrays(1.0, NAMES[:-1], {'ann': pose(0.0)[:-1]})) is None
    assert pipeline.skeleton.drops['layout_mismatch'] == 1
    assert pipeline.step(Observation.from_arrays(0.0, NAMES, {'ann': pose(0.0)})) is None
    assert pipeline.skeleton.drops['bad_stamp'] == 1


TRY_ARRAYS = """
import numpy as np
from motion_predictor_ros import Observation
from motion_predictor_ros.errors import SkeletonFormatError
pose, nan, inf = np.arange(54.0).reshape(18, 3), float('nan'), float('inf')
try:
    observation = Observation.from_arrays({stamp}, [str(joint) for joint in range(18)], {people})
    print((observation.people[0].positions == pose).all())
except SkeletonFormatError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ('stamp', 'people', 'message'),
    [
        ('1.0', "{'ann': pose.tolist()}", 'True'),
        ('nan', "{'ann': pose}", 'stamp_s is nan, expected seconds'),
        ('inf', "{'ann': pose}", 'stamp_s is inf'),
        ("'1.0'", "{'ann': pose}", "stamp_s is '1.0'"),
        ('1.0', "{'ann': pose.ravel()}", r"'ann': positions have shape \(54,\).*\[joint, xyz\]"),
        ('1.0', "{'ann': pose[:-1]}", r'shape \(17, 3\)'),
        ('1.0', "{'ann': 'here'}", "'ann': positions .* are no numbers"),
        ('1.0', '[pose]', 'people is a list, expected positions by id'),
    ],
)
def test_arrays_of_another_shape_or_time_are_refused_with_the_reason(
    stamp: str, people: str, message: str
) -> None:
    # In a process without the tests' run-time check of types, as a user has it.
    assert re.search(message, run(TRY_ARRAYS.format(stamp=stamp, people=people)))


@pytest.mark.parametrize('message', [None, {'header': 1}, [1.0]])
def test_a_step_on_something_else_names_what_it_takes(tmp_path: Path, message: Any) -> None:
    pipeline = load(tmp_path)
    kind = type(message).__name__
    with pytest.raises(TypeError, match=f'Observation or a message .*SkeletonArray, got {kind}'):
        pipeline.step(message)


def test_stamps_in_milliseconds_are_reported_as_a_gap_that_asks_for_seconds(
    tmp_path: Path,
) -> None:
    for unit, count in ((1000.0, 1), (1.0, 0)):
        reports: list[Restart] = []
        pipeline = load(tmp_path, reports.append)
        for frame in range(2):
            stamp = unit * (1.0 + 0.04 * frame)
            pipeline.step(Observation.from_arrays(stamp, NAMES, {'ann': pose(0.04 * frame)}))
        assert sum('are stamps in seconds?' in report.message for report in reports) == count
    reports = []
    pipeline = load(tmp_path, reports.append)
    for time_s in (0.0, 1.0):  # stamps of messages have a unit
        pipeline.step(message(time_s, 'ann'))
    (report,) = reports
    assert report.reason == 'gap' and 'seconds?' not in report.message
