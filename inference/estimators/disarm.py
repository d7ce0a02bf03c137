"""DisARM: ∂E[f(b)]/∂l = E[½ (f(b) − f(b̃)) (b − b̃) σ(|l|)], b = 1[u < σ(l)], b̃ = 1[1 − u < σ(l)], u uniform.

Two antithetic draws of the same bits; what `Arm` does with u, averaged over the u that lead to the same pair. f is the cost
downstream of the site only. Applies to Bernoulli sites, also where other draws depend on them: these are drawn anew. Unbiased
for the ELBO. One evaluation of model and guide, and one more a site. Source: Dong, Mnih and Tucker 2020, eq. 7; the same is
U2G of Yin, Ho, Yan, Qian and Zhou 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .site import Latent, Variant
from .terms import Draw


@dataclass(frozen=True)
class Disarm:
    """An antithetic pair of draws."""

    num_particles: int = 1
    name = "disarm"
    variant: ClassVar[Variant | None] = "replay"
    unbiased_for = ("elbo",)
    of_the_law = True
    antithetic = True

    def refusal(self, site: Latent) -> str | None:
        return None if site.bits else f"draws of site '{site.name}' ({site.distribution}) are not bits; use leave-one-out"

    def replays(self, site: Latent) -> int:
        return 1

    def values(self, draw: Draw, noise: Any, xp: Any) -> Any:
        return antithetic(draw, noise, xp)[None]

    def slope(self, draw: Draw, values: Any, noise: Any, cost: Any, costs: Sequence[Any], xp: Any) -> Any:
        sign = xp.where(draw.logits > 0, 1.0, -1.0)
        return 0.5 * (cost - costs[0]) * (draw.value - values[0]) * sigmoid(sign * draw.logits, xp)


def sigmoid(x: Any, xp: Any) -> Any:
    """By tanh, which no x overflows."""
    return (1 + xp.tanh(x / 2)) / 2


def uniform(draw: Draw, noise: Any, xp: Any) -> Any:
    """The u that led to the bits, by a uniform variable of its own: below σ(l) where they are 1, above where they are 0."""
    p = sigmoid(draw.logits, xp)
    return xp.where(draw.value > 0, p * noise, p + (1 - p) * noise)


def antithetic(draw: Draw, noise: Any, xp: Any) -> Any:
    """The bits that 1 − u leads to."""
    below = 1 - uniform(draw, noise, xp) < sigmoid(draw.logits, xp)
    return xp.where(below, xp.ones_like(draw.value), xp.zeros_like(draw.value))
