# SPDX-License-Identifier: Apache-2.0
"""Build message packages that no wheel holds, from the definitions of `foreign_messages`."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from foreign_messages import DEFINITIONS

_CMAKE = """
cmake_minimum_required(VERSION 3.20)
project({package})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(std_msgs REQUIRED)
find_package(geometry_msgs REQUIRED)
rosidl_generate_interfaces({package} {files} DEPENDENCIES std_msgs geometry_msgs)
ament_package()
"""
_MANIFEST = """<?xml version="1.0"?>
<package format="3">
  <name>{package}</name><version>0.0.0</version><description>for tests</description>
  <maintainer email="nobody@example.com">nobody</maintainer><license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <build_depend>rosidl_default_generators</build_depend>
  <depend>std_msgs</depend><depend>geometry_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def build(package: str, folder: Path) -> dict[str, str]:
    """Generate and install a package; return the environment in which it is found."""
    source, prefix = folder / package, folder / 'install'
    (source / 'msg').mkdir(parents=True)
    files = []
    for name, text in DEFINITIONS.items():
        if name.startswith(f'{package}/'):
            files.append(f'msg/{name.rpartition("/")[2]}.msg')
            (source / files[-1]).write_text('\n'.join(map(str.strip, text.splitlines())) + '\n')
    (source / 'CMakeLists.txt').write_text(_CMAKE.format(package=package, files=' '.join(files)))
    (source / 'package.xml').write_text(_MANIFEST.format(package=package))
    venv = sys.prefix
    environment = {**os.environ, 'AMENT_PREFIX_PATH': venv, 'CMAKE_PREFIX_PATH': venv}
    environment |= {'VIRTUAL_ENV': venv, 'PATH': f'{venv}/bin:{os.environ["PATH"]}'}
    options = [f'-DCMAKE_INSTALL_PREFIX={prefix}', f'-DPython3_EXECUTABLE={sys.executable}']
    for command in (
        ['cmake', '-S', str(source), '-B', str(source / 'build'), '-DBUILD_TESTING=OFF', *options],
        ['cmake', '--build', str(source / 'build'), '--target', 'install'],
    ):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    version = sysconfig.get_python_version()
    return {
        'PYTHONPATH': f'{prefix}/lib/python{version}/site-packages',
        'LD_LIBRARY_PATH': f'{prefix}/lib',
    }
