"""Promises that span files: interfaces, enums, executables and the version."""

import importlib
import re
import xml.etree.ElementTree as ElementTree
from enum import IntEnum
from importlib.metadata import distribution
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

import motion_predictor_ros
from motion_predictor_ros.skeleton.frame import SkeletonFrame, TrackingState, Validity

ROOT = Path(__file__).resolve().parent.parent
INTERFACES = sorted([*ROOT.glob('msg/*.msg'), *ROOT.glob('srv/*.srv')])
EXECUTABLES = re.findall(
    r"'([\w-]+) = ([\w.]+):(\w+)'", (ROOT / 'setup.py').read_text(encoding='utf-8')
)


def undocumented(line: str) -> bool:
    """Check whether an interface line declares something without a comment."""
    declaration, _, comment = line.partition('#')
    return bool(declaration.strip()) and declaration.strip() != '---' and not comment.strip()


def constants(interface: Path, prefix: str = '') -> dict[str, int]:
    """Read the uint8 constants of an interface, names without `prefix`."""
    found = re.findall(rf'^uint8 {prefix}(\w+)=(\d+)', interface.read_text('utf-8'), re.MULTILINE)
    return {name: int(value) for name, value in found}


def members(enum: type[IntEnum]) -> dict[str, int]:
    return {member.name: member.value for member in enum}


@pytest.mark.parametrize('interface', INTERFACES, ids=lambda path: path.name)
def test_every_interface_line_has_a_comment(interface: Path) -> None:
    lines = interface.read_text(encoding='utf-8').splitlines()
    assert [line for line in lines if undocumented(line)] == []


def test_an_undocumented_line_is_found() -> None:
    assert undocumented('float32 age_s')
    assert undocumented('float32 age_s  #')
    assert not undocumented('float32 age_s  # [s]')


def test_validity_means_the_same_in_python_and_on_the_wire() -> None:
    assert members(Validity) == constants(ROOT / 'msg/PredictedMotion.msg')


def test_tracking_state_means_the_same_in_python_and_on_the_wire() -> None:
    assert members(TrackingState) == constants(ROOT / 'msg/Skeleton.msg', 'TRACKING_')


@pytest.mark.parametrize(('name', 'module', 'function'), EXECUTABLES, ids=lambda part: part)
def test_every_executable_can_be_called(name: str, module: str, function: str) -> None:
    assert callable(getattr(importlib.import_module(module), function))


def test_setup_py_lists_executables() -> None:
    assert {name for name, _, _ in EXECUTABLES} >= {'motion-predictor', 'predictor_node'}


def test_the_version_is_the_same_everywhere() -> None:
    stated = ElementTree.parse(ROOT / 'package.xml').findtext('version')
    assert stated == motion_predictor_ros.__version__
    assert stated == distribution('motion_predictor_ros').version


def test_shapes_are_checked_while_testing() -> None:
    confidences = np.ones(18, dtype=np.float32)
    SkeletonFrame('anna', 0, np.zeros((18, 3)), confidences)
    with pytest.raises(jaxtyping.TypeCheckError):
        SkeletonFrame('anna', 0, np.zeros((17, 3)), confidences)


def test_cmake_installs_every_folder_that_setup_py_ships() -> None:
    """Interfaces are installed by rosidl; the demo's outputs are not shipped."""
    setup, cmake = (ROOT / name for name in ('setup.py', 'CMakeLists.txt'))
    line = re.search(r'^SHIPPED = \((.+)\)$', setup.read_text(encoding='utf-8'), re.MULTILINE)
    assert line is not None
    shipped = set(re.findall(r"'(\w+)'", line[1])) - {'msg', 'srv'}
    text = cmake.read_text(encoding='utf-8')
    loop = re.search(r'foreach\(_folder (.+)\)', text)
    assert loop is not None
    single = set(re.findall(r'DESTINATION share/\$\{PROJECT_NAME\}/(\w+)\)', text))
    assert shipped == set(loop[1].split()) | single
    assert 'demo' in shipped and (ROOT / 'demo' / 'demo.mcap').is_file()
