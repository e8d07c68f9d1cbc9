# SPDX-License-Identifier: Apache-2.0
"""Scores of live predictions over the last seconds: the result of `LiveScorer`."""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.scoring.coverage import Coverage

Row = Float64[np.ndarray, ' horizon']


@dataclass(frozen=True)
class LiveScore:
    """Scores of the predictions of the last `score.memory_s` seconds.

    Attributes:
        stamp_ns: Stamp of the newest observation.
        volumes: Horizon [s] and coverage of volumes; one entry for each level and horizon.
        covariances: Share of joints and horizons within the ellipsoids; None without any.
        horizons_s, mpjpe_m: Mean joint error by horizon.
        future_horizons_s, log_density: Mean log density of an observed joint among the published
            futures, by horizon [nat of m^-3].
        predictions, futures: Numbers of scored predictions.
        fallbacks: Share of volumes that were a reachable set, for which no coverage is claimed.
        unscored: Predictions that could not be scored, by reason.
    """

    stamp_ns: int
    frame_id: str
    volumes: tuple[tuple[float, Coverage], ...]
    covariances: Coverage | None
    horizons_s: Row
    mpjpe_m: Row
    future_horizons_s: Float64[np.ndarray, ' later']
    log_density: Float64[np.ndarray, ' later']
    predictions: int
    futures: int
    fallbacks: float
    unscored: Counter[str]

    @property
    def warning_text(self) -> str:
        """Name each coverage that is lower than chance explains; empty if none."""
        coverages = [(f'volumes until {end:g} s', volume) for end, volume in self.volumes]
        if not coverages and self.covariances is not None:
            coverages = [('covariances', self.covariances)]
        return '; '.join(
            f'{name} covered {100 * coverage.share:.1f} %, expected {100 * coverage.level:g} %: '
            f'with {coverage.independent} independent windows chance explains only shares above '
            f'{100 * coverage.alarm_at:.1f} %'
            for name, coverage in coverages
            if coverage.is_low
        )


class Rows:
    """Moving mean of values by horizon, over the last seconds."""

    def __init__(self, memory_s: float) -> None:
        """Start without rows."""
        self._memory_s = memory_s
        self._rows: deque[tuple[float, Row]] = deque()
        self._horizons_s: Row = np.zeros(0)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def add(self, now_s: float, horizons_s: Row, row: Row) -> None:
        """Add a row; new horizons discard the old rows."""
        if not np.array_equal(horizons_s, self._horizons_s):
            self._rows.clear()
            self._horizons_s = horizons_s
        self._rows.append((now_s, row))

    def mean(self, now_s: float) -> tuple[Row, Row]:
        """Return the horizons and the mean at each; both empty without rows."""
        while self._rows and self._rows[0][0] < now_s - self._memory_s:
            self._rows.popleft()
        if not self._rows:
            return np.zeros(0), np.zeros(0)
        return self._horizons_s, np.mean([row for _, row in self._rows], axis=0)
