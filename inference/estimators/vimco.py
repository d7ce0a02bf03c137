"""VIMCO: ∇L_K = E[Σₖ (L_K − L₋ₖ) ∇log q(zₖ) + w̃ₖ ∇log wₖ], L₋ₖ = log 1/K (ŵₖ + Σ_{j≠k} wⱼ), log ŵₖ = mean_{j≠k} log wⱼ.

Each sample of the K-sample bound has for baseline the bound with its own weight replaced by the geometric mean of the
others, which is independent of it. Applies to every site. Unbiased for the K-sample bound. K ≥ 2 evaluations of model and
guide; the sums that leave one out take O(K). Source: Mnih and Rezende 2016, eqs 10 and 11.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

from .terms import others


@dataclass(frozen=True)
class Vimco:
    """The bound without the sample's own weight."""

    num_particles: int = 2  # at least
    auxiliary: int = 0
    name = "vimco"
    bounds = ("iwae",)

    def baseline(self, log_w: Any, more: Any, xp: Any) -> Any:
        samples = log_w.shape[0]
        stand_in = (log_w.sum(axis=0, keepdims=True) - log_w) / (samples - 1)
        return xp.logaddexp(others(log_w, xp), stand_in) - log(samples)
