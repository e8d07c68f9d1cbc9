# SPDX-License-Identifier: Apache-2.0
"""Read foreign pickles without running them: arrays, numbers, text and containers, nothing else.

Human3.6M's positions and 3DPW's sequences are distributed as pickles, and a pickle may name any
function to be called. Here a name is looked up in a short list of functions, never
imported; any other name is rejected. Arrays are returned as a subclass of
`numpy.ndarray`; `numpy.asarray` makes them plain.
"""

import math
import pickle
import re
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from motion_predictor_ros.errors import DataError

_UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, ImportError),
    *(MemoryError, OverflowError, pickle.UnpicklingError, BadZipFile, zlib.error),
)
_PLAIN = re.compile(r'[biufcSU]\d+|O8?')  # numbers, text and objects, nothing compound


class _DType:
    """A dtype as a pickle makes it, in two steps; numpy does not check the second."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str) or not _PLAIN.fullmatch(name):
            raise pickle.UnpicklingError(f'it makes arrays of {name!r}')
        self.numpy = np.dtype(name[:1] if name[0] == 'O' else name)

    def __setstate__(self, state: Any) -> None:
        _, order, *parts = state[:5]
        if parts != [None, None, None]:  # of a compound
            raise pickle.UnpicklingError(f'it makes arrays of {parts}')
        self.numpy = self.numpy.newbyteorder(order)


class _Array(np.ndarray):
    """An array as a pickle makes it, in two steps."""

    def __new__(cls, *_: Any) -> '_Array':
        raise pickle.UnpicklingError('it makes arrays in an unknown way')

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        kind, sizes = _kind(dtype), tuple(map(int, shape))
        raw = content.encode('latin1') if isinstance(content, str) else content
        # Raw bytes would be taken for pointers to objects, a short list for a long one.
        length = math.prod(sizes) * (1 if kind.hasobject else kind.itemsize)
        wanted = list if kind.hasobject else bytes
        if not isinstance(raw, wanted) or min(sizes, default=0) < 0 or len(raw) != length:
            raise pickle.UnpicklingError(f'it fills {sizes} of {kind} with {type(content)}')
        super().__setstate__((1, sizes, kind, bool(fortran), raw))  # type: ignore[arg-type]


def _kind(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _DType):
        raise pickle.UnpicklingError(f'it takes {type(dtype)} for a dtype')
    return dtype.numpy


def _empty(kind: Any, *_: Any) -> _Array:
    """Make the array that the pickle then fills; its shape, type and content follow."""
    if kind is not _Array:
        raise pickle.UnpicklingError(f'it makes arrays of the kind {kind}')
    return np.empty(0, np.int8).view(_Array)


def _scalar(dtype: Any, content: Any) -> Any:
    raw = content.encode('latin1') if isinstance(content, str) else content
    return np.frombuffer(raw, _kind(dtype))[0]


def _latin1(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes for Python 2 as text that is to be encoded."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it encodes text as {encoding}')
    return text.encode('latin1')


def _no_bytes() -> bytes:
    """Python 3 writes empty bytes for Python 2 as a call of `bytes`."""
    return b''


_ADMITTED: dict[tuple[str, str], Any] = {
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _DType,
    ('_codecs', 'encode'): _latin1,
    ('__builtin__', 'bytes'): _no_bytes,
}
for _core in ('numpy.core', 'numpy._core'):  # before and since numpy 2
    _ADMITTED[f'{_core}.multiarray', '_reconstruct'] = _empty
    _ADMITTED[f'{_core}.multiarray', 'scalar'] = _scalar


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f'it refers to {module}.{name}') from None


def read_numpy_pickle(path: Path) -> Any:
    """Read a pickle of arrays, numbers, text and containers of them, of Python 2 or 3.

    Raises:
        DataError: It is missing, damaged, or refers to anything else.
    """
    try:
        with path.open('rb') as file:
            return _NumpyUnpickler(file, encoding='latin1').load()
    except FileNotFoundError as error:
        raise DataError(f'no file {path}') from error
    except _UNREADABLE as error:
        raise _refusal(path, error) from error


def read_object_array(path: Path, name: str) -> Any:
    """Read an array of objects from an npz; one without dimensions returns its only object.

    Raises:
        DataError: The file or the array is missing, damaged, or refers to anything else.
    """
    try:
        with ZipFile(path) as archive, archive.open(f'{name}.npy') as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f'{name} has the unknown npy version {version}')
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = header(file)
            if not dtype.hasobject:
                raise ValueError(f'{name} holds {dtype}, not objects')
            array = np.asarray(_NumpyUnpickler(file, encoding='latin1').load())
    except FileNotFoundError as error:
        raise DataError(f'no file {path}') from error
    except _UNREADABLE as error:
        raise _refusal(path, error) from error
    return array.item() if shape == () else array


def _refusal(path: Path, error: BaseException) -> DataError:
    return DataError(
        f'{path} was not read ({error!r}); expected nothing but numpy arrays, numbers, text and '
        'containers of them: is it the file as its authors distribute it?'
    )
