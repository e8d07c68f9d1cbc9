# SPDX-License-Identifier: Apache-2.0
"""`make demo-bag`: write the demo bag from motion clips."""

import argparse
import sys
from pathlib import Path

from demo_bag.deepmimic import convert_deepmimic

from motion_predictor_ros.errors import MotionPredictorError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('--source', type=Path, help='folder of clips; default: that of pybullet')
parser.add_argument('--out', type=Path, required=True, help='.mcap file or rosbag2 folder')
options = parser.parse_args()
try:
    print(convert_deepmimic(options.source, options.out))
except MotionPredictorError as error:
    sys.exit(f'error: {error}')
