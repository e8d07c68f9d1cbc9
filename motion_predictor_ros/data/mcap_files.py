# SPDX-License-Identifier: Apache-2.0
"""Open an mcap that was cut off, or that holds channels of other encodings than ROS 2's.

rosbags reads an mcap by the summary at its end, and fails on schemas that are no ROS definitions
and on other profiles than `ros2`. Such a file, or one whose summary leaves out what is optional,
is read with a header and a summary of our own; nothing is copied.
https://mcap.dev/spec has the format of the records.
"""

import io
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag2.storage_mcap import McapReader, decompress

MCAP_MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _CHUNK_INDEX, _STATISTICS = 2, 3, 4, 5, 6, 8, 11
_FOOTER_BYTES = 9 + 20 + len(MCAP_MAGIC)
_ROS_PROFILE = struct.pack('<I', 4) + b'ros2'
_ROS_ENCODINGS = ('ros2msg', 'ros2idl', 'omgidl', '')


class _MendedReader(McapReader):
    """Reads a file up to a position, and `end` after it, with the profile of ROS 2."""

    def __init__(self, path: Path, position: int, end: bytes) -> None:
        super().__init__(path)
        self._position, self._end = position, end

    def open(self) -> None:
        self.bio = io.BufferedReader(_Overlay(Path(str(self.path)), self._position, self._end))
        try:
            self._open()
        except BaseException:
            self.close()
            raise


class _Overlay(io.RawIOBase):
    """The first bytes of a file, but for those of its header, followed by bytes in memory."""

    def __init__(self, path: Path, length: int, tail: bytes) -> None:
        self._file, self._length, self._tail = path.open('rb'), length, tail
        self._head = self._file.read(len(MCAP_MAGIC) + 9) + _ROS_PROFILE
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        total = self._length + len(self._tail)
        self._place = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: total}[whence]
        )
        return self._place

    def read(self, size: int = -1) -> bytes:
        if self._place >= self._length:
            begin = self._place - self._length
            data = self._tail[begin:] if size < 0 else self._tail[begin : begin + size]
        elif self._place < len(self._head):
            end = len(self._head) if size < 0 else self._place + size
            data = self._head[self._place : end]
        else:
            self._file.seek(self._place)
            left = self._length - self._place
            data = self._file.read(left if size < 0 else min(size, left))
        self._place += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_mcap(path: Path) -> tuple[McapReader, str, str]:
    """Open an mcap.

    Returns:
        The open reader; what cannot be read, or ''; what is unusual but loses no message, or ''.

    Raises:
        Exception: Of many kinds, where not even the first record can be read.
    """
    size = path.stat().st_size
    with path.open('rb') as file:
        position, end, fault, note = _mend(file, size)
        file.seek(len(MCAP_MAGIC) + 9)
        if position is None and file.read(len(_ROS_PROFILE)) != _ROS_PROFILE:
            position, end = size, b''
    reader = McapReader(path) if position is None else _MendedReader(path, position, end)
    reader.open()
    if note and not reader.connections:
        fault, note = 'cut off before the first topic', ''
    return reader, fault, note


def _mend(file: BinaryIO, size: int) -> tuple[int | None, bytes, str, str]:
    """Return where the file is to be cut, what is to follow, and as `open_mcap` does."""
    file.seek(max(size - len(MCAP_MAGIC), 0))
    if size > 2 * len(MCAP_MAGIC) and file.read() == MCAP_MAGIC:
        position, records = _summary(file, size)
        if not _is_complete(records):
            position, records, damage = _scan(file, size)
            return position, _end(position, records), '; '.join(damage), ''
        is_plain = not any(_is_foreign(*record) for record in records)
        return (None, b'', '', '') if is_plain else (position, _end(position, records), '', '')
    position, records, damage = _scan(file, size)
    fault, note = '; '.join(damage), ''
    if position < size or size == len(MCAP_MAGIC):
        cut = f'cut off inside the record at byte {position}: was the recording interrupted?'
        fault = '; '.join([*damage, cut])
    else:
        note = 'the file has no end: the recorder was killed; every whole record is read'
    return position, _end(position, records), fault, note


def _summary(file: BinaryIO, size: int) -> tuple[int, list[tuple[int, bytes]]]:
    """Return position and records of the summary section; no records if there is none."""
    file.seek(size - _FOOTER_BYTES + 9)
    (position,) = struct.unpack('<Q', file.read(8))
    if not 0 < position < size - _FOOTER_BYTES:
        return position, []
    file.seek(position)
    return position, list(_records(file.read(size - _FOOTER_BYTES - position)))


