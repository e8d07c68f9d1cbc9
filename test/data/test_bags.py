# SPDX-License-Identifier: Apache-2.0
"""Bags give back what was written, and damage is always a BagError."""

import random
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from motion_predictor_ros.data.bags import (
    SKELETON_ARRAY,
    BagWriter,
    read_messages,
    skeleton_messages,
    typestore,
)
from motion_predictor_ros.errors import BagError

HEADER = 'std_msgs/msg/Header'
STRING = 'std_msgs/msg/String'


def skeletons(index: int) -> Any:
    """One person whose numbers tell which message it was."""
    types = typestore().types
    stamp = types['builtin_interfaces/msg/Time'](index, 5)
    positions = np.random.default_rng(index).normal(size=54).astype(np.float32)
    person = types['motion_predictor_ros/msg/Skeleton'](
        'somebody', 1, positions, np.ones(18, np.float32)
    )
    return types[SKELETON_ARRAY](types[HEADER](stamp, 'world'), 'body18', ['pelvis'], [person])


def write_bag(path: Path, count: int = 20, mcap: bool = True) -> Path:
    with BagWriter(path, mcap) as bag:
        for index in range(count):
            bag.write('/skeletons', SKELETON_ARRAY, 10**9 * index, skeletons(index))
            bag.write('/notes', STRING, 10**9 * index + 1, typestore().types[STRING](str(index)))
    return path


def read_all(path: Path) -> tuple[int, BagError | None]:
    """Count the messages that can be read and decoded, and catch how it ends."""
    count = 0
    try:
        for each in read_messages(path):
            assert each.message is not None
            count += 1
    except BagError as error:
        return count, error
    return count, None


@pytest.mark.parametrize(('name', 'mcap'), [('a.mcap', True), ('a', True), ('a', False)])
def test_a_bag_gives_back_what_was_written(tmp_path: Path, name: str, mcap: bool) -> None:
    path = write_bag(tmp_path / name, mcap=mcap)
    assert path.is_dir() == (name == 'a')
    read = list(skeleton_messages(path))
    assert [each.stamp_ns for each in read] == [10**9 * index for index in range(20)]
    for index, each in enumerate(read):
        expected = skeletons(index)
        assert each.message.header == expected.header
        assert each.message.joint_names == expected.joint_names
        (person,) = each.message.persons
        assert person.person_id == 'somebody'
        np.testing.assert_array_equal(person.positions, expected.persons[0].positions)
    assert not list(tmp_path.glob('.bag-*'))


def test_the_comparison_sees_a_wrong_message(tmp_path: Path) -> None:
    first, second = list(skeleton_messages(write_bag(tmp_path / 'a.mcap')))[:2]
    assert (first.message.persons[0].positions != second.message.persons[0].positions).any()


def test_messages_come_in_log_order_and_by_topic_and_type(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    with BagWriter(path, True) as bag:
        for stamp_ns in (30, 10, 20):
            bag.write('/a', STRING, stamp_ns, typestore().types[STRING](str(stamp_ns)))
            bag.write('/b', SKELETON_ARRAY, stamp_ns + 1, skeletons(1))
    assert [each.stamp_ns for each in read_messages(path)] == [10, 11, 20, 21, 30, 31]
    assert {each.topic for each in read_messages(path, msgtype=STRING)} == {'/a'}
    assert {each.topic for each in read_messages(path, topics=['/b'])} == {'/b'}
    assert not list(read_messages(path, topics=['/c']))


def test_raw_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    source = write_bag(tmp_path / 'a.mcap', 1)
    with BagWriter(tmp_path / 'b.mcap', True) as bag:
        for each in read_messages(source):
            bag.write(each.topic, each.msgtype, each.stamp_ns, each.raw)
    assert list(read_messages(tmp_path / 'b.mcap')) == list(read_messages(source))


def test_the_storage_file_of_a_folder_can_be_read_alone(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / 'a', mcap=False)
    assert len(list(skeleton_messages(folder / 'a.db3'))) == 20


def test_the_skeleton_topic_must_be_clear(tmp_path: Path) -> None:
    two = tmp_path / 'two.mcap'
    with BagWriter(two, True) as bag:
        bag.write('/left', SKELETON_ARRAY, 1, skeletons(1))
        bag.write('/right', SKELETON_ARRAY, 2, skeletons(2))
    with pytest.raises(BagError, match=r"\['/left', '/right'\]"):
        list(skeleton_messages(two))
    assert [each.stamp_ns for each in skeleton_messages(two, '/right')] == [2]
    with pytest.raises(BagError, match=r'/left .*SkeletonArray'):
        list(skeleton_messages(two, '/middle'))


def test_a_bag_without_skeletons_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    with BagWriter(path, True) as bag:
        bag.write('/notes', STRING, 1, typestore().types[STRING]('x'))
    with pytest.raises(BagError, match=r'/notes \[std_msgs/msg/String\]'):
        list(skeleton_messages(path))
    with BagWriter(tmp_path / 'empty.mcap', True):
        pass
    with pytest.raises(BagError, match='holds nothing'):
        list(skeleton_messages(tmp_path / 'empty.mcap'))


@pytest.mark.parametrize('name', ['a.mcap', 'a.db3', 'a.bag', 'a'])
@pytest.mark.parametrize('content', [b'', b'\x89MCAP0\r\n', b'SQLite format 3\0', b'garbage' * 99])
def test_what_is_no_bag_is_a_bag_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert isinstance(read_all(path)[1], BagError)


def test_what_is_not_there_is_a_bag_error(tmp_path: Path) -> None:
    with pytest.raises(BagError, match='no such bag'):
        list(read_messages(tmp_path / 'nowhere.mcap'))
    with pytest.raises(BagError, match=r'neither metadata\.yaml nor'):
        list(read_messages(tmp_path))


def chunked(path: Path, plain: bool) -> bytes:
    """Several small chunks, compressed or not, as a long recording has."""
    if plain:
        return write_bag(path.with_suffix(''), 6000).joinpath(f'{path.stem}.mcap').read_bytes()
    return write_bag(path, 6000).read_bytes()


@pytest.mark.parametrize('plain', [True, False])
def test_a_cut_mcap_gives_what_came_before_the_cut_and_then_an_error(
    tmp_path: Path, plain: bool
) -> None:
    whole = chunked(tmp_path / 'whole.mcap', plain)
    cut = tmp_path / 'cut.mcap'
    rng = random.Random(1)
    ends = [rng.randrange(len(whole)) for _ in range(30)] + list(range(40)) + [len(whole) - 1]
    counts = []
    for end in sorted(ends):
        cut.write_bytes(whole[:end])
        count, error = read_all(cut)
        assert isinstance(error, BagError), end
        counts.append(count)
    assert counts == sorted(counts)
    assert counts[-1] == 12000 and any(0 < count < 12000 for count in counts)
    cut.write_bytes(whole)
    assert read_all(cut) == (12000, None)


@pytest.mark.parametrize(('name', 'mcap'), [('a.mcap', True), ('b', True), ('c', False)])
def test_flipped_bytes_are_never_another_exception(tmp_path: Path, name: str, mcap: bool) -> None:
    path = write_bag(tmp_path / name, mcap=mcap)
    path = path if path.is_file() else next(file for file in path.iterdir() if file.stem == name)
    whole = path.read_bytes()
    rng = random.Random(2)
    failures = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 1, 4, 64])):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged)
        failures += read_all(path)[1] is not None
    assert failures > 10  # the damage is of a kind that matters


