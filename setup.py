# SPDX-License-Identifier: Apache-2.0
"""The one list of executables and shipped files; CMakeLists.txt and pip both read it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'motion_predictor_ros'
SHARE = f'share/{PACKAGE}'
SHIPPED = ('config', 'demo', 'launch', 'msg', 'srv', 'weights')
# What the demo leaves beside its bag.
MADE = ('report.html', 'report.json', 'scene.png', 'live.mcap')


def version() -> str:
    """Read the version where the code states it."""
    text = Path(PACKAGE, '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE)
    assert found, f'{PACKAGE}/__init__.py states no __version__'
    return found[1]


def requirements() -> list[str]:
    """List what the ROS-free core needs at run time."""
    lines = Path('requirements.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def shipped_files() -> list[tuple[str, list[str]]]:
    """Pair every shipped folder with its files, to be installed under `share/`."""
    folders: dict[str, list[str]] = {}
    for top in SHIPPED:
        for path in sorted(Path(top).rglob('*')):
            if path.is_file() and '__pycache__' not in path.parts and path.name not in MADE:
                folders.setdefault(path.parent.as_posix(), []).append(path.as_posix())
    return [(f'{SHARE}/{folder}', files) for folder, files in folders.items()]


setup(
    name=PACKAGE,
    version=version(),
    description='Where a person will be, how likely, and how sure: motion prediction for robots',
    license='Apache-2.0',
    maintainer='motion_predictor_ros maintainers',
    maintainer_email='maintainers@motion-predictor.example',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={f'{PACKAGE}.evaluation.report': ['page/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (SHARE, ['package.xml']),
        *shipped_files(),
    ],
    python_requires='>=3.11',
    install_requires=requirements(),
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'motion-predictor = motion_predictor_ros.cli.main:main',
            'predictor_node = motion_predictor_ros.ros.executables:predictor_node',
            'monitor_node = motion_predictor_ros.ros.executables:monitor_node',
            'play_bag = motion_predictor_ros.ros.executables:play_bag',
            'record_bag = motion_predictor_ros.ros.executables:record_bag',
        ]
    },
)
