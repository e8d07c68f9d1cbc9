# SPDX-License-Identifier: Apache-2.0
"""Message types of a bag: those of ROS 2, of this package, and those that the bag defines.

Used by `bags.py`. A definition that equals the known one is not compiled: rosbags turns
definitions into Python code, so only types that are not known are taken from the bag. A test
checks that a type's name cannot inject code.
"""

import re
from functools import cache
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from motion_predictor_ros.errors import BagError
from motion_predictor_ros.resources import share_file


@cache
def typestore() -> Typestore:
    """Return the message types of ROS 2 Jazzy and of this package."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in sorted(share_file('msg').glob('*.msg')):
        name = f'motion_predictor_ros/msg/{path.stem}'
        types.update(get_types_from_msg(path.read_text(encoding='utf-8'), name))
    store.register(types)
    return store


def recorded_types(connection: Connection, ours_only: bool) -> Typestore:
    """Return a store that knows the type as recorded: the shared one if it agrees.

    Args:
        ours_only: Whether to refuse a type that differs from the known one.

    Raises:
        BagError: The type differs though it must not, or has no definition.
    """
    ours = typestore()
    recorded = _embedded_types(connection)
    if not recorded and connection.msgtype not in ours.fielddefs:
        raise BagError(
            f'{connection.topic!r} is of type {connection.msgtype}, whose definition the bag does '
            'not hold, as sqlite3 bags of ROS 2 Humble and older; convert it where the type is '
            'installed: `ros2 bag convert`, to mcap'
        )
    if all(name in ours.fielddefs and _same_fields(recorded, ours, name) for name in recorded):
        return ours
    if ours_only:
        raise BagError(
            f'{connection.topic!r} was recorded with another version of {connection.msgtype}; '
            'replay it with the release that recorded it'
        )
    store = get_typestore(Stores.EMPTY)
    store.register(recorded)
    return store


def _embedded_types(connection: Connection) -> dict[str, Any]:
    text = connection.msgdef.data
    if connection.msgdef.format == MessageDefinitionFormat.MSG:
        return dict(get_types_from_msg(text, connection.msgtype))
    if connection.msgdef.format == MessageDefinitionFormat.NONE:
        return {}
    types: dict[str, Any] = {}
    for part in re.split(r'^=+\nIDL: .*\n', text, flags=re.MULTILINE):
        types.update(get_types_from_idl(part) if part.strip() else {})
    return types


def _same_fields(recorded: dict[str, Any], ours: Typestore, name: str) -> bool:
    return list(recorded[name][1]) == list(ours.fielddefs[name][1])
