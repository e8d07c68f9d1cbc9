# SPDX-License-Identifier: Apache-2.0
"""Kernels run whether or not what was compiled can be kept, and wherever it was compiled."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import njit

from motion_predictor_ros.runtime import jit
from motion_predictor_ros.runtime.jit import compile_ahead, compiled, log_compilation

KERNELS = """
import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.runtime.jit import compiled


@compiled
def scale(values: Float64[np.ndarray, 'row column'], factor: float, first: int) -> None:
    for row in range(first, len(values)):
        for column in range(values.shape[1]):
            values[row, column] *= factor
"""

HANGS = """
import pathlib, sys, time
pathlib.Path(__file__).with_name('begun').touch()
time.sleep(3600.0)
"""

IS_KILLED = """
import os, pathlib, signal, sys, time
from motion_predictor_ros.runtime.jit import compile_ahead, compiled

@compiled
def half(x):
    return 0.5 * x

with compile_ahead('hangs'):
    half(1.0)
    while not pathlib.Path('begun').exists():
        time.sleep(0.01)
    print('begun', flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules, which is numba's cache too."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv('NUMBA_CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(numba.config, 'CACHE_DIR', str(tmp_path))
    (tmp_path / 'scaling.py').write_text(KERNELS)
    (tmp_path / 'hangs.py').write_text(HANGS)
    return tmp_path


def of_no_file() -> Any:
    """Return a function that stands in no file, so that numba has no place for it."""
    names: dict[str, Any] = {}
    exec('def half(x):\n    return 1.0 / x', names)
    return names['half']


def test_what_cannot_be_kept_is_compiled_all_the_same() -> None:
    assert compiled(of_no_file())(0.0) == float('inf')


def test_numba_refuses_to_keep_it() -> None:
    with pytest.raises(RuntimeError, match='cannot cache'):
        njit(cache=True)(of_no_file())


def test_compilation_is_logged_once_and_each_kernel_reported() -> None:
    half, logged, kernels = compiled(of_no_file()), list[str](), list[int]()
    with log_compilation(logged.append, lambda: kernels.append(len(logged))):
        half(3.0)
        compiled(of_no_file())(3)
    assert len(logged) == 2 and kernels == [1] * 4  # before and after each
    assert logged[0].startswith('compiling') and logged[1].startswith('compiled 2 kernels')
    with log_compilation(logged.append, lambda: kernels.append(0)):
        half(4.0)
    assert len(logged) == 2 and len(kernels) == 4  # control: it was compiled already


def test_a_kernel_compiled_ahead_is_taken_from_the_cache(folder: Path) -> None:
    scale, logged = importlib.import_module('scaling').scale, list[str]()
    with log_compilation(logged.append), compile_ahead('scaling'):
        compiled(of_no_file())(3.0)
    values = np.ones((3, 2))
    scale(values, 2.0, 1)
    assert values.sum() == 10.0 and not scale.stats.cache_misses
    assert logged[1].startswith('compiled 2 kernels')  # that of the other process too
    scale(np.ones((3, 2), np.float32), 2.0, 1)
    assert len(scale.stats.cache_misses) == 1  # control: not the annotated type


def test_nothing_is_compiled_ahead_where_nothing_is_compiled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*command: Any, **options: Any) -> None:
        raise OSError('no more processes')

    monkeypatch.setattr(jit.subprocess, 'Popen', refuse)
    half = compiled(of_no_file())
    for value, begun in ((3.0, True), (4.0, False), (3, True)):  # control: another type
        caplog.clear()
        with compile_ahead('scaling'):
            assert half(value) == 1.0 / value
        assert ('cannot compile ahead: no more processes' in caplog.text) == begun


def test_kernels_work_where_compiling_ahead_fails(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = compiled(of_no_file())
    with compile_ahead('no_such_module'):
        assert half(2.0) == 0.5
    assert 'compiling ahead failed: exit code 1' in caplog.text


def test_what_breaks_the_body_off_ends_the_second_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[subprocess.Popen[str]]()

    class Recorded(subprocess.Popen[str]):
        def __init__(self, *command: Any, **options: Any) -> None:
            super().__init__(*command, **options)
            begun.append(self)

    monkeypatch.setattr(jit.subprocess, 'Popen', Recorded)
    with pytest.raises(KeyboardInterrupt), compile_ahead('hangs'):
        compiled(of_no_file())(2.0)
        assert begun[0].poll() is None  # control: it runs
        raise KeyboardInterrupt
    assert begun[0].returncode == -9


def test_the_second_process_ends_when_this_one_is_killed(folder: Path) -> None:
    """It has this one's stderr: `run` would wait for it."""
    (folder / 'killed.py').write_text(IS_KILLED)
    done = subprocess.run(
        [sys.executable, 'killed.py'], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == 'begun\n' and done.returncode == -9


@pytest.mark.parametrize(
    'module, needs_torch', [('kernels', False), ('voxels', True)], ids=['', 'control']
)
def test_what_is_compiled_ahead_does_not_wait_for_torch(module: str, needs_torch: bool) -> None:
    script = f'import sys, motion_predictor_ros.volume.{module}; print("torch" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.stdout == f'{needs_torch}\n'
