"""Running-mean baseline: b = the average of past costs, bₜ = Σᵢ (1 − γ) γᵗ⁻ⁱ f̄ᵢ / (1 − γᵗ), i < t.

One number a site, in units of one datum (the plate scale divided out), so that it depends neither on the minibatch's
size nor on which data it held. It is read before the current cost enters it: a baseline never sees its own sample. Applies
to every site. Unbiased for the ELBO. One evaluation of model and guide a sample. Source: Williams 1992.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .site import Latent


@dataclass(frozen=True)
class RunningMean:
    """The decayed average of past costs."""

    decay: float = 0.9
    name = "running-mean"

    def start(self, site: Latent, columns: int) -> tuple[np.ndarray, ...]:
        """The sum of past costs and of their weights, both decayed."""
        return np.zeros(()), np.zeros(())

    def baseline(self, cost: Any, scale: float, state: Any, inputs: Any, xp: Any) -> tuple[Any, Any]:
        total, weight = state
        known = scale * total / (weight + (weight == 0))
        current = cost.mean() / scale
        return known, (self.decay * total + (1 - self.decay) * current, self.decay * weight + (1 - self.decay))
