# SPDX-License-Identifier: Apache-2.0
"""Open the storage files of a bag and read what can be read of them.

rosbags refuses a bag as a whole. Here each file counts for itself: an mcap or a zstd stream that
was cut off is read up to the cut, a database is read with its write-ahead log, topics of another
encoding than CDR are left out. What could not be read is a `BagError` after everything else.
"""

import logging
import re
import shutil
import sqlite3
import sys
import tempfile
import urllib.parse
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import yaml
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from motion_predictor_ros.data.mcap_files import MCAP_MAGIC, open_mcap
from motion_predictor_ros.errors import BagError

if sys.version_info >= (3, 14):  # rosbags needs the same
    from compression import zstd
else:
    from backports import zstd

_LOG = logging.getLogger(__name__)
_SQLITE_MAGIC = b'SQLite format 3\0'
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
_DEFINITION_ENCODINGS = ('ros2msg', 'ros2idl')
_MOST_NAMED = 5


class OpenBag:
    """All storage files of a bag that can be opened.

    Attributes:
        connections: Topics and types that are serialised as CDR; each pair once.
        damage: What could not be read so far, one line each.
    """

    def __init__(self) -> None:
        """Begin without files."""
        self.connections: list[Connection] = []
        self.damage: list[str] = []
        self._files: list[tuple[str, McapReader | Sqlite3Reader]] = []

    def add(self, name: str, storage: McapReader | Sqlite3Reader) -> None:
        """Add the next file, in the order of recording."""
        self._files.append((name, storage))
        known = {(connection.topic, connection.msgtype) for connection in self.connections}
        for connection in storage.connections:
            encoding = _encoding(connection)
            if encoding != 'cdr':
                _warn_once(f'{name}: topic {connection.topic!r} is left out: it is {encoding!r}')
            elif (connection.topic, connection.msgtype) not in known:
                self.connections.append(connection)

    def messages(
        self, connections: Collection[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield connection, time of recording [ns] and CDR bytes, file by file."""
        wanted = {(connection.topic, connection.msgtype) for connection in connections}
        for name, storage in self._files:
            chosen = [
                connection
                for connection in storage.connections
                if (connection.topic, connection.msgtype) in wanted
                and _encoding(connection) == 'cdr'
            ]
            if not chosen:  # to rosbags, no connection means every connection
                continue
            try:
                for connection, stamp_ns, raw in _rows(storage, chosen):
                    # SQLite stores in any column whatever it was given.
                    if isinstance(stamp_ns, int) and isinstance(raw, bytes):
                        yield connection, stamp_ns, _decompressed(raw)
                    else:
                        self._damage_once(f'{name}: a row of {connection.topic!r} has no bytes')
            except Exception as error:
                self._damage_once(f'{name}: {describe(error)}')

    def _damage_once(self, text: str) -> None:
        if text not in self.damage:
            self.damage.append(text)


def _rows(
    storage: McapReader | Sqlite3Reader, connections: list[Connection]
) -> Iterator[tuple[Connection, Any, Any]]:
    """Yield messages in the order of recording; without an index, rosbags refuses other orders."""
    if isinstance(storage, Sqlite3Reader) or storage.chunks:
        yield from storage.messages(connections)
        return
    rows, errors = list[tuple[Connection, Any, Any]](), list[Exception]()
    try:
        rows.extend(storage.messages_scan(connections))
    except Exception as error:
        errors.append(error)
    yield from sorted(rows, key=lambda row: row[1])
    if errors:
        raise errors[0]


def describe(error: Exception) -> str:
    """Return the kind of an exception and its message, for quoting in another one."""
    return f'{type(error).__name__}: {error}'


@contextmanager
def opened(path: Path) -> Iterator[OpenBag]:
    """Open a bag: a folder, or one storage file.

    Raises:
        BagError: Nothing can be read; or, on leaving, something could not.
    """
    with ExitStack() as stack, _as_bag_error(path):
        bag, files = OpenBag(), _storage_files(path)
        for file in files:
            try:
                bag.add(file.name, _open_file(file, bag.damage, stack))
            except Exception as error:
                if len(files) == 1:
                    raise
                bag.damage.append(f'{file.name}: {describe(error)}')
        if bag.damage and not bag.connections:
            raise BagError(f'{path}: nothing can be read: {_listing(bag.damage)}')
        yield bag
    if bag.damage:
        raise BagError(f'{path}: not everything could be read: {_listing(bag.damage)}')


@contextmanager
def _as_bag_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BagError:
        raise
    except FileNotFoundError as error:
        hint = '; it holds neither metadata.yaml nor .mcap or .db3 files' if path.is_dir() else ''
        raise BagError(f'{path}: no such bag{hint}') from error
    except Exception as error:
        raise BagError(
            f'{path}: cannot be read as a rosbag2 ({describe(error)}); expected a directory with '
            'metadata.yaml, a .mcap or a .db3 file'
        ) from error


def _listing(damage: list[str]) -> str:
    more = len(damage) - _MOST_NAMED
    return '; '.join(damage[:_MOST_NAMED]) + (f'; and {more} more' if more > 0 else '')


@cache
def _warn_once(text: str) -> None:
    """Warn once in a process: a bag is opened several times."""
    _LOG.warning(text)


def _encoding(connection: Connection) -> str:
    assert isinstance(connection.ext, ConnectionExtRosbag2)
    return connection.ext.serialization_format


def _decompressed(raw: bytes) -> bytes:
    """Undo compression by message; CDR begins with a zero byte, zstd does not."""
    return zstd.decompress(raw) if raw.startswith(_ZSTD_MAGIC) else raw


def _storage_files(path: Path) -> list[Path]:
    """Return the files in the order of recording: metadata.yaml's, else that of their numbers.

    Files that metadata.yaml names and that are not there come last.
    """
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(path)
        return [path]
    found = sorted(
        (file for file in path.iterdir() if file.name.endswith(_SUFFIXES)),
        key=lambda file: [int(word) if word.isdigit() else word
                          for word in re.split(r'(\d+)', file.name)],
    )  # fmt: skip
    named = _files_in_metadata(path / 'metadata.yaml')
    if named and all(file.exists() for file in named):
        return named
    if found:
        _warn_once(
            f'{path}: metadata.yaml is not there, is damaged or names other files; the storage '
            'files in the folder are read'
        )
    known = {file.name.removesuffix('.zstd') for file in found}
    files = found + [file for file in named if file.name.removesuffix('.zstd') not in known]
    if not files:
        raise FileNotFoundError(path)
    return files


def _files_in_metadata(path: Path) -> list[Path]:
    """Return the storage files that a metadata.yaml names; none if it cannot be read."""
    try:
        metadata = yaml.safe_load(path.read_text(encoding='utf-8'))
        names = metadata['rosbag2_bagfile_information']['relative_file_paths']
        return [path.with_name(PurePath(name).name) for name in names]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return []


def _open_file(path: Path, damage: list[str], stack: ExitStack) -> McapReader | Sqlite3Reader:
    """Open a file by what it begins with; append to `damage` what it lacks."""
    with path.open('rb') as file:
        magic = file.read(len(_SQLITE_MAGIC))
    if magic.startswith(_ZSTD_MAGIC):
        path = _decompress_file(path, damage, stack)
        with path.open('rb') as file:
            magic = file.read(len(_SQLITE_MAGIC))
    if magic.startswith(MCAP_MAGIC):
        reader, fault, note = open_mcap(path)
        stack.callback(reader.close)
        if fault:
            damage.append(f'{path.name}: {fault}')
        if note:
            _warn_once(f'{path}: {note}')
        return reader
    if magic == _SQLITE_MAGIC:
        database = Sqlite3Reader(_settled_database(path, stack))
        database.open()
        stack.callback(database.close)
        return database
    raise BagError(
        f'{path}: neither an mcap nor an SQLite database'
        if magic
        else f'{path}: the file is empty; was the recorder killed?'
    )


def _temporary_folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))


def _decompress_file(path: Path, damage: list[str], stack: ExitStack) -> Path:
    whole = _temporary_folder(stack) / path.stem
    try:
        with zstd.open(path, 'rb') as compressed, whole.open('wb') as file:
            shutil.copyfileobj(compressed, file)
    except (EOFError, zstd.ZstdError) as error:
        damage.append(f'{path.name}: {describe(error)}')
    return whole


def _settled_database(path: Path, stack: ExitStack) -> Path:
    """Return the database as rosbags can read it, a copy where that takes a change.

    A recorder that was killed, or still runs, leaves its newest messages in a write-ahead log,
    which rosbags passes over. Definitions in other languages than ROS 2's make it refuse all.
    """
    logs = [Path(f'{path}{suffix}') for suffix in ('-wal', '-journal')]
    logs = [log for log in logs if log.exists() and log.stat().st_size]
    if not logs and not _has_foreign_definitions(path) and not re.search(r'[?#%]', str(path)):
        return path
    copy = _temporary_folder(stack) / 'bag.db3'
    shutil.copyfile(path, copy)
    for log in logs:
        shutil.copyfile(log, f'{copy}{log.name.removeprefix(path.name)}')
        _warn_once(
            f'{path}: its newest messages are in {log.name}, and are read: the recorder was '
            'killed, or still runs'
        )
    with closing(sqlite3.connect(copy)) as database:
        database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
        if _has_foreign_definitions(copy):
            database.execute(
                f'DELETE FROM message_definitions WHERE encoding NOT IN {_DEFINITION_ENCODINGS}'
            )
        database.commit()
    return copy


def _has_foreign_definitions(path: Path) -> bool:
    address = f'file:{urllib.parse.quote(str(path))}?immutable=1'
    query = f'SELECT 1 FROM message_definitions WHERE encoding NOT IN {_DEFINITION_ENCODINGS}'
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            return database.execute(query).fetchone() is not None
    except sqlite3.Error:  # no such table before Jazzy; the reader reports damage
        return False
