# SPDX-License-Identifier: Apache-2.0
"""Build the message packages that no wheel holds, from the definitions of `foreign_messages`.

One CMake run for all of them but the one that another needs, with the C generators alone: what
rclpy and Fast DDS need. Fast DDS wants introspection beside its own type support, or nothing of
the type can be created. Both are looked up by name while a program runs, so its environment must
have their folder in LD_LIBRARY_PATH, beside what is there already, before it starts.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from foreign_messages import DEFINITIONS

_TESTS = Path(__file__).parents[1]
PACKAGES = sorted({name.partition('/')[0] for name in DEFINITIONS})
_FIRST = 'object_recognition_msgs'
"""What another of the packages needs to find when it is built."""

_ALL = """
cmake_minimum_required(VERSION 3.20)
project(foreign)
foreach(package {packages})
  add_subdirectory(${{package}})
endforeach()
"""
_ONE = """
project({package})
foreach(wanted ament_cmake rosidl_default_generators {needs})
  find_package(${{wanted}} REQUIRED)
endforeach()
list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX "_cpp:")
rosidl_generate_interfaces({package} {files} DEPENDENCIES {needs})
ament_package()
"""
_MANIFEST = """<?xml version="1.0"?>
<package format="3">
  <name>{package}</name><version>0.0.0</version><description>for tests</description>
  <maintainer email="nobody@example.com">nobody</maintainer><license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <depend>std_msgs</depend><depend>geometry_msgs</depend><depend>shape_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def build(cache: Path) -> dict[str, str]:
    """Build into a folder of `cache`, unless that was done; return the environment to use it."""
    made_of = f'{_ONE}{_MANIFEST}{sorted(DEFINITIONS.items())}{sys.prefix}{sys.version}'
    prefix = cache / hashlib.sha256(made_of.encode()).hexdigest()[:16]
    if not (prefix / 'complete').exists():
        for old in cache.iterdir():
            shutil.rmtree(old)
        _build(cache / 'build', prefix)
        (prefix / 'complete').touch()
    modules = f'{prefix}/lib/python{sysconfig.get_python_version()}/site-packages'
    found = {'PYTHONPATH': f'{modules}{os.pathsep}{_TESTS}', 'LD_LIBRARY_PATH': f'{prefix}/lib'}
    return {
        name: os.pathsep.join([first, *filter(None, [os.environ.get(name)])])
        for name, first in found.items()
    }


def _build(folder: Path, prefix: Path) -> None:
    rest = [package for package in PACKAGES if package != _FIRST]
    for packages in ([_FIRST], rest):
        folder.mkdir()
        (folder / 'CMakeLists.txt').write_text(_ALL.format(packages=' '.join(packages)))
        for package in packages:
            _write_package(folder / package, package)
        _install(folder, prefix)
        shutil.rmtree(folder)


def _install(folder: Path, prefix: Path) -> None:
    venv = sys.prefix
    found = f'{venv}{os.pathsep}{prefix}'
    environment = {**os.environ, 'AMENT_PREFIX_PATH': found, 'CMAKE_PREFIX_PATH': found}
    environment |= {'VIRTUAL_ENV': venv, 'PATH': f'{venv}/bin:{os.environ["PATH"]}'}
    options = [f'-DCMAKE_INSTALL_PREFIX={prefix}', f'-DPython3_EXECUTABLE={sys.executable}']
    _run(['cmake', '-S', '.', '-B', 'out', '-DBUILD_TESTING=OFF', *options], folder, environment)
    _run(['cmake', '--build', 'out', '--target', 'install', '-j2'], folder, environment)


def _write_package(folder: Path, package: str) -> None:
    (folder / 'msg').mkdir(parents=True)
    files = []
    for name, text in DEFINITIONS.items():
        if name.startswith(f'{package}/'):
            files.append(f'msg/{name.rpartition("/")[2]}.msg')
            lines = map(str.strip, text.strip().splitlines())
            (folder / files[-1]).write_text('\n'.join(lines) + '\n')
    needs = 'std_msgs geometry_msgs shape_msgs' + (
        f' {_FIRST}' if package == 'moveit_msgs' else ''
    )
    one = _ONE.format(package=package, files=' '.join(files), needs=needs)
    (folder / 'CMakeLists.txt').write_text(one)
    (folder / 'package.xml').write_text(_MANIFEST.format(package=package))


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
