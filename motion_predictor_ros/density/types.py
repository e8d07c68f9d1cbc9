# SPDX-License-Identifier: Apache-2.0
"""What CacheFlow says of everybody in the scene: weighted futures.

Stage: density. Read by volume, ros/encode and evaluation.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from motion_predictor_ros.skeleton.frame import Validity

STAND_INS = 'stand-ins taken for seen: '
"""How a reason begins that names joints out of sight."""

SENT_FUTURES, SENT_STRIDE = 20, 5
"""What of the futures is published, and kept of a replay, unless asked otherwise."""


@dataclass(frozen=True)
class Futures:
    """K possible futures of each person, all people in one batch.

    Attributes:
        person_ids: One per row.
        stamp_ns: Of the observation, one per row.
        horizons_s: After the observation's stamp.
        positions: [m] in the observation's frame.
        weights: Probability of each future; a person's sum to one.
        log_density: log p(x | c) of the future's latent x (eq. 12) [nat]. Ranks futures; it is no
            weight.
        cached: Row of each future in the cache; of the nearest one where the cache was not asked.
        effective_sample_size: How many of the `weighed` cached futures count for this person.
        weighed: Cached futures over which that was counted.
        novelty: Distance from what q expects to the nearest recorded future, relative to what 99
            of 100 held-out people stay below. Above one, nothing like it was recorded.
        model: Name of the model that weighed them.
        out_of_sight: Joints that were not observed, for people to read, one entry per row; the
            model knows no missing joints, so that it took their stand-ins for seen. Empty: none.
        predicted_log_density: log p(x | c) of each person's likeliest future [nat]; NaN where
            there is none, None where it was not asked for.
    """

    person_ids: tuple[str, ...]
    stamp_ns: Int64[np.ndarray, ' batch']
    horizons_s: Float64[np.ndarray, ' horizon']
    positions: Float64[np.ndarray, 'batch future horizon joint xyz=3']
    weights: Float64[np.ndarray, 'batch future']
    log_density: Float64[np.ndarray, 'batch future']
    cached: Int64[np.ndarray, 'batch future']
    effective_sample_size: Float64[np.ndarray, ' batch']
    weighed: int
    novelty: Float64[np.ndarray, ' batch']
    model: str = ''
    out_of_sight: tuple[str, ...] = ()
    predicted_log_density: Float64[np.ndarray, ' batch'] | None = None

    @property
    def out_of_distribution(self) -> Bool[np.ndarray, ' batch']:
        """Whether a person does what was never recorded."""
        return self.novelty > 1.0

    def judge(self, row: int) -> tuple[Validity, str]:
        """Return whether a person's futures may be used, and why not, for people to read."""
        if self.out_of_sight and self.out_of_sight[row]:
            return Validity.INCOMPLETE, STAND_INS + self.out_of_sight[row]
        if self.out_of_distribution[row]:
            reason = f'{self.novelty[row]:.1f} times as far from recorded futures as usual'
            return Validity.OUT_OF_DISTRIBUTION, reason
        return Validity.OK, ''

    def thinned(self, count: int = SENT_FUTURES, stride: int = SENT_STRIDE) -> 'Futures':
        """Keep at most `count` futures of each person and every `stride`-th horizon.

        Which ones does not depend on what they are, and weights are made to sum to one again, so
        that expectations stay unbiased.
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
