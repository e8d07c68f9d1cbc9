# SPDX-License-Identifier: Apache-2.0
"""What CacheFlow says of everybody in the scene: weighted futures.

Stage: density. Read by volume, ros/encode and evaluation.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64


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

    @property
    def out_of_distribution(self) -> Bool[np.ndarray, ' batch']:
        """Whether a person does what was never recorded."""
        return self.novelty > 1.0
