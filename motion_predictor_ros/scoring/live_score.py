# SPDX-License-Identifier: Apache-2.0
"""How live predictions turned out lately: what `LiveScorer` finds."""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.scoring.tally import Coverage

Row = Float64[np.ndarray, ' horizon']


@dataclass(frozen=True)
class LiveScore:
    """How predictions turned out lately.

    Attributes:
        stamp_ns: Of the newest observation.
        volumes: Until which horizon volumes spoke [s], and how often the body stayed inside; one
            entry for each level and horizon.
        covariances: Share of joints and horizons within the ellipsoids; None without any.
        horizons_s, mpjpe_m: Mean distance of joints from where they were, and when.
        future_horizons_s, log_density: Mean log density of where joints were among the published
            futures, per joint [nat of m^-3], and when.
        predictions, futures: How many were scored for that.
        fallbacks: Share of the volumes heard that were a reachable set, for which no coverage is
            claimed.
        unscored: What could not be scored, by reason.
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
        """Say which promises are kept less often than chance explains; empty if none."""
        told = [(f'volumes until {end:g} s', each) for end, each in self.volumes]
        if not told and self.covariances is not None:
            told = [('covariances', self.covariances)]
        return '; '.join(
            f'{what} held for {100 * each.share:.1f} %, promised {100 * each.level:g} %: with '
            f'{each.independent} independent windows chance explains no less than what is above '
            f'{100 * each.alarm_at:.1f} %'
            for what, each in told
            if each.is_low
        )


class Rows:
    """Values by horizon, the oldest forgotten."""

    def __init__(self, memory_s: float) -> None:
        """Begin without any."""
        self._memory_s = memory_s
        self._rows: deque[tuple[float, Row]] = deque()
        self._horizons_s: Row = np.zeros(0)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._rows)

    def add(self, now_s: float, horizons_s: Row, row: Row) -> None:
        """Note a row; one of other horizons begins anew."""
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
