# SPDX-License-Identifier: Apache-2.0
"""Layouts: one tree, a mirror that is its own inverse, joints found by name."""

from pathlib import Path

import numpy as np
import pytest

from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.skeleton.layout import SkeletonLayout

TREE = 'joints: {hip: "", l_toe: hip, r_toe: hip}\n'
WHOLE = TREE + 'mirror: {l_toe: r_toe}\nroot: hip\n'

BROKEN = {
    'empty file': ('', 'no joints'),
    'not a mapping': ('[hip, toe]', 'no joints'),
    'no joints': ('joints: {}', 'no joints'),
    'joints are a list': ('joints: [hip, toe]', 'must map names'),
    'not YAML': ('joints: {hip: ""', 'expected'),
    'not text': ('joints: {hip: "", 7: hip}', 'names must be text'),
    'nameless joint': ('joints: {hip: "", "": hip}', 'names must be text'),
    'joint given twice': ('joints: {hip: "", toe: hip, toe: hip}', "'toe'.*twice"),
    'unknown parent': ('joints: {hip: "", toe: knee}', "parents .'knee'. are not joints"),
    'no root': ('joints: {hip: toe, toe: hip}', r'the root\), got \[\]'),
    'two roots': ('joints: {hip: "", toe: ""}', r"got \['hip', 'toe'\]"),
    'cycle': ('joints: {hip: "", a: b, b: a}', 'cycle: a -> b -> a'),
    'another root': (TREE + 'root: l_toe', "root is 'l_toe', but 'hip'"),
    'mirror unknown': (TREE + 'mirror: {l_toe: r_tow}', "'r_tow'.*are not joints"),
    'mirror used twice': (TREE + 'mirror: {l_toe: r_toe, hip: r_toe}', "'r_toe'.*used twice"),
    'mirror both ways': (TREE + 'mirror: {l_toe: r_toe, r_toe: l_toe}', 'used twice'),
    'mirror of itself': (TREE + 'mirror: {l_toe: l_toe}', 'used twice'),
    'unknown entry': (TREE + 'mirrors: {l_toe: r_toe}', "unknown entries .'mirrors'."),
}


def load_text(folder: Path, text: str) -> SkeletonLayout:
    path = folder / 'toy.yaml'
    path.write_text(text)
    return SkeletonLayout.load(str(path))


@pytest.mark.parametrize('fault', BROKEN)
def test_a_broken_layout_is_refused_and_the_message_says_where(tmp_path: Path, fault: str) -> None:
    text, message = BROKEN[fault]
    with pytest.raises(ConfigError, match=f'(?s)toy.yaml: .*{message}'):
        load_text(tmp_path, text)


def test_the_same_file_without_a_fault_loads(tmp_path: Path) -> None:
    layout = load_text(tmp_path, WHOLE)
    assert layout == SkeletonLayout('toy', ('hip', 'l_toe', 'r_toe'), (-1, 0, 0), (0, 2, 1), 0)
    assert layout.bones == ((0, 1), (0, 2))


def test_children_may_come_before_parents_and_the_root_may_be_blank(tmp_path: Path) -> None:
    layout = load_text(tmp_path, 'joints: {toe: knee, knee: hip, hip: }')
    assert layout.parents == (1, 2, -1)
    assert layout.root == 2
    assert layout.mirror == (0, 1, 2)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'binary.yaml'
    path.write_bytes(b'\xff\xfe\x00\x80')
    with pytest.raises(ConfigError, match=r'binary\.yaml'):
        SkeletonLayout.load(str(path))


def test_an_unknown_name_lists_the_shipped_layouts() -> None:
    with pytest.raises(ConfigError, match='body18'):
        SkeletonLayout.load('body19')


def test_body18_mirrors_left_to_right_and_back() -> None:
    layout = SkeletonLayout.load('body18')
    mirror = np.array(layout.mirror)
    assert np.array_equal(mirror[mirror], np.arange(18))
    assert layout.joint_names[mirror[layout.joint_names.index('l_wrist')]] == 'r_wrist'
    assert sum(mirror == np.arange(18)) == 4  # pelvis, chest, neck, head


def test_body18_mirrors_bones_onto_bones() -> None:
    layout = SkeletonLayout.load('body18')
    mirrored = {(layout.mirror[parent], layout.mirror[child]) for parent, child in layout.bones}
    assert mirrored == set(layout.bones)
    assert len(layout.bones) == 17


def test_joints_are_found_by_name_and_extra_ones_ignored() -> None:
    layout = SkeletonLayout.load('body18')
    names = ['nose', *reversed(layout.joint_names)]
    assert [names[place] for place in layout.order_from(names)] == list(layout.joint_names)


def test_a_missing_joint_is_named_with_what_came_and_what_to_touch() -> None:
    layout = SkeletonLayout.load('body18')
    names = [name for name in layout.joint_names if name != 'head'] + ['skull']
    with pytest.raises(
        SkeletonFormatError, match=r"misses \['head'\].*skull.*skeleton\.layout"
    ) as e:
        layout.order_from(names)
    assert e.value.reason == 'layout_mismatch'


def test_a_joint_named_twice_is_refused() -> None:
    layout = SkeletonLayout.load('body18')
    with pytest.raises(SkeletonFormatError, match='twice'):
        layout.order_from([*layout.joint_names, 'head'])


def test_the_remembered_order_cannot_be_changed_by_a_caller() -> None:
    layout = SkeletonLayout.load('body18')
    with pytest.raises(ValueError, match='read-only'):
        layout.order_from(layout.joint_names)[0] = 5
