# SPDX-License-Identifier: Apache-2.0
"""Reliability of probabilities: how often what was given a probability came true.

Brier score = mean (p - o)^2,   o = 1 where it came true, else 0
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

TENTHS = tuple(tenth / 10 for tenth in range(1, 10))
"""Edges of ten equal bins."""


class Reliability:
    """Predicted probabilities and observed frequencies, by bin.

    Attributes:
        cases: Number of probabilities.
    """

    def __init__(self, edges: Sequence[float] = TENTHS) -> None:
        """Begin without any; `edges` are those between bins."""
        self.cases = 0
        self._edges = edges
        self._sums = np.zeros((3, len(edges) + 1))
        self._squares = 0.0

    def add(
        self, predicted: Float[np.ndarray, ' case'], observed: Bool[np.ndarray, ' case']
    ) -> None:
        """Add probabilities, and what came true."""
        chance, count = predicted.astype(np.float64), len(self._edges) + 1
        bins = np.searchsorted(self._edges, chance, side='right')
        for row, weights in enumerate((np.ones_like(chance), chance, observed)):
            self._sums[row] += np.bincount(bins, weights, count)
        self.cases += chance.size
        self._squares += float(((chance - observed) ** 2).sum())

    def figures(self, unit: str) -> dict[str, Any]:
        """Return Brier score, that of the constant rate, and the curve: probabilities by bin.

        Args:
            unit: Key of the number of cases of a bin.
        """
        rate = float(self._sums[2].sum() / self.cases)
        curve = [
            {'predicted': predicted / count, 'observed': observed / count, unit: int(count)}
            for count, predicted, observed in self._sums.T.tolist()
            if count
        ]
        return {
            'brier': self._squares / self.cases,
            'brier_of_constant_rate': rate * (1.0 - rate),
            'reliability': curve,
        }
