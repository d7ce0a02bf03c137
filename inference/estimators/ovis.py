"""OVIS: the control that is optimal for the score of the K-sample bound as K grows, cₖ = mean_s dₖ(z₁ … z⁽ˢ⁾ … z_K).

    ∇L_K = E[Σₖ (dₖ − cₖ) ∇log q(zₖ)] + E[Σₖ w̃ₖ ∇log p(x, zₖ)],  dₖ = L_K − w̃ₖ

dₖ is what the score of sample k is multiplied by, −w̃ₖ ∇log q(zₖ) within w̃ₖ ∇log wₖ included; cₖ is its mean with zₖ replaced
by S auxiliary draws, and so independent of zₖ. The signal-to-noise ratio grows as √K, where that of the pathwise gradient
falls. Applies to every site. Unbiased for the K-sample bound. K + S evaluations of model and guide. Source: Liévin,
Dittadi, Christensen and Winther 2020, eq. 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

from ppl_models import InputError

from .terms import others


@dataclass(frozen=True)
class Ovis:
    """The mean of the signal over draws in the sample's place."""

    auxiliary: int = 1
    num_particles: int = 2  # at least
    name = "ovis"
    bounds = ("iwae",)

    def __post_init__(self) -> None:
        if self.auxiliary < 1:
            raise InputError(f"ovis needs at least 1 auxiliary sample, got {self.auxiliary}; give auxiliary=1 or more.")

    def baseline(self, log_w: Any, more: Any, xp: Any) -> Any:
        rest, out = others(log_w, xp), 0.0
        for s in range(self.auxiliary):
            total = xp.logaddexp(rest, more[s : s + 1])
            out = out + total - log(log_w.shape[0]) - xp.exp(more[s : s + 1] - total)
        return out / self.auxiliary
