"""The noise of a gradient taken apart: Var ĝ = E_x Var(ĝ | x) + Var_x E(ĝ | x), x the minibatch.

The first part is the latents' noise, which the estimator decides; the second is that of the rows drawn, the same for every
unbiased estimator, and no estimator takes it away. Published curves of "gradient variance" from running moments hold both, and
the drift of the parameters besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .estimate import Estimate


def minibatch_noise(
    gradients: Any, params: Mapping[str, np.ndarray], control: Any, minibatches: Sequence[tuple[np.ndarray, ...]],
    replicates: int, seed: int,
) -> tuple[Estimate, float]:  # fmt: skip
    """tr Var_x E(ĝ | x) with a 95 % interval, and tr E_x Var(ĝ | x), from `replicates` gradients of each minibatch.

    The mean over replicates still holds the latents' noise over their number, which is subtracted; the interval is a jackknife
    over the minibatches.
    """
    means, within = [], []
    for number, rows in enumerate(minibatches):
        with gradients.given(rows):
            values = gradients.many(params, control, replicates, seed + number).astype(np.float64)
        means.append(values.mean(0))
        within.append(values.var(0, ddof=1).sum())
    found, noise = np.array(means), np.array(within)

    def between(keep: np.ndarray) -> float:
        return float(found[keep].var(0, ddof=1).sum() - noise[keep].mean() / replicates)

    every = np.ones(len(found), bool)
    left = np.array([between(every & (np.arange(len(found)) != i)) for i in range(len(found))])
    value, error = between(every), np.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum())
    return Estimate(value, value - 1.96 * error, value + 1.96 * error), float(noise.mean())
