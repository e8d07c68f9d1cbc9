# SPDX-License-Identifier: Apache-2.0
"""Options common to all evaluations, and exit codes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motion_predictor_ros.evaluation.archive import Archive

EXIT_CODES = (
    'exit codes: 0 done; 1 interrupted, or stdout closed; 2 bad arguments, files or data, with '
    'one line on stderr'
)


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add `--archive`, `--csv` and `--json`."""
    parser.add_argument('--archive', type=Path, help='write a zip for `evaluate compare` here')
    parser.add_argument('--csv', type=Path, help='write rmse, mean, median, ... here')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.epilog = EXIT_CODES


def keep_results(options: argparse.Namespace, archive: 'Archive') -> None:
    """Write the files of `--archive` and `--csv`."""
    from motion_predictor_ros.evaluation.compare import compare, write_csv

    if options.archive:
        archive.save(options.archive)
    if options.csv:
        name = options.archive or f'evaluate {archive.kind}'
        write_csv(compare({str(name): archive}), options.csv)
