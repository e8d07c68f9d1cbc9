# SPDX-License-Identifier: Apache-2.0
"""`python -m motion_predictor_ros.cli` is `motion-predictor`."""

import sys

from motion_predictor_ros.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
