# SPDX-License-Identifier: Apache-2.0
"""The command that lays results side by side."""

import argparse
import json
from pathlib import Path

from rich.console import Console

from motion_predictor_ros.result_options import EXIT_CODES

Commands = argparse._SubParsersAction  # the type argparse itself returns


def add_evaluate_compare(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `evaluate compare`."""
    parser = commands.add_parser('compare', help='results side by side, from their archives')
    parser.add_argument(
        'archives', type=Path, nargs='+', help='written by `evaluate ... --archive FILE`'
    )
    parser.add_argument(
        '--method',
        default='',
        help='whose figures the table shows; default: the first; CSV and JSON hold all',
    )
    parser.add_argument('--csv', type=Path, help='write every figure here')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    parser.epilog = EXIT_CODES
    parser.set_defaults(run=_evaluate_compare)


def _evaluate_compare(options: argparse.Namespace) -> None:
    from motion_predictor_ros.evaluation.archive import Archive
    from motion_predictor_ros.evaluation.compare import (
        choose_method,
        compare,
        print_comparison,
        same_cases,
        write_csv,
    )

    archives = {str(path): Archive.load(path) for path in options.archives}
    found = compare(archives)
    method = choose_method(found, options.method)
    if options.csv:
        write_csv(found, options.csv)
    if options.json:
        print(json.dumps({'archives': found, 'same_cases': same_cases(archives)}))
        return
    print_comparison(found, method, Console())
    if not same_cases(archives):
        Console().print('not the same cases: differences may come from what was scored')
