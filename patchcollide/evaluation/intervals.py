"""Intervals by resampling: of means over images, and of the area under a ROC curve.

A sample that does not vary says nothing of how much the next one would: resampling it gives an
interval without width, which looks certain. There is none then.
"""

import math

import numpy as np

from patchcollide.shapes import Bool, Float64, ndarray

NUM_RESAMPLES = 2000

LEVEL = 0.95

_NORMAL_QUANTILE = 1.959963984540054
"""Of 0.975: an interval of 95 % leaves as much at either end."""


def mean_interval(
    values: Float64[ndarray, "n"], rng: np.random.Generator, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float] | None:
    """Returns the 95 % percentile bootstrap interval of a mean; None for one value, or equal ones.

    Of differences of pairs it is the paired one. Equal sizes and equal states of ``rng`` draw the
    same places.

    Args:
        values: At least one.
        rng: Draws them anew, with replacement.
        num_resamples: How often.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, Section 13.3.
    """
    if len(values) == 0 or values.min() == values.max():
        return None
    drawn = rng.integers(len(values), size=(num_resamples, len(values)))
    return _ends(values[drawn].mean(axis=1))


def area_under_roc(scores: Float64[ndarray, "n"], positives: Bool[ndarray, "n"]) -> float:
    """Returns the chance that a positive's score exceeds a negative's; ties count half.

    Args:
        scores: Higher for what is more likely positive.
        positives: At least one, and at least one that is none.

    Source:
        Hanley and McNeil, "The meaning and use of the area under a receiver operating
        characteristic (ROC) curve", Radiology 143, 1982: Wilcoxon's rank sum.
    """
    count = int(positives.sum())
    sums = midranks(scores)[positives].sum() - count * (count + 1) / 2
    return float(sums / (count * (len(scores) - count)))


def area_interval(
    scores: Float64[ndarray, "n"],
    positives: Bool[ndarray, "n"],
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> tuple[float, float] | None:
    """Returns the 95 % percentile bootstrap interval of the area under a ROC curve.

    Positives and negatives are drawn anew among themselves, so no resample lacks either. None where
    that cannot show how much the area varies: with one of either, or where all resamples agree, as
    they do of a perfect ranking.
    """
    if min(positives.sum(), (~positives).sum()) < 2:
        return None
    first, second = np.flatnonzero(positives), np.flatnonzero(~positives)
    labels = np.arange(len(scores)) < len(first)
    areas = []
    for _ in range(num_resamples):
        drawn = np.concatenate([rng.choice(first, len(first)), rng.choice(second, len(second))])
        areas.append(area_under_roc(scores[drawn], labels))
    found = np.asarray(areas)
    return None if found.min() == found.max() else _ends(found)


def rank_correlation(first: Float64[ndarray, "n"], second: Float64[ndarray, "n"]) -> float | None:
    """Returns Spearman's correlation; None where either is constant.

    Of fewer than three values as well: any two are perfectly correlated.
    """
    if len(first) < 3:
        return None
    ranks = np.stack([midranks(first), midranks(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1)
    return float(ranks[0] @ ranks[1] / lengths.prod()) if lengths.all() else None


def midranks(values: Float64[ndarray, "n"]) -> Float64[ndarray, "n"]:
    """Returns the ranks of values, from 1 on; those of equal values are their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])


def _ends(values: Float64[ndarray, "n"]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def wilson_interval(hits: int, total: int) -> list[float]:
    """Returns the 95 % Wilson score interval of a share.

    Source:
        Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in
        Medicine 17, 1998, method 3. As ``scipy.stats.binomtest``, which takes seconds to import.
    """
    share, squared = hits / total, _NORMAL_QUANTILE**2
    size = 2 * (total + squared)
    centre = (2 * total * share + squared) / size
    spread = math.sqrt(4 * total * share * (1 - share) + squared)
    half = _NORMAL_QUANTILE / size * spread
    return [0.0 if hits == 0 else centre - half, 1.0 if hits == total else centre + half]
