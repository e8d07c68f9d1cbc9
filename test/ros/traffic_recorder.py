# SPDX-License-Identifier: Apache-2.0
"""record_bag, knowing what foreign messages look like: python -m ros.traffic_recorder OUT ..."""

import sys

from foreign_messages import DEFINITIONS
from rosbags.typesys import get_types_from_msg

from motion_predictor_ros.data.bags import typestore
from motion_predictor_ros.ros.tools.record_bag import main


def register() -> None:
    """Let bags hold foreign messages."""
    store = typestore()
    for name, text in DEFINITIONS.items():
        if name not in store.types:
            store.register(get_types_from_msg(text, name))


if __name__ == '__main__':
    register()
    sys.exit(main())
