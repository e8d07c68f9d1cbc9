# SPDX-License-Identifier: Apache-2.0
"""Bags as they are found: what can be read is read, and what cannot is named."""

import shutil
import sqlite3
import struct
from pathlib import Path

import pytest
import yaml
from data.test_bags import STRING, read_all, write_bag
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from motion_predictor_ros.data import bag_files
from motion_predictor_ros.data.bags import read_messages, skeleton_messages, topic_types, typestore
from motion_predictor_ros.errors import BagError


@pytest.fixture(autouse=True)
def warn_anew() -> None:
    bag_files._warn_once.cache_clear()


def string(index: int) -> bytes:
    return bytes(typestore().serialize_cdr(typestore().types[STRING](str(index)), STRING))


def split_bag(path: Path, mcap: bool, files: int = 3, each: int = 10, zstd: bool = False) -> Path:
    """Write a folder of several storage files, as a recorder with a maximum size does."""
    path.mkdir()
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    names = []
    for number in range(files):
        writer = Writer(path / 'part', version=9, storage_plugin=plugin)
        if zstd:
            writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
        with writer:
            connection = writer.add_connection('/notes', STRING, typestore=typestore())
            for index in range(each):
                writer.write(connection, 1000 * number + index, string(1000 * number + index))
        (made,) = (file for file in (path / 'part').iterdir() if file.name != 'metadata.yaml')
        names.append(f'bag_{number}{"".join(made.suffixes)}')
        made.replace(path / names[-1])
        metadata = yaml.safe_load((path / 'part' / 'metadata.yaml').read_text())
        shutil.rmtree(path / 'part')
    metadata['rosbag2_bagfile_information']['relative_file_paths'] = names
    (path / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    return path


def cut(path: Path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def numbers(path: Path) -> list[int]:
    """Return the numbers in the messages that can be read."""
    read = []
    try:
        for message in read_messages(path, ['/notes']):
            read.append(int(message.message.data))
    except BagError:
        pass
    return read


EXPECTED = [1000 * number + index for number in range(3) for index in range(10)]


@pytest.mark.parametrize('bare', [True, False])
def test_messages_in_the_write_ahead_log_of_a_database_are_read(
    tmp_path: Path, bare: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The recorder was killed, or still runs; control: the database file without its log."""
    folder = write_bag(tmp_path / 'a', count=10, mcap=False)
    database = sqlite3.connect(folder / 'a.db3')
    database.execute('PRAGMA journal_mode=WAL')
    database.execute('PRAGMA wal_autocheckpoint=0')
    (topic,) = database.execute("SELECT id FROM topics WHERE name = '/notes'").fetchone()
    for index in range(10, 25):
        row = (topic, 10**9 * index, string(index))
        database.execute('INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)', row)
    database.commit()
    found = tmp_path / 'found'
    shutil.copytree(folder, found)  # while the recorder has it open
    database.close()
    before = {file.name: file.read_bytes() for file in found.iterdir()}
    assert 'a.db3-wal' in before
    path = found / 'a.db3' if bare else found
    assert numbers(path) == list(range(25))
    assert 'a.db3-wal' in caplog.text
    assert {file.name: file.read_bytes() for file in found.iterdir()} == before  # left as it was
    (found / 'a.db3-wal').unlink()
    assert numbers(path) == list(range(10))


@pytest.mark.parametrize('mcap', [True, False])
@pytest.mark.parametrize('identifier', ['', None, 'my_plugin'])
def test_a_folder_is_read_whatever_storage_its_metadata_names(
    tmp_path: Path, mcap: bool, identifier: str | None
) -> None:
    folder = write_bag(tmp_path / 'a', mcap=mcap)
    metadata = yaml.safe_load((folder / 'metadata.yaml').read_text())
    metadata['rosbag2_bagfile_information']['storage_identifier'] = identifier
    (folder / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    assert read_all(folder) == (40, None)


@pytest.mark.parametrize('mcap', [True, False])
def test_a_folder_without_metadata_is_read_in_the_order_of_its_files(
    tmp_path: Path, mcap: bool
) -> None:
    folder = split_bag(tmp_path / 'a', mcap, files=11, each=1)
    assert read_all(folder) == (11, None)
    (folder / 'metadata.yaml').unlink()
    assert numbers(folder) == [1000 * number for number in range(11)]  # bag_10 after bag_9


@pytest.mark.parametrize(
    'text',
    ['', '{', 'a: b', '[]', 'rosbag2_bagfile_information: 7', '\0', 'x: &x [*x]']
    + [
        f'rosbag2_bagfile_information: {{relative_file_paths: {names}}}' for names in ('', [], [1])
    ],
)
def test_a_folder_with_damaged_metadata_is_read_as_one_without(tmp_path: Path, text: str) -> None:
    folder = split_bag(tmp_path / 'a', mcap=True)
    (folder / 'metadata.yaml').write_text(text)
    assert read_all(folder) == (30, None)


@pytest.mark.parametrize(('suffix', 'missing'), [('.zstd', False), ('.db3', True)])
def test_files_that_metadata_does_not_name_are_read_if_those_it_names_are_not_there(
    tmp_path: Path, suffix: str, missing: bool
) -> None:
    """Unpacked by hand, or renamed: the latter may be a loss, so it is said."""
    folder = split_bag(tmp_path / 'a', mcap=True)
    metadata = yaml.safe_load((folder / 'metadata.yaml').read_text())
    information = metadata['rosbag2_bagfile_information']
    information['relative_file_paths'] = [
        name + suffix for name in information['relative_file_paths']
    ]
    (folder / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    assert numbers(folder) == EXPECTED
    assert isinstance(read_all(folder)[1], BagError) == missing


@pytest.mark.parametrize('damaged', [0, 1, 2])
@pytest.mark.parametrize(('mcap', 'zstd'), [(True, False), (False, False), (True, True)])
@pytest.mark.parametrize('fault', ['cut', 'empty', 'missing'])
def test_one_damaged_file_of_a_folder_costs_no_message_of_the_others(
    tmp_path: Path, mcap: bool, zstd: bool, damaged: int, fault: str
) -> None:
    folder = split_bag(tmp_path / 'a', mcap, zstd=zstd)
    assert numbers(folder) == EXPECTED  # control
    (file,) = folder.glob(f'bag_{damaged}.*')
    if fault == 'cut':
        cut(file)
    elif fault == 'empty':
        file.write_bytes(b'')
    else:
        file.unlink()
    others = [number for number in EXPECTED if number // 1000 != damaged]
    assert [number for number in numbers(folder) if number // 1000 != damaged] == others
    with pytest.raises(BagError, match=f'not everything could be read: .*bag_{damaged}'):
        list(read_messages(folder))


MAGIC = b'\x89MCAP0\r\n'


def text(data: bytes) -> bytes:
    return struct.pack('<I', len(data)) + data


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack('<BQ', opcode, len(content)) + content


def with_foreign_channel(
    path: Path, chunked: bool, without: str = '', profile: bytes = b'ros2'
) -> Path:
    """Write an mcap with a channel in protobuf beside one in CDR, by the specification.

    Args:
        without: Which optional part is left out: schemas, message_indices or summary.
    """

    def message(channel: int, index: int, data: bytes) -> bytes:
        return record(5, struct.pack('<HIQQ', channel, index, index, index) + data)

    schemas = record(3, struct.pack('<H', 1) + text(STRING.encode()) + text(b'ros2msg')
                     + text(b'string data'))  # fmt: skip
    schemas += record(3, struct.pack('<H', 2) + text(b'foxglove.Log') + text(b'protobuf')
                      + text(b'\xff\xfe\x80'))  # fmt: skip
    channels = record(4, struct.pack('<HH', 1, 1) + text(b'/notes') + text(b'cdr') + text(b''))
    channels += record(4, struct.pack('<HH', 2, 2) + text(b'/log') + text(b'protobuf') + text(b''))
    messages = b''.join(
        message(1 + index % 2, index, string(index) if index % 2 == 0 else b'\xff')
        for index in range(20)
    )
    begin = MAGIC + record(1, text(profile) + text(b'test'))
    body = schemas + channels + messages
    chunk = struct.pack('<QQQI', 0, 19, len(body), 0) + text(b'') + struct.pack('<Q', len(body))
    data = record(6, chunk + body) if chunked else body
    place = len(begin) + len(data)
    offsets = struct.pack('<HQHQ', 1, place - 2 * (15 + 160), 2, place - (15 + 160))
    offsets = b'' if without == 'message_indices' else offsets
    index = struct.pack('<QQQQ', 0, 19, len(begin), len(data)) + text(offsets)
    index += struct.pack('<Q', 0) + text(b'') + struct.pack('<QQ', len(body), len(body))
    statistics = struct.pack('<QHIIIIQQ', 20, 2, 2, 0, 0, int(chunked), 0, 19)
    statistics += text(struct.pack('<HQHQ', 1, 10, 2, 10))
    summary = (record(8, index) if chunked else b'') + record(11, statistics)
    summary = summary if without == 'schemas' else schemas + channels + summary
    if without == 'summary':
        summary, place = b'', 0
    footer = record(2, struct.pack('<QQI', place, 0, 0))
    path.write_bytes(begin + data + summary + footer + MAGIC)
    return path


@pytest.mark.parametrize('chunked', [True, False])
@pytest.mark.parametrize('without', ['', 'schemas', 'message_indices', 'summary'])
def test_a_channel_of_another_encoding_in_an_mcap_is_left_out_and_named(
    tmp_path: Path, chunked: bool, without: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_foreign_channel(tmp_path / 'a.mcap', chunked, without)
    assert numbers(path) == list(range(0, 20, 2))
    assert topic_types(path) == {'/notes': STRING}
    assert caplog.text.count("topic '/log' is left out: it is 'protobuf'") == 1  # read twice


@pytest.mark.parametrize('profile', [b'', b'ros2', b'new'])
def test_an_mcap_of_any_profile_is_read(tmp_path: Path, profile: bytes) -> None:
    folder = write_bag(tmp_path / 'a', mcap=True)
    data, place = (folder / 'a.mcap').read_bytes(), len(MAGIC) + 9
    (length,) = struct.unpack_from('<I', data, place + 8)
    end = place + 12 + length
    library = bytes(4 - len(profile)) + data[place + 12 : end]  # as much longer as the profile is
    (folder / 'a.mcap').write_bytes(data[:place] + text(profile) + text(library) + data[end:])
    assert read_all(folder) == (40, None)
    foreign = with_foreign_channel(tmp_path / 'b.mcap', chunked=True, profile=profile)
    assert numbers(foreign) == list(range(0, 20, 2))


@pytest.mark.parametrize('share', [1.0, 0.98])
@pytest.mark.parametrize('chunks', ['one', 'many', 'none'])
def test_an_mcap_without_an_index_is_read_in_the_order_of_recording(
    tmp_path: Path, chunks: str, share: float
) -> None:
    """Its chunks, or its messages where it has none, lie in another order. rosbags refuses it."""
    order = {'one': [[3, 1, 2, 0, 4]], 'many': [[3, 5], [0, 4], [1, 2]], 'none': [[3, 1, 0, 2]]}
    definition = text(STRING.encode()) + text(b'ros2msg') + text(b'string data')
    data = record(3, struct.pack('<H', 1) + definition)
    data += record(4, struct.pack('<HH', 1, 1) + text(b'/notes') + text(b'cdr') + text(b''))
    for stamps in order[chunks]:
        body = b''.join(
            record(5, struct.pack('<HIQQ', 1, at, at, at) + string(at)) for at in stamps
        )
        if chunks == 'none':
            data += body
            continue
        head = struct.pack('<QQQI', min(stamps), max(stamps), len(body), 0) + text(b'')
        data += record(6, head + struct.pack('<Q', len(body)) + body)
    footer = record(2, struct.pack('<QQI', 0, 0, 0))
    path = tmp_path / 'a.mcap'
    path.write_bytes(MAGIC + record(1, text(b'ros2') + text(b'test')) + data + footer + MAGIC)
    cut(path, share)
    assert numbers(path) == sorted(at for stamps in order[chunks] for at in stamps)


def test_a_cut_mcap_with_a_channel_of_another_encoding_is_read_too(tmp_path: Path) -> None:
    path = with_foreign_channel(tmp_path / 'a.mcap', chunked=True)
    cut(path, share=0.98)
    assert numbers(path) == list(range(0, 20, 2))


def test_a_topic_of_another_encoding_in_a_database_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_bag(tmp_path / 'a', mcap=False)
    with sqlite3.connect(folder / 'a.db3') as database:
        database.execute("UPDATE topics SET serialization_format = 'json' WHERE name = '/notes'")
        database.execute(
            'UPDATE message_definitions SET encoding = ? WHERE topic_type = ?', ('json', STRING)
        )
    assert len(list(skeleton_messages(folder))) == 20
    assert "'/notes' is left out: it is 'json'" in caplog.text


def test_a_type_without_a_definition_costs_no_other_topic(tmp_path: Path) -> None:
    """As sqlite3 bags of Humble and older: raw bytes are played, and other topics decoded."""
    folder = write_bag(tmp_path / 'a', mcap=False)
    with sqlite3.connect(folder / 'a.db3') as database:
        database.execute("UPDATE topics SET type = 'radar_msgs/msg/Echo' WHERE name = '/notes'")
        database.execute('DELETE FROM message_definitions')
    messages = list(read_messages(folder))
    assert len(messages) == 40
    for message in messages:
        if message.topic == '/skeletons':
            assert message.message.joint_names == ['pelvis']
    with pytest.raises(BagError, match=r'radar_msgs.*does not hold'):
        _ = next(message for message in messages if message.topic == '/notes').message


def test_a_bag_of_which_nothing_can_be_read_names_every_file(tmp_path: Path) -> None:
    folder = split_bag(tmp_path / 'a', mcap=True)
    for file in folder.glob('bag_*'):
        file.write_bytes(b'')
    with pytest.raises(BagError, match=r'nothing can be read: .*bag_0.*bag_1.*bag_2'):
        list(read_messages(folder))


@pytest.mark.parametrize('mcap', [True, False])
def test_odd_characters_in_the_name_are_no_obstacle(tmp_path: Path, mcap: bool) -> None:
    folder = write_bag(tmp_path / 'a', mcap=mcap)
    (storage,) = (file for file in folder.iterdir() if file.suffix != '.yaml')
    odd = storage.replace(tmp_path / f'walk #1 50%?{storage.suffix}')
    assert read_all(odd) == (40, None)
