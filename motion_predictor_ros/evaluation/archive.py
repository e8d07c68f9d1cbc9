# SPDX-License-Identifier: Apache-2.0
"""Keep the result of an evaluation: report and every error, in one zip that `compare` reads."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.replay import Case

_REPORT, _ARRAYS = 'report.json', 'errors.npz'


@dataclass(frozen=True)
class Archive:
    """A scored bag, without its motion.

    Attributes:
        errors: [m] mean over joints, by method.
        stamps_ns: Of the observation that each case answers.
        people: Person id of each case.
    """

    report: dict[str, Any]
    horizons_s: Float64[np.ndarray, ' horizon']
    stamps_ns: Int64[np.ndarray, ' case']
    people: tuple[str, ...]
    errors: dict[str, Float64[np.ndarray, 'case horizon']]

    @classmethod
    def of(
        cls,
        report: dict[str, Any],
        cases: list[Case],
        horizons_s: Float64[np.ndarray, ' horizon'],
    ) -> 'Archive':
        """Collect the errors of scored cases."""
        return cls(
            report,
            horizons_s,
            np.array([case.prediction.stamp_ns for case in cases], dtype=np.int64),
            tuple(case.prediction.person_id for case in cases),
            {name: np.array([case.errors[name] for case in cases]) for name in cases[0].errors},
        )

    def save(self, path: Path) -> None:
        """Write the zip."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = io.BytesIO()
        people = np.array(self.people, dtype=np.str_)
        named = {f'errors.{name}': values for name, values in self.errors.items()}
        np.savez_compressed(
            arrays,
            horizons_s=self.horizons_s,
            stamps_ns=self.stamps_ns,
            people=people,
            **named,  # type: ignore[arg-type]
        )
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_REPORT, json.dumps(self.report, indent=2) + '\n')
            archive.writestr(_ARRAYS, arrays.getvalue())

    @classmethod
    def load(cls, path: Path) -> 'Archive':
        """Read what `save` wrote.

        Raises:
            DataError: There is no such file, or it is not an archive of an evaluation.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                report = json.loads(archive.read(_REPORT))
                arrays = np.load(io.BytesIO(archive.read(_ARRAYS)), allow_pickle=False)
            return cls(
                report,
                arrays['horizons_s'],
                arrays['stamps_ns'],
                tuple(arrays['people'].tolist()),
                {
                    name.removeprefix('errors.'): arrays[name]
                    for name in arrays.files
                    if name.startswith('errors.')
                },
            )
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(
                f'{path}: {error}; expected an archive that `motion-predictor evaluate bag ... '
                '--archive FILE` wrote'
            ) from error
