"""Local enumeration: ∂E[f(b)]/∂l_d = E[σ(l_d) σ(−l_d) (f(b with b_d = 1) − f(b with b_d = 0))] for each bit d alone.

What measure-valued derivatives come to for a Bernoulli, its two measures being the points 1 and 0. The other bits are sampled;
draws that depend on the site are drawn anew. Applies to Bernoulli sites. Unbiased for the ELBO. One evaluation of model and
guide, and one more a bit. Source: Titsias and Lázaro-Gredilla 2015, eq. 7; Mohamed, Rosca, Figurnov and Mnih 2020, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from .disarm import sigmoid
from .site import Latent, Variant
from .terms import Draw


@dataclass(frozen=True)
class LocalEnumeration:
    """Both values of each bit, one bit at a time."""

    num_particles: int = 1
    name = "enumerate-local"
    variant: ClassVar[Variant | None] = "replay"
    unbiased_for = ("elbo",)
    of_the_law = False  # a flipped draw is none of q's
    uniforms = 0

    def refusal(self, site: Latent) -> str | None:
        if site.family == "bits":
            return None
        return f"draws of site '{site.name}' ({site.distribution}) are not bits; use enumerate"

    def replays(self, site: Latent) -> int:
        return site.size

    def values(self, draw: Draw, noise: Any, xp: Any) -> Any:
        flips = units(draw, xp)
        return draw.value + flips * (1 - 2 * draw.value)

    def surrogate(self, draw: Draw, values: Any, noise: Any, cost: Any, costs: Sequence[Any], xp: Any, stop: Any) -> Any:
        p, flips = sigmoid(stop(draw.logits), xp), units(draw, xp)
        gain = sum(flip * (cost - other) for flip, other in zip(flips, costs, strict=True))
        return stop(p * (1 - p) * (2 * draw.value - 1) * gain) * draw.logits


def units(draw: Draw, xp: Any) -> Any:
    """The unit vectors of the event, (numbers, 1, …, *event shape)."""
    shape = draw.value.shape[draw.value.ndim - draw.event_dims :]
    count = prod(shape)
    return xp.eye(count, dtype=draw.value.dtype).reshape(count, *(1,) * (draw.value.ndim - draw.event_dims), *shape)
