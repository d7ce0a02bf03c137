"""Input-dependent baseline (NVIL): b(x) = running mean + v·tanh(W x + c) + d, trained on the squares of past (f − b(x))².

A network predicts the cost of each row from the program's first argument: what is hard about a datum is no noise. As with
`RunningMean`, which it contains, costs are in units of one datum and are read before they are learnt from. Applies to every
site; one outside the data's plate has no row, and the running mean alone. Unbiased for the ELBO. One evaluation of model and
guide a sample. Their division of the signal by its own scale, which an adaptive optimiser undoes, is left out. Source: Mnih
and Gregor 2014, section 2.3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import adam
from .running_mean import RunningMean
from .site import Latent


@dataclass(frozen=True)
class Nvil:
    """The running mean of costs and a network's guess of the rest."""

    hidden: int = 100
    learning_rate: float = 1e-3
    decay: float = 0.9
    name = "nvil"

    def start(self, site: Latent, columns: int) -> tuple[np.ndarray, ...]:
        weight = np.random.default_rng(0).normal(size=(columns, self.hidden)) / max(columns, 1) ** 0.5
        network = weight, np.zeros(self.hidden), np.zeros(self.hidden), np.zeros(())
        return (*RunningMean(self.decay).start(site, columns), *adam.begin(network))

    def baseline(self, cost: Any, scale: float, state: Any, inputs: Any, xp: Any) -> tuple[Any, Any]:
        mean, after = RunningMean(self.decay).baseline(cost, scale, state[:2], None, xp)
        if inputs is None:
            return mean, (*after, *state[2:])
        x, dim = inputs  # (rows, columns), and the plate dim of the rows
        weight, bias, out, shift = adam.values(state[2:])
        h = xp.tanh(x @ weight + bias)
        guess = h @ out + shift
        others = tuple(d for d in range(cost.ndim) if d != cost.ndim + dim)
        error = (guess + (mean - cost.mean(axis=others)) / scale) / x.shape[0]  # ∂½ mean (b − f)² / ∂ guess
        back = error[:, None] * out * (1 - h * h)
        slopes = x.mT @ back, back.sum(0), h.mT @ error, error.sum()
        wide = guess.reshape(-1, *(1,) * (-dim - 1))
        return mean + scale * wide, (*after, *adam.step(state[2:], slopes, self.learning_rate))
