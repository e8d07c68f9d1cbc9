# SPDX-License-Identifier: Apache-2.0
"""Read foreign pickles without running them: arrays, numbers, text and containers, nothing else.

Human3.6M's positions and 3DPW's sequences are distributed as pickles, and a pickle may name any
function to be called. Here a name is looked up in a short list of our own functions, never
imported; whatever else a file asks for, it is refused.
"""

import pickle
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


class _Array:
    """Stands for `numpy.ndarray` in a pickle, where only `_empty` may make one."""

    def __init__(self, *_: Any) -> None:
        raise pickle.UnpicklingError('it makes arrays in an unknown way')


def _empty(kind: type, shape: Any, code: Any) -> np.ndarray:
    """Make the array that the pickle then fills; its shape, type and content follow."""
    if kind is not _Array:
        raise pickle.UnpicklingError(f'it makes arrays of the kind {kind}')
    return np.empty(0, np.int8)


def _dtype(name: Any, *_: Any) -> np.dtype[Any]:
    if not isinstance(name, str):
        raise pickle.UnpicklingError(f'it makes a dtype of {type(name)}')
    return np.dtype(name)


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
    ('numpy', 'dtype'): _dtype,
    ('_codecs', 'encode'): _latin1,
    ('__builtin__', 'bytes'): _no_bytes,
}
for _core in ('numpy.core', 'numpy._core'):  # before and since numpy 2
    _ADMITTED[f'{_core}.multiarray', '_reconstruct'] = _empty
    _ADMITTED[f'{_core}.multiarray', 'scalar'] = np.float64().__reduce__()[0]
    _ADMITTED[f'{_core}.numeric', '_frombuffer'] = np.zeros(1).__reduce_ex__(5)[0]


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}') from None


def read_numpy_pickle(path: Path) -> Any:
    """Read a pickle of arrays, numbers, text and containers of them, of Python 2 or 3.

    Raises:
        DataError: It is missing, damaged, or asks for anything else.
    """
    try:
        with path.open('rb') as file:
            return _NumpyUnpickler(file, encoding='latin1').load()
    except FileNotFoundError as error:
        raise DataError(f'no file {path}') from error
    except _UNREADABLE as error:
        raise _refusal(path, error) from error


def read_object_array(path: Path, name: str) -> Any:
    """Read an array of objects from an npz; one without dimensions gives its only object.

    Raises:
        DataError: The file or the array is missing, damaged, or asks for anything else.
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
