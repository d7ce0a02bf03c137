"""ARM (augment, REINFORCE, merge): ∂E[f(b)]/∂l = E[(f(b̃) − f(b)) (u − ½)], b = 1[u < σ(l)], b̃ = 1[1 − u < σ(l)], u uniform.

Applies to Bernoulli sites. Unbiased for the ELBO. One evaluation of model and guide, and one more a site. `Disarm` has the
same expectation given the pair, and never more variance. Source: Yin and Zhou 2019, theorem 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .disarm import Disarm, uniform
from .terms import Draw


@dataclass(frozen=True)
class Arm(Disarm):
    """An antithetic pair of draws, weighed by the uniform variable that led to them."""

    name = "arm"

    def slope(self, draw: Draw, values: Any, noise: Any, cost: Any, costs: Sequence[Any], xp: Any) -> Any:
        return (costs[0] - cost) * (uniform(draw, noise, xp) - 0.5)
