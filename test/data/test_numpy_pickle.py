# SPDX-License-Identifier: Apache-2.0
"""Foreign pickles: arrays come out as they went in, and nothing that a file asks for is run."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from licensed_files import Evil, python2_pickle

from motion_predictor_ros.data.numpy_pickle import read_numpy_pickle, read_object_array
from motion_predictor_ros.errors import DataError

CONTENT = {
    'floats': np.random.default_rng(0).normal(size=(4, 3)),
    'fortran': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    'small': np.arange(5, dtype=np.float32),
    'whole': np.array([[1, 2], [3, 4]], np.int64),
    'flags': np.array([True, False]),
    'number': np.float64(0.25),
    'text': 'walking',
    'nested': [{'deep': (np.zeros(0), 1, None, b'bytes')}],
}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize('protocol', [2, 3, 4])
def test_arrays_and_containers_survive_a_round_trip(protocol: int, tmp_path: Path) -> None:
    found = read_numpy_pickle(write(tmp_path / 'a.pkl', pickle.dumps(CONTENT, protocol)))
    np.testing.assert_equal(found, CONTENT)
    assert found['small'].dtype == np.float32 and found['whole'].dtype == np.int64


def test_a_pickle_of_python_2_reads_as_python_3_reads_it(tmp_path: Path) -> None:
    content = {'sequence': 'a_00', 'jointPositions': [CONTENT['floats'], np.ones((300, 72))]}
    raw = python2_pickle(content)
    np.testing.assert_equal(pickle.loads(raw, encoding='latin1'), content)  # the file is one
    np.testing.assert_equal(read_numpy_pickle(write(tmp_path / 'a.pkl', raw)), content)


def test_objects_in_an_npz_are_read_completely(tmp_path: Path) -> None:
    arrays = np.empty(2, object)
    arrays[:] = [CONTENT['floats'], CONTENT['small']]
    np.savez_compressed(tmp_path / 'a.npz', one=np.array(CONTENT, object), many=arrays)
    np.testing.assert_equal(read_object_array(tmp_path / 'a.npz', 'one'), CONTENT)
    many = read_object_array(tmp_path / 'a.npz', 'many')
    np.testing.assert_equal(list(many), list(arrays))


class Forged:
    """Pickles as a dtype or an array that was given the wrong second half."""

    def __init__(self, call: object, arguments: tuple[object, ...], state: object) -> None:
        self.pickled = (call, arguments, state)

    def __reduce__(self) -> tuple[object, ...]:
        return self.pickled


PLAIN = (3, '<', None, None, None, -1, -1, 0)
ARRAY = (np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b'b'))
FORGED = {
    'compound': Forged(np.dtype, ('f8', False, True), (*PLAIN[:3], ('a',), {'a': 1}, 8, 1, 16)),
    'subarray': Forged(np.dtype, ('f8', False, True), (*PLAIN[:2], (np.dtype('O'), (4,)), 0, 0)),
    'pointers': Forged(*ARRAY, (1, (1,), np.dtype('O'), False, b'12345678')),
    'too few': Forged(*ARRAY, (1, (9,), np.dtype('O'), False, [1])),
    'too short': Forged(*ARRAY, (1, (9,), np.dtype('f8'), False, b'12345678')),
    'negative': Forged(*ARRAY, (1, (-1, -1), np.dtype('f8'), False, b'12345678')),
    'record': Forged(np.dtype, ('f8,O', False, True), PLAIN),
    'no dtype': Forged(*ARRAY, (1, (1,), 'f8', False, b'12345678')),
    'another class': Forged(ARRAY[0], (str, (0,), b'b'), (1, (1,), np.dtype('f8'), False, b'')),
}


@pytest.mark.parametrize('name', FORGED)
def test_forged_arrays_are_refused(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / 'evil.pkl', pickle.dumps([FORGED[name]], 2))
    with pytest.raises(DataError, match=r'UnpicklingError\(.it (makes|fills|takes|refers to)'):
        read_numpy_pickle(path)


def test_byte_order_is_kept_per_array(tmp_path: Path) -> None:
    swapped = np.arange(3, dtype='>f8')
    found = read_numpy_pickle(write(tmp_path / 'a.pkl', pickle.dumps(swapped, 2)))
    np.testing.assert_array_equal(found, swapped)
    assert np.dtype('f8').isnative


CALLS = [
    Evil(os.mkdir, 'owned'),
    Evil(eval, "__import__('os').mkdir('owned')"),
    Evil(getattr, 'text', 'upper'),
    Evil(np.load, 'owned', 'r', True),
    Evil(np.ndarray, (3,), np.dtype('f8')),
    Evil(np.zeros, 3),
]


@pytest.mark.parametrize('evil', CALLS, ids=lambda evil: evil._call[0].__name__)
@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_whatever_else_a_file_asks_for_is_refused_and_not_run(
    evil: Evil, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / 'evil.pkl', pickle.dumps({'a': [evil]}, protocol))
    refused = r"was not read \(UnpicklingError\('it (refers to|makes arrays) .*nothing but numpy"
    with pytest.raises(DataError, match=refused):
        read_numpy_pickle(path)
    np.savez(tmp_path / 'evil.npz', a=np.array([evil, 1], object))
    with pytest.raises(DataError, match=refused):
        read_object_array(tmp_path / 'evil.npz', 'a')
    assert not (tmp_path / 'owned').exists()


def test_the_same_file_read_carelessly_does_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps({'a': [CALLS[0]]}, 2))
    assert (tmp_path / 'owned').exists()


def test_the_rejected_name_is_in_the_error(tmp_path: Path) -> None:
    path = write(tmp_path / 'evil.pkl', pickle.dumps(Evil(eval, '1')))
    with pytest.raises(DataError, match=r'it refers to builtins\.eval'):
        read_numpy_pickle(path)


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='no file'):
        read_numpy_pickle(tmp_path / 'gone.pkl')
    with pytest.raises(DataError, match='no file'):
        read_object_array(tmp_path / 'gone.npz', 'a')
    whole = pickle.dumps(CONTENT, 2)
    for size in range(0, len(whole), 7):
        with pytest.raises(DataError, match='was not read'):
            read_numpy_pickle(write(tmp_path / 'cut.pkl', whole[:size]))
    np.savez(tmp_path / 'a.npz', a=np.array(CONTENT, object), plain=np.zeros(3))
    raw = (tmp_path / 'a.npz').read_bytes()
    with pytest.raises(DataError, match='was not read'):
        read_object_array(write(tmp_path / 'cut.npz', raw[: len(raw) // 2]), 'a')
    for name, said in (('b', "no item named 'b.npy'"), ('plain', 'holds float64, not objects')):
        with pytest.raises(DataError, match=said):
            read_object_array(tmp_path / 'a.npz', name)
