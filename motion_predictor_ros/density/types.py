# SPDX-License-Identifier: Apache-2.0
"""Weighted futures: the result of the density stage.

Stage: density. Read by volume, ros/encode and evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from motion_predictor_ros.skeleton.frame import Validity

IMPUTED_PREFIX = 'imputed joints taken as observed: '
"""Prefix of a reason that names joints out of sight."""

SENT_FUTURES, SENT_STRIDE = 20, 5
"""Default number of published futures, and stride of their horizons."""

_PER_PERSON = (
    *('stamp_ns', 'positions', 'weights', 'log_density'),
    *('cached', 'effective_sample_size', 'novelty'),
)


@dataclass(frozen=True)
class Futures:
    """K possible futures of each person, all people in one batch.

    Attributes:
        person_ids: One per row.
        stamp_ns: Stamp of the observation, one per row.
        horizons_s: Time after the observation's stamp.
        positions: [m] in the observation's frame, as `recentring.py` leaves them.
        weights: Probability of each future; a person's sum to one.
        log_density: log p(x | c) of the latent x as drawn (eq. 12) [nat]. Ranks futures; not a
            weight.
        cached: Row of each future in the cache; of the nearest cached one for draws without it.
        effective_sample_size: Effective number of the `importance_samples` cached futures.
        importance_samples: Number of cached futures with importance weights.
        novelty: Distance from draws of q to the nearest recorded future, relative to the 99th
            percentile of held-out people. Above one: out of distribution.
        model: Name of the density model.
        out_of_sight: Names of joints that were not observed, one entry per row. The model has no
            input for missing joints, so imputed positions were used. Empty: none.
        predicted_log_density: log p(x | c) of each person's predicted motion [nat]; NaN where
            there is none, None where it was not computed.
    """

    person_ids: tuple[str, ...]
    stamp_ns: Int64[np.ndarray, ' batch']
    horizons_s: Float64[np.ndarray, ' horizon']
    positions: Float64[np.ndarray, 'batch future horizon joint xyz=3']
    weights: Float64[np.ndarray, 'batch future']
    log_density: Float64[np.ndarray, 'batch future']
    cached: Int64[np.ndarray, 'batch future']
    effective_sample_size: Float64[np.ndarray, ' batch']
    importance_samples: int
    novelty: Float64[np.ndarray, ' batch']
    model: str = ''
    out_of_sight: tuple[str, ...] = ()
    predicted_log_density: Float64[np.ndarray, ' batch'] | None = None

    @staticmethod
    def cat(parts: Sequence['Futures']) -> 'Futures':
        """Concatenate people; horizons and model are those of the first part."""
        if len(parts) == 1:
            return parts[0]
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _PER_PERSON
        }
        names: dict[str, Any] = {
            name: tuple(chain.from_iterable(getattr(part, name) for part in parts))
            for name in ('person_ids', 'out_of_sight')
        }
        return replace(parts[0], **columns, **names)

    @property
    def out_of_distribution(self) -> Bool[np.ndarray, ' batch']:
        """Whether a person's motion is unlike the recordings."""
        return self.novelty > 1.0

    def judge(self, row: int) -> tuple[Validity, str]:
        """Return the validity of a person's futures, and a human-readable reason."""
        if self.out_of_sight and self.out_of_sight[row]:
            return Validity.INCOMPLETE, IMPUTED_PREFIX + self.out_of_sight[row]
        if self.out_of_distribution[row]:
            reason = f'{self.novelty[row]:.1f} times as far from recorded futures as usual'
            return Validity.OUT_OF_DISTRIBUTION, reason
        return Validity.OK, ''

    def thinned(self, count: int = SENT_FUTURES, stride: int = SENT_STRIDE) -> 'Futures':
        """Keep at most `count` futures of each person and every `stride`-th horizon.

        The choice is independent of the futures, and weights are normalised again, so that
        expectations stay unbiased.
        """
        drawn, stride = self.weights.shape[1], min(stride, len(self.horizons_s))
        kept = np.linspace(0, drawn, min(count, drawn), endpoint=False).astype(int)
        weights = self.weights[:, kept]
        return replace(
            self,
            horizons_s=self.horizons_s[stride - 1 :: stride],
            positions=self.positions[:, kept, stride - 1 :: stride],
            weights=weights / weights.sum(axis=1, keepdims=True),
            log_density=self.log_density[:, kept],
            cached=self.cached[:, kept],
        )
