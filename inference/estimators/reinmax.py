"""ReinMax: straight-through by Heun's rule, ∂h/∂η ≈ 2 ∂π₁/∂η − ½ ∂π₀/∂η, π₁ = (h + π_T) / 2, π_T = softmax(η / T), π₀ = π_1.

The hard draw h stands in every cost. ∂π₁/∂η is that of a softmax at the point where it takes the value π₁: diag π₁ − π₁ π₁ᵀ.
Applies to one-hot and Bernoulli sites. Biased for the ELBO, but exact where the costs are quadratic in h, at T = 1. One
evaluation of model and guide a sample. Source: Liu, Dong, Liu, Yu and Gao 2023, algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .relaxed import Relaxed, relax
from .straight_through import hard


@dataclass(frozen=True)
class ReinMax(Relaxed):
    """A hard draw whose gradient is right to second order."""

    temperature: float = 1.0
    name = "reinmax"

    def relaxed(self, logits: Any, noise: Any, one_hot: bool, xp: Any, stop: Any) -> Any:
        h = hard(xp, logits + noise, one_hot)
        mean = stop(log_mean(xp, h, logits, self.temperature, one_hot) - logits) + logits
        soft = 2 * relax(xp, mean, 0.0, 1.0, one_hot) - 0.5 * relax(xp, logits, 0.0, 1.0, one_hot)
        return h + soft - stop(soft)


def log_mean(xp: Any, h: Any, logits: Any, temperature: float, one_hot: bool) -> Any:
    """The logits of (h + π_T) / 2."""
    p = (h + relax(xp, logits, 0.0, temperature, one_hot)) / 2
    least = xp.finfo(p.dtype).tiny
    if one_hot:
        return xp.log(p + least)
    return xp.log(p + least) - xp.log((1 - h + relax(xp, -logits, 0.0, temperature, one_hot)) / 2 + least)
