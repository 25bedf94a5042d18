"""What two things that were measured side by side say about each other: medians of paired ratios, and their spread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1_000


@dataclass(frozen=True)
class Spread:
    """A median and its quartiles."""

    low: float
    median: float
    high: float

    def covers(self, value: float) -> bool:
        """Is this value within the quartiles?"""
        return self.low <= value <= self.high


def spread(values: Sequence[float]) -> Spread:
    """Give the median and the quartiles."""
    low, median, high = np.quantile(np.asarray(values, dtype=float), (0.25, 0.5, 0.75))
    return Spread(float(low), float(median), float(high))


def ratios(measured: Sequence[float], against: Sequence[float]) -> Spread:
    """Give the spread of the ratios of pairs, each pair of one round."""
    return spread([one / other for one, other in zip(measured, against, strict=True)])


def difference(measured: Sequence[float], against: Sequence[float], quantile: float, seed: int = 1) -> Spread:
    """Give how much higher a quantile is than another thing's; the spread is that of resampled pairs (bootstrap)."""
    one, other = np.asarray(measured, dtype=float), np.asarray(against, dtype=float)
    choose = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(RESAMPLES):
        chosen = choose.integers(0, len(one), len(one))
        found.append(float(np.quantile(one[chosen], quantile) - np.quantile(other[chosen], quantile)))
    around = spread(found)
    return Spread(around.low, float(np.quantile(one, quantile) - np.quantile(other, quantile)), around.high)


def slope(x: Sequence[float], y: Sequence[float]) -> Spread:
    """Fit a straight line (Theil and Sen: the median of the slopes between all pairs of points)."""
    over, values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    first, second = np.triu_indices(len(over), 1)
    apart = over[second] - over[first]
    return spread(list((values[second] - values[first])[apart > 0] / apart[apart > 0]))
