# SPDX-License-Identifier: Apache-2.0
"""Read and write rosbag2 without ROS: sqlite3 or mcap, a directory or one bare file.

Whatever is wrong with a bag is a `BagError`, raised after the messages that can be read. rosbags
turns message definitions into Python code, so only types that are not known are taken from the
bag; a test checks that a type's name cannot inject code.
"""

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.base import TypesysError
from rosbags.typesys.store import Typestore

from motion_predictor_ros.data.bag_files import OpenBag, describe, opened
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.resources import share_file

SKELETON_ARRAY = 'motion_predictor_ros/msg/SkeletonArray'


@cache
def typestore() -> Typestore:
    """Return the message types of ROS 2 Jazzy and of this package."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in sorted(share_file('msg').glob('*.msg')):
        name = f'motion_predictor_ros/msg/{path.stem}'
        types.update(get_types_from_msg(path.read_text(encoding='utf-8'), name))
    store.register(types)
    return store


def _recorded_types(connection: Connection, ours_only: bool) -> Typestore:
    """Return a store that knows the type as recorded: the shared one if it agrees.

    Args:
        ours_only: Whether to refuse a type that differs from the known one.

    Raises:
        BagError: The type differs though it must not, or has no definition.
    """
    ours = typestore()
    recorded = _embedded_types(connection)
    if not recorded and connection.msgtype not in ours.fielddefs:
        raise BagError(
            f'{connection.topic!r} is of type {connection.msgtype}, whose definition the bag does '
            'not hold, as sqlite3 bags of ROS 2 Humble and older; convert it where the type is '
            'installed: `ros2 bag convert`, to mcap'
        )
    if all(name in ours.fielddefs and _same_fields(recorded, ours, name) for name in recorded):
        return ours
    if ours_only:
        raise BagError(
            f'{connection.topic!r} was recorded with another version of {connection.msgtype}; '
            'replay it with the release that recorded it'
        )
    store = get_typestore(Stores.EMPTY)
    store.register(recorded)
    return store


def _embedded_types(connection: Connection) -> dict[str, Any]:
    text = connection.msgdef.data
    if connection.msgdef.format == MessageDefinitionFormat.MSG:
        return dict(get_types_from_msg(text, connection.msgtype))
    if connection.msgdef.format == MessageDefinitionFormat.NONE:
        return {}
    types: dict[str, Any] = {}
    for part in re.split(r'^=+\nIDL: .*\n', text, flags=re.MULTILINE):
        types.update(get_types_from_idl(part) if part.strip() else {})
    return types


def _same_fields(recorded: dict[str, Any], ours: Typestore, name: str) -> bool:
    return list(recorded[name][1]) == list(ours.fielddefs[name][1])


class RecordedTypes:
    """The type of each topic as it was recorded, compiled when first needed."""

    def __init__(self, ours_only: bool = False) -> None:
        """Begin empty; `ours_only` refuses types that differ from this package's."""
        self._ours_only = ours_only
        self._stores: dict[str, Typestore] = {}

    def of(self, connection: Connection) -> Typestore:
        """Return a store that knows the type of this connection.

        Raises:
            BagError: The type differs though it must not, or has no definition.
        """
        if connection.msgtype not in self._stores:
            try:
                self._stores[connection.msgtype] = _recorded_types(connection, self._ours_only)
            except BagError:
                raise
            except Exception as error:
                raise BagError(
                    f'{connection.topic!r}: the definition of {connection.msgtype} in the bag '
                    f'cannot be read ({describe(error)}); is the bag damaged?'
                ) from error
        return self._stores[connection.msgtype]


@dataclass(frozen=True)
class BagMessage:
    """One recorded message, deserialised when first asked for.

    Attributes:
        stamp_ns: Time of recording [ns], not the header's stamp.
        raw: CDR with its encapsulation header.
        connection: Topic and type as recorded.
        types: Shared by the messages of a bag.
    """

    stamp_ns: int
    raw: bytes
    connection: Connection = field(repr=False, compare=False)
    types: RecordedTypes = field(repr=False, compare=False)

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self.connection.topic

    @property
    def msgtype(self) -> str:
        """The type's name, such as 'std_msgs/msg/String'."""
        return self.connection.msgtype

    @cached_property
    def message(self) -> Any:
        """The deserialised message; arrays of numbers are numpy arrays.

        Raises:
            BagError: The bytes are not such a message, or the type has no definition.
        """
        types = self.types.of(self.connection)
        try:
            return types.deserialize_cdr(self.raw, self.msgtype)
        except Exception as error:
            raise BagError(
                f'message on {self.topic!r} at {self.stamp_ns} ns is no {self.msgtype} '
                f'({describe(error)}); is the bag damaged, or recorded with other definitions?'
            ) from error


def read_messages(
    path: str | Path, topics: Collection[str] | None = None, msgtype: str | None = None
) -> Iterator[BagMessage]:
    """Yield the messages of a bag in the order they were recorded.

    Args:
        topics: Only these; None takes all.
        msgtype: Only this type; None takes all.

    Raises:
        BagError: The bag cannot be read, or not beyond the messages already yielded.
    """
    with opened(Path(path)) as bag:
        wanted = [
            connection
            for connection in bag.connections
            if (topics is None or connection.topic in topics)
            and msgtype in (None, connection.msgtype)
        ]
        yield from _messages(bag, wanted, RecordedTypes())


