"""Simultaneous bands for how many of N uniform ranks lie below each of several edges, exact for discrete ranks.

The count below edge z is binomial (N, z). The band at each edge is its central interval of probability 1 − γ; γ is the largest
for which all edges hold at once with probability 1 − α. That probability is exact, by the counts' own Markov chain:

    below zᵢ₊₁, given c below zᵢ:  c + Binomial(N − c, (zᵢ₊₁ − zᵢ) / (1 − zᵢ))

(Säilynoja, Bürkner and Vehtari 2022, algorithm 2). Simulating it, as they do too, cannot reach α = 1e-6; the recursion sums
what leaves the band at each edge, so that no small number is found as a difference from one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import gammaln

MOST_EDGES = 40


class Band(NamedTuple):
    """At every edge e, how many ranks below e are to be expected at least and at most."""

    edges: np.ndarray  # ranks below these are counted
    low: np.ndarray
    high: np.ndarray
    gamma: float  # of each edge alone
    escape: float  # the exact probability that uniform ranks leave the band anywhere, at most α


@lru_cache(maxsize=64)
def band(replicates: int, draws: int, alpha: float) -> Band:
    """The band of `replicates` ranks, each uniform on 0 … draws, that calibrated ones leave with probability at most alpha."""
    count = min(MOST_EDGES, draws)
    edges = np.unique(np.linspace(0, draws + 1, count + 2).round().astype(int)[1:-1])
    share = edges / (draws + 1)
    low, high = np.log(alpha / (2 * len(edges))), np.log(min(alpha * 2, 0.9))
    best = _at(replicates, share, np.exp(low))
    for _ in range(14):  # γ to a part in ten thousand of its logarithm's range
        middle = (low + high) / 2
        found = _at(replicates, share, np.exp(middle))
        low, high, best = (middle, high, found) if found[2] <= alpha else (low, middle, best)
    return Band(edges, best[0], best[1], float(np.exp(low)), float(best[2]))


def _at(n: int, share: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The band whose every edge holds with probability 1 − γ, and the probability of leaving it anywhere."""
    low, high = stats.binom.ppf(gamma / 2, n, share), stats.binom.isf(gamma / 2, n, share)
    low, high = low.astype(int), high.astype(int)
    return low, high, escape(n, share, low, high)


def escape(n: int, share: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The probability that the counts of n uniform values below `share` leave [low, high] at any of these places."""
    inside, states, before, out = np.ones(1), np.zeros(1, int), 0.0, 0.0
    for z, least, most in zip(share, low, high, strict=True):
        step = (z - before) / (1 - before)
        # What leaves at this edge: the tails of the binomial step, below `least` and above `most`.
        out += float(inside @ stats.binom.cdf(least - 1 - states, n - states, step))
        out += float(inside @ stats.binom.sf(most - states, n - states, step))
        after = np.arange(least, most + 1)
        inside = inside @ _binomial(after[None, :] - states[:, None], (n - states)[:, None], step)
        states, before = after, z
    return out


def _binomial(k: np.ndarray, n: np.ndarray, p: float) -> np.ndarray:
    """Probabilities of k out of n; 0 outside 0 … n."""
    fine = (k >= 0) & (k <= n)
    safe = np.clip(k, 0, n)
    log_p = gammaln(n + 1) - gammaln(safe + 1) - gammaln(n - safe + 1) + safe * np.log(p) + (n - safe) * np.log1p(-p)
    return np.where(fine, np.exp(log_p), 0.0)
