"""Enumeration: ∇ E_q[f(z)] = ∇ Σ_v q(v) f(v), every value v of the site evaluated and weighted.

Exact in the site it is used at (a whole gradient without noise if every latent is enumerated). Applies to sites of
finitely many values: `num_values` evaluations of model and guide, and their product over sites. A vector of d
Bernoullis in one event counts as 2ᵈ values. Source: Obermeyer et al. 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .site import MAX_ROWS, Latent, Variant


@dataclass(frozen=True)
class Enumerate:
    """Every value of the site, weighted."""

    num_particles: int = 1
    name = "enumerate"
    variant: ClassVar[Variant | None] = "enumerate"
    unbiased_for = ("elbo",)

    def refusal(self, site: Latent) -> str | None:
        if site.num_values is None:
            return f"site '{site.name}' ({site.distribution}) has no finite list of values; use pathwise or score"
        if site.num_values > MAX_ROWS:
            return (f"site '{site.name}' has {site.num_values:.3g} values, more than the {MAX_ROWS} that are enumerated; "
                    "use leave-one-out")  # fmt: skip
        return None
