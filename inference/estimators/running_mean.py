"""Running-mean baseline: b = the average of past costs, bₜ = Σᵢ (1 − γ) γᵗ⁻ⁱ f̄ᵢ / (1 − γᵗ), i < t (Williams 1992).

One number a site, in units of one datum (the plate scale divided out), so that it depends neither on the minibatch's
size nor on which data it held. It is read before the current cost enters it: a baseline never sees its own sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunningMean:
    """The decayed average of past costs."""

    decay: float = 0.9
    name = "running-mean"

    def baseline(self, cost: Any, scale: float, state: Any) -> tuple[Any, Any]:
        total, weight = state  # of past costs and of their decayed weights; zeros before the first step
        known = scale * total / (weight + (weight == 0))
        current = cost.mean() / scale
        return known, (self.decay * total + (1 - self.decay) * current, self.decay * weight + (1 - self.decay))