def test_a_cut_database_is_a_bag_error(tmp_path: Path) -> None:
    path = write_bag(tmp_path / 'a', mcap=False) / 'a.db3'
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, len(whole) // 20):
        path.write_bytes(whole[:end])
        assert isinstance(read_all(path)[1], BagError)


def test_a_database_row_of_the_wrong_type_is_a_bag_error_after_all_others(tmp_path: Path) -> None:
    path = write_bag(tmp_path / 'a', mcap=False) / 'a.db3'
    with sqlite3.connect(path) as database:
        database.execute('UPDATE messages SET data = 1000000000000 WHERE id = 7')
    count, error = read_all(path)
    assert count == 39 and 'no bytes' in str(error)


def test_bytes_that_are_no_such_message_are_a_bag_error_when_decoded(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    with BagWriter(path, True) as bag:
        bag.write('/skeletons', SKELETON_ARRAY, 1, b'\0\1\0\0' + b'\xff' * 40)
    (each,) = skeleton_messages(path)
    with pytest.raises(BagError, match='damaged'):
        _ = each.message


def write_foreign(path: Path, msgtype: str, definition: str, raw: bytes) -> Path:
    """Write a bag whose type only the bag defines."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        connection = bag.add_connection('/topic', msgtype, msgdef=definition, rihs01='RIHS01_0')
        bag.write(connection, 1, raw)
    return path


def test_a_type_that_only_the_bag_knows_is_read(tmp_path: Path) -> None:
    raw = b'\0\1\0\0' + np.float64(2.5).tobytes()
    path = write_foreign(tmp_path / 'a', 'other_msgs/msg/Speed', 'float64 value\n', raw)
    assert [each.message.value for each in read_messages(path)] == [2.5]


def test_another_version_of_our_message_is_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / 'a', SKELETON_ARRAY, 'float64 value\n', b'\0\1\0\0' + bytes(8))
    with pytest.raises(BagError, match='another version'):
        list(skeleton_messages(path))


def test_a_type_name_cannot_smuggle_code(tmp_path: Path) -> None:
    mark = tmp_path / 'ran'
    name = f'a:\n  open({str(mark)!r}.replace("|", chr(47)), "w")\nclass b'.replace('/', '|')
    path = write_foreign(tmp_path / 'a', f'x/msg/{name}', 'float64 value\n', bytes(12))
    with Reader(path) as reader:
        assert 'open(' in reader.connections[0].msgtype  # the name does arrive
    (message,) = read_messages(path)
    with pytest.raises(BagError):
        _ = message.message
    assert not mark.exists()


def test_nothing_is_left_of_a_bag_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), BagWriter(tmp_path / 'a.mcap', True) as bag:
        bag.write('/skeletons', SKELETON_ARRAY, 1, skeletons(1))
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_a_recording_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    path = write_bag(tmp_path / 'a.mcap', 2)
    with pytest.raises(BagError, match='exists already'), BagWriter(path, True):
        pass
    with BagWriter(path, True, replace=True) as bag:
        bag.write('/skeletons', SKELETON_ARRAY, 1, skeletons(1))
    assert len(list(read_messages(path))) == 1


def test_a_place_that_cannot_be_written_is_a_bag_error(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(BagError, match='cannot be written'), BagWriter(tmp_path / 'file' / 'a'):
        pass
    with pytest.raises(BagError, match='nobody_msgs'), BagWriter(tmp_path / 'b.mcap') as bag:
        bag.write('/x', 'nobody_msgs/msg/Nothing', 1, b'\0\1\0\0')