def _is_complete(summary: list[tuple[int, bytes]]) -> bool:
    """Whether a summary has what rosbags needs: schemas, and which channels are in a chunk.

    Both are optional; without the latter rosbags silently reads no message of the chunk.
    """
    indices = [content for opcode, content in summary if opcode == _CHUNK_INDEX]
    return any(opcode == _SCHEMA for opcode, _ in summary) and all(
        struct.unpack_from('<I', content, 32)[0] for content in indices
    )


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and content of each whole record."""
    place = 0
    while place + 9 <= len(data):
        (length,) = struct.unpack_from('<Q', data, place + 1)
        if place + 9 + length > len(data):
            return
        yield data[place], data[place + 9 : place + 9 + length]
        place += 9 + length


def _scan(file: BinaryIO, size: int) -> tuple[int, list[tuple[int, bytes]], list[str]]:
    """Walk the records of a file without an end.

    Returns:
        Where the last whole record ends; schemas, channels and an index of the chunks, or without
        chunks the number of messages; chunks that cannot be decompressed.
    """
    records: dict[tuple[int, bytes], None] = {}
    indices, damage = list[tuple[int, bytes]](), list[str]()
    counts, times_ns = Counter[int](), list[int]()
    end = file.seek(len(MCAP_MAGIC))
    while len(head := file.read(9)) == 9 and head[0] != _FOOTER:
        length = int.from_bytes(head[1:], 'little')
        if end + 9 + length > size:
            break
        if head[0] == _CHUNK:
            content = file.read(length)
            try:
                index, inside = _chunk(end, content)
            except Exception as error:
                damage.append(f'chunk at byte {end}: {type(error).__name__}: {error}')
            else:
                indices.append((_CHUNK_INDEX, index))
                records |= {(opcode, content[:]): None for opcode, content in inside}
        elif head[0] in (_SCHEMA, _CHANNEL):
            records[head[0], file.read(length)] = None
        elif head[0] == _MESSAGE:
            channel, _, time_ns = struct.unpack('<HIQ', file.read(14))
            counts[channel] += 1
            times_ns = [min([time_ns, *times_ns]), max([time_ns, *times_ns])]
        end = file.seek(end + 9 + length)
    if counts and not indices:
        statistics = struct.pack('<QHIIIIQQ', counts.total(), 0, 0, 0, 0, 0, *times_ns)
        pairs = b''.join(struct.pack('<HQ', *pair) for pair in counts.items())
        indices = [(_STATISTICS, statistics + struct.pack('<I', len(pairs)) + pairs)]
    return end, [*records, *indices] if indices else [], damage


def _chunk(offset: int, content: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return the chunk index of a chunk, and its schemas and channels."""
    begin_ns, end_ns, length, checksum = struct.unpack_from('<QQQI', content)
    compression, place = _string(content, 28)
    (compressed,) = struct.unpack_from('<Q', content, place)
    data = content[place + 8 : place + 8 + compressed]
    records = list(_records(decompress(data, compression.decode(), length, checksum)))
    counts = Counter(
        struct.unpack_from('<H', record)[0] for opcode, record in records if opcode == _MESSAGE
    )
    # Readers take the number of messages from the distances of the message indices, which would
    # lie after the chunk: 15 bytes and 16 for each message.
    place, places = offset + 9 + len(content), b''
    for channel, count in counts.items():
        place -= 15 + 16 * count
        places += struct.pack('<HQ', channel, place)
    index = struct.pack('<QQQQ', begin_ns, end_ns, offset, len(content) + 9)
    index += struct.pack('<I', len(places)) + places + struct.pack('<Q', 0)
    index += struct.pack('<I', len(compression)) + compression
    index += struct.pack('<QQ', compressed, length)
    return index, [record for record in records if record[0] in (_SCHEMA, _CHANNEL)]


def _string(data: bytes, place: int) -> tuple[bytes, int]:
    """Return a string with its length before it, and where it ends."""
    (length,) = struct.unpack_from('<I', data, place)
    return data[place + 4 : place + 4 + length], place + 4 + length


def _is_foreign(opcode: int, content: bytes) -> bool:
    return opcode == _SCHEMA and _schema(content)[1].decode() not in _ROS_ENCODINGS


def _schema(content: bytes) -> tuple[bytes, bytes]:
    """Return name and encoding."""
    name, place = _string(content, 2)
    return name, _string(content, place)[0]


def _end(position: int, records: list[tuple[int, bytes]]) -> bytes:
    """Write records as the summary that begins at `position`, and the footer."""
    data = b''
    for opcode, content in records:
        if opcode > _STATISTICS:  # summary offsets and such are no longer true
            continue
        if _is_foreign(opcode, content):
            name = _schema(content)[0]
            content = content[:2] + struct.pack('<I', len(name)) + name + bytes(8)
        data += struct.pack('<BQ', opcode, len(content)) + content
    footer = struct.pack('<BQQQI', _FOOTER, 20, position if data else 0, 0, 0)
    return data + footer + MCAP_MAGIC
