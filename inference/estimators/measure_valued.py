"""Measure-valued derivative of a normal: of each coordinate, the difference of two expectations of the cost itself.

    ∂E[f(z)]/∂μ = E[f(μ + σ w) − f(μ − σ w)] / (σ √(2π)),  w ~ Weibull(√2, 2)
    ∂E[f(z)]/∂σ = E[f(μ + σ m) − f(μ + σ m u)] / σ,        m ~ double-sided Maxwell, u uniform, so that m u is normal

The pairs are coupled: the same w on both sides, the same m. The other coordinates keep their draws, draws that depend on the
site are drawn anew; f need not be differentiable. Applies to normal sites. Unbiased for the ELBO. One evaluation of model and
guide, and four more a coordinate. Source: Mohamed, Rosca, Figurnov and Mnih 2020, section 6 and table 1; Rosca et al. 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Any, ClassVar

from .local_enumeration import units
from .site import Latent, Variant
from .terms import Draw


@dataclass(frozen=True)
class MeasureValued:
    """Four values of each coordinate, one coordinate at a time."""

    num_particles: int = 1
    name = "measure-valued"
    variant: ClassVar[Variant | None] = "replay"
    unbiased_for = ("elbo",)
    of_the_law = False
    uniforms = 6  # a coordinate

    def refusal(self, site: Latent) -> str | None:
        if site.family == "normal":
            return None
        return (f"draws of site '{site.name}' ({site.distribution}) are not normal; use enumerate-local where they are bits, "
                "else pathwise or score")  # fmt: skip

    def replays(self, site: Latent) -> int:
        return 4 * site.size

    def values(self, draw: Draw, noise: Any, xp: Any) -> Any:
        (loc, scale), places = draw.parameters, units(draw, xp)
        w, m = weibull(noise, xp), maxwell(noise, xp)
        steps = (w, -w, m, m * noise[5])
        return xp.concat([draw.value + places * (loc + scale * step - draw.value) for step in steps], axis=0)

    def surrogate(self, draw: Draw, values: Any, noise: Any, cost: Any, costs: Sequence[Any], xp: Any, stop: Any) -> Any:
        (loc, scale), places = draw.parameters, units(draw, xp)
        count = len(places)

        def difference(first: int) -> Any:
            """Of each coordinate's cost on the one side and on the other."""
            return sum(place * (costs[first + d] - costs[first + count + d]) for d, place in enumerate(places))

        of_loc, of_scale = difference(0) / (2 * pi) ** 0.5, difference(2 * count)
        return stop(of_loc / scale) * loc + stop(of_scale / scale) * scale


def weibull(noise: Any, xp: Any) -> Any:
    """Of density w exp(−w²/2)."""
    return (-2 * xp.log1p(-noise[0])) ** 0.5


def maxwell(noise: Any, xp: Any) -> Any:
    """Of density m² exp(−m²/2) / √(2π), both signs: m² is chi-squared with three degrees of freedom."""
    square = -2 * xp.log1p(-noise[1]) - 2 * xp.log1p(-noise[2]) * xp.cos(2 * pi * noise[3]) ** 2
    return xp.where(noise[4] < 0.5, -1.0, 1.0) * square**0.5
