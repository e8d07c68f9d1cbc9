# SPDX-License-Identifier: Apache-2.0
"""Archives of evaluations: the report and every single value, in one zip that `compare` reads.

The zip holds report.json (kind, report) and arrays.npz (values by case, measure and method). It
contains no motion.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.replay.replay import Case
from motion_predictor_ros.scoring.metrics import Horizons

KINDS = ('bag', 'mocap', 'cmu', 'h36m', '3dpw', 'stochastic', 'volume')
"""Evaluations that have archives."""

_REPORT, _ARRAYS = 'report.json', 'arrays.npz'


@dataclass(frozen=True)
class Archive:
    """Result of one evaluation.

    Attributes:
        kind: Which evaluation: one of `KINDS`.
        cases: Names of the cases; the same in every evaluation of the same observations.
        measures: Names of the measures; errors by horizon bear the horizon [ms].
        units: Units of the measures.
        values: By method; NaN where a case was not measured.
    """

    kind: str
    report: dict[str, Any]
    cases: tuple[str, ...]
    measures: tuple[str, ...]
    units: tuple[str, ...]
    values: dict[str, Float64[np.ndarray, 'case measure']]

    def save(self, path: Path) -> None:
        """Write the zip."""
        path.parent.mkdir(parents=True, exist_ok=True)
        named = {f'values.{name}': values for name, values in self.values.items()}
        for name in ('cases', 'measures', 'units'):
            named[name] = np.array(getattr(self, name), dtype=np.str_)
        arrays = io.BytesIO()
        np.savez_compressed(arrays, **named)  # type: ignore[arg-type]
        head = {'kind': self.kind, 'report': self.report}
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_REPORT, json.dumps(head, indent=2) + '\n')
            archive.writestr(_ARRAYS, arrays.getvalue())

    @classmethod
    def load(cls, path: Path) -> 'Archive':
        """Read an archive written by `save`.

        Raises:
            DataError: There is no such file, or it is not an archive of an evaluation.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                head = json.loads(archive.read(_REPORT))
                arrays = np.load(io.BytesIO(archive.read(_ARRAYS)), allow_pickle=False)
            texts = [tuple(arrays[name].tolist()) for name in ('cases', 'measures', 'units')]
            values = {
                name.removeprefix('values.'): arrays[name].astype(np.float64)
                for name in arrays.files
                if name.startswith('values.')
            }
            if any(array.shape != (len(texts[0]), len(texts[1])) for array in values.values()):
                raise ValueError('arrays have inconsistent shapes')
            return cls(head['kind'], head['report'], texts[0], texts[1], texts[2], values)
        except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(
                f'{path}: {error}; expected an archive written by `motion-predictor evaluate ... '
                '--archive FILE`'
            ) from error


class Figures:
    """Collects values of single cases during an evaluation."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, dict[str, float]]] = {}
        self._units: dict[str, str] = {}
        self._cases: dict[str, None] = {}

    def add(
        self,
        method: str,
        measure: str,
        unit: str,
        cases: Iterable[str],
        values: Iterable[float] | Float64[np.ndarray, ' case'],
    ) -> None:
        """Add one measure of some cases; equal names are the same case."""
        self._units[measure] = unit
        named = dict(zip(cases, map(float, values), strict=True))
        self._cases |= dict.fromkeys(named)
        self._values.setdefault(method, {}).setdefault(measure, {}).update(named)

    def archive(self, kind: str, report: dict[str, Any]) -> Archive:
        """Return an archive of all values, with the report."""
        assert kind in KINDS, kind
        nothing: dict[str, float] = {}
        values = {
            method: np.array(
                [
                    [measured.get(name, nothing).get(case, np.nan) for name in self._units]
                    for case in self._cases
                ]
            ).reshape(len(self._cases), len(self._units))
            for method, measured in self._values.items()
        }
        names = tuple(self._cases), tuple(self._units), tuple(self._units.values())
        return Archive(kind, report, *names, values)


def name_cases(observed: Iterable[np.ndarray]) -> list[str]:
    """Name windows by the digest of the observation, so that other evaluations use the same names.

    A repeated window gets a number, since it is another case.
    """
    counts: dict[str, int] = {}
    names = []
    for window in observed:
        digest = f'{zlib.crc32(np.ascontiguousarray(window, dtype=np.float32).tobytes()):08x}'
        counts[digest] = counts.get(digest, 0) + 1
        names.append(digest if counts[digest] == 1 else f'{digest}-{counts[digest]}')
    return names


def bag_archive(report: dict[str, Any], cases: list[Case], horizons_s: Horizons) -> Archive:
    """Collect the errors of a bag's scored cases [mm], at every horizon."""
    figures = Figures()
    names = [f'{case.prediction.person_id}@{case.prediction.stamp_ns}' for case in cases]
    for method in cases[0].errors:
        errors_mm = 1000.0 * np.array([case.errors[method] for case in cases])
        add_horizons(figures, method, names, errors_mm, horizons_s)
    return figures.archive('bag', report)


def add_horizons(
    figures: Figures,
    method: str,
    cases: list[str],
    errors_mm: Float64[np.ndarray, 'case horizon'],
    horizons_s: Horizons,
) -> None:
    """Add errors by horizon."""
    for frame, horizon_s in enumerate(horizons_s):
        figures.add(method, f'{round(1000.0 * horizon_s)}', 'mm', cases, errors_mm[:, frame])
