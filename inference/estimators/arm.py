"""ARM (augment, REINFORCE, merge): ∂E[f(b)]/∂l = E[(f(b̃) − f(b)) (u − ½)], b = 1[u < σ(l)], b̃ = 1[1 − u < σ(l)], u uniform.

Applies to Bernoulli sites, and to categorical ones by the sticks of `Disarm`. Unbiased for the ELBO. One evaluation of model
and guide, and one more a site. Given the pair, DisARM has the same expectation and never more variance. Source: Yin and Zhou
2019, theorem 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .disarm import Disarm, uniform
from .terms import Draw


@dataclass(frozen=True)
class Arm(Disarm):
    """An antithetic pair of draws, weighed by the uniform variable that led to them."""

    name = "arm"

    def slope(self, draw: Draw, noise: Any, gain: Any, xp: Any) -> Any:
        return gain * (0.5 - uniform(draw, noise, xp))
