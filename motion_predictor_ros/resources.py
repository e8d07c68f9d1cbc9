# SPDX-License-Identifier: Apache-2.0
"""Find the files that ship with the package: config/, launch/, msg/, weights/.

They are at the top of a source tree, and in `share/motion_predictor_ros` of an install prefix
(colcon, CMake, pip); both are found by walking up from this module.
"""

from pathlib import Path

from motion_predictor_ros.errors import ConfigError

_PACKAGE = 'motion_predictor_ros'


def share_roots() -> list[Path]:
    """List the directories that may hold shipped files, most specific first."""
    roots = []
    for parent in Path(__file__).resolve().parents:
        if (parent / 'package.xml').is_file() and (parent / 'config').is_dir():
            roots.append(parent)
        if (parent / 'share' / _PACKAGE).is_dir():
            roots.append(parent / 'share' / _PACKAGE)
    return roots


def share_file(*parts: str) -> Path:
    """Return the path of a shipped file or directory.

    Raises:
        ConfigError: It is not there; the message names every place that was searched.
    """
    roots = share_roots()
    for root in roots:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    searched = ', '.join(str(root) for root in roots) or 'no share directory'
    raise ConfigError(f'{"/".join(parts)!r} is not shipped with {_PACKAGE}; searched {searched}')


def resolve_file(name: str, folder: str, suffix: str) -> Path:
    """Return `name` if it is a path that exists, else the shipped `folder/name+suffix`.

    Raises:
        ConfigError: Neither exists; the message lists the shipped names.
    """
    given = Path(name).expanduser()
    if given.is_file():
        return given
    if given.suffix == suffix or '/' in name:
        raise ConfigError(f'no such file: {given}')
    directory = share_file(folder)
    path = directory / f'{name}{suffix}'
    if path.is_file():
        return path
    known = sorted(p.name.removesuffix(suffix) for p in directory.glob(f'*{suffix}'))
    raise ConfigError(f'{name!r} is neither a file nor one of the shipped {folder}: {known}')


def is_shipped(name: str, folder: str, suffix: str) -> bool:
    """Return whether `resolve_file` would find a file."""
    try:
        resolve_file(name, folder, suffix)
    except ConfigError:
        return False
    return True