def skeleton_messages(
    path: str | Path, topic: str = '', msgtype: str = SKELETON_ARRAY
) -> Iterator[BagMessage]:
    """Yield the messages of `topic`, or of the only topic of the bag that has this type.

    Raises:
        BagError: The bag cannot be read; no topic, or several, could be meant; or SkeletonArray
            had other fields when this was recorded.
    """
    with opened(Path(path)) as bag:
        chosen = _skeleton_topic(Path(path), bag.connections, topic, msgtype)
        wanted = [
            connection
            for connection in bag.connections
            if (connection.topic, connection.msgtype) == (chosen, msgtype)
        ]
        types = RecordedTypes(ours_only=msgtype == SKELETON_ARRAY)
        for connection in wanted:
            types.of(connection)
        yield from _messages(bag, wanted, types)


def topic_types(path: str | Path) -> dict[str, str]:
    """Return the type of every topic that can be read.

    Raises:
        BagError: Nothing can be read.
    """
    types: dict[str, str] = {}
    try:
        with opened(Path(path)) as bag:
            types = {connection.topic: connection.msgtype for connection in bag.connections}
    except BagError:
        if not types:
            raise
    return types


def _skeleton_topic(path: Path, connections: list[Connection], topic: str, msgtype: str) -> str:
    fitting = {connection.topic for connection in connections if connection.msgtype == msgtype}
    listing = ', '.join(
        sorted(f'{connection.topic} [{connection.msgtype}]' for connection in connections)
    )
    if topic and topic not in fitting:
        raise BagError(
            f'{path}: no topic {topic!r} of type {msgtype}; it holds {listing or "nothing"}'
        )
    if not fitting:
        raise BagError(f'{path}: no topic of type {msgtype}; it holds {listing or "nothing"}')
    if len(fitting) > 1 and not topic:
        raise BagError(f'{path}: several skeleton topics {sorted(fitting)}; name one of them')
    return topic or fitting.pop()


def _messages(
    bag: OpenBag, wanted: list[Connection], types: RecordedTypes
) -> Iterator[BagMessage]:
    for connection, stamp_ns, raw in bag.messages(wanted):
        yield BagMessage(stamp_ns, raw, connection, types)


class BagWriter:
    """Write a rosbag2, as a context manager: one bare file if `path` ends in .mcap, else a folder.

    After an exception the bag is removed, so it is whole or absent. A bag that is written
    `in_place` stays instead, and can be read up to the last `flush`.
    """

    def __init__(
        self, path: str | Path, mcap: bool = True, replace: bool = False, in_place: bool = False
    ) -> None:
        """Set up; nothing is written before entering.

        Args:
            mcap: Storage of a folder, mcap or sqlite3.
            replace: Whether a bare file that exists may be replaced; a folder never is.
            in_place: Whether a bare file grows where it will stay, for recordings whose process
                may be killed.
        """
        self._path = Path(path)
        self._bare = self._path.suffix == '.mcap'
        self._plugin = StoragePlugin.MCAP if mcap or self._bare else StoragePlugin.SQLITE3
        self._replace = replace and self._bare
        self._in_place = in_place and self._bare
        self._connections: dict[tuple[str, str], Connection] = {}

    def __enter__(self) -> 'BagWriter':
        """Start a bag in a temporary folder beside the final place.

        Raises:
            BagError: The path is taken or cannot be written.
        """
        if self._path.is_dir() or (self._path.exists() and not self._replace):
            raise BagError(f'{self._path} exists already; move it away or choose another name')
        with _as_write_error(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix='.bag-', dir=self._path.parent))
            self._writer = Writer(
                self._folder / self._path.stem, version=9, storage_plugin=self._plugin
            )
            if self._bare:
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
            if self._in_place:  # a file keeps its name while it is open
                self._made.replace(self._path)
        return self

    def write(self, topic: str, msgtype: str, stamp_ns: int, message: Any) -> None:
        """Append one message, given as such or as CDR bytes.

        Raises:
            BagError: The type is unknown, or the bag cannot be written.
        """
        with _as_write_error(self._path):
            if not isinstance(message, bytes):
                message = typestore().serialize_cdr(message, msgtype)
            key = (topic, msgtype)
            if key not in self._connections:
                self._connections[key] = self._writer.add_connection(
                    topic, msgtype, typestore=typestore()
                )
            self._writer.write(self._connections[key], stamp_ns, message)

    def flush(self) -> None:
        """Put what was written so far into the file, so that it outlives this process.

        rosbags gathers messages into chunks of a megabyte; an mcap may hold smaller ones.

        Raises:
            BagError: The bag cannot be written.
        """
        storage = self._writer.storage
        if isinstance(storage, McapWriter) and storage.chunk.bio.tell():
            with _as_write_error(self._path):
                storage.close_chunk()
                storage.bio.flush()

    @property
    def _made(self) -> Path:
        folder = self._writer.path
        return folder / f'{folder.name}.mcap' if self._bare else folder

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish and move the bag to its place, or remove what there is after an exception."""
        try:
            with _as_write_error(self._path):
                self._writer.__exit__(kind, error, trace)
                if kind is None and not self._in_place:
                    self._made.replace(self._path)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def _as_write_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, WriterError, TypesysError, KeyError) as error:
        raise BagError(f'{path}: cannot be written ({describe(error)})') from error
