# SPDX-License-Identifier: Apache-2.0
"""Open bags that may be damaged.

Stands beside the line, for `bags.py`. rosbags meets damaged bytes with a dozen kinds of exception;
here every one of them becomes a `BagError`, and an mcap that was cut off, as by a recorder that
died, is read up to the cut.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag2 import Reader

from motion_predictor_ros.errors import BagError

_LOG = logging.getLogger(__name__)
_MCAP_MAGIC = b'\x89MCAP0\r\n'
# Footer without a summary: whoever reads it scans the records instead of trusting an index.
_MCAP_FOOTER = b'\x02' + (20).to_bytes(8, 'little') + bytes(20) + _MCAP_MAGIC


def said(error: Exception) -> str:
    """Name an exception and what it says, for quoting in another message."""
    return f'{type(error).__name__}: {error}'


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """Open a bag, or the whole records of a cut mcap.

    That it was cut inside a record is raised on leaving; that it merely has no end, as when a
    recorder was killed between two records, is warned of.
    """
    with _as_bag_error(path), ExitStack() as stack:
        cut = _cut_position(path)
        source = path if cut is None else stack.enter_context(_mended(path, cut))
        reader = stack.enter_context(Reader(source))
        if cut is None or reader.connections:
            yield reader
    if cut is not None and cut == path.stat().st_size > len(_MCAP_MAGIC):
        _LOG.warning('%s has no end: the recorder was killed; every whole record is read', path)
    elif cut is not None:
        raise BagError(
            f'{path}: cut off inside the record at byte {cut}, nothing can be read after it; '
            'was the recording interrupted? `mcap recover` writes a file that ends properly'
        )


@contextmanager
def _as_bag_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BagError:
        raise
    except FileNotFoundError as error:
        hint = ''
        if path.is_dir():
            hint = '; `ros2 bag reindex` makes its metadata.yaml, or name the file inside'
        raise BagError(f'{path}: no such bag{hint}') from error
    except Exception as error:
        raise BagError(
            f'{path}: cannot be read as a rosbag2 ({said(error)}); expected a directory with '
            'metadata.yaml, a .mcap or a .db3 file; is it whole?'
        ) from error


def _cut_position(path: Path) -> int | None:
    """Return where the last whole record of a cut mcap ends; None if it is no cut mcap."""
    if path.suffix != '.mcap' or not path.is_file():
        return None
    size = path.stat().st_size
    with path.open('rb') as file:
        if size < len(_MCAP_MAGIC) or file.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            return None
        file.seek(-len(_MCAP_MAGIC), 2)
        if size > len(_MCAP_MAGIC) and file.read() == _MCAP_MAGIC:
            return None
        return _end_of_records(file, size)


def _end_of_records(file: BinaryIO, size: int) -> int:
    end = file.seek(len(_MCAP_MAGIC))
    while len(head := file.read(9)) == 9 and head[0] != _MCAP_FOOTER[0]:
        after = end + 9 + int.from_bytes(head[1:], 'little')
        if after > size:
            break
        end = file.seek(after)
    return end


@contextmanager
def _mended(path: Path, cut: int) -> Iterator[Path]:
    """Copy what lies before `cut` and end it properly."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        shutil.copyfile(path, copy)
        with copy.open('r+b') as file:
            file.truncate(cut)
            file.seek(cut)
            file.write(_MCAP_FOOTER)
        yield copy
