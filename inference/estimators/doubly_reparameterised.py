"""Doubly reparameterised gradient of the K-sample bound: ∇_φ L_K = E[Σₖ w̃ₖ² ∂log wₖ/∂zₖ ∂zₖ/∂φ], w̃ₖ = wₖ / Σⱼ wⱼ.

The pathwise gradient of L_K holds the score of q, whose noise drowns the guide's gradient as K grows; a second
reparameterisation takes it out. The model's gradient, Σₖ w̃ₖ ∂log pₖ/∂θ, is the pathwise one. Applies where all draws are
differentiable; z is all latents of a datum together, so they may depend on each other. One run of the guide and two
evaluations of log w a sample. Unbiased for the K-sample bound; for the ELBO it is path-only. Source: Tucker et al. 2019,
eq. 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from .site import Latent, Variant
from .terms import Objective, Term, log_weights, normalised


@dataclass(frozen=True)
class DoublyReparameterised:
    """Pathwise, the guide's gradient through a draw weighted by the square of the draw's share."""

    num_particles: int = 1
    name = "doubly-reparameterised"
    variant: ClassVar[Variant | None] = None
    unbiased_for = ("iwae",)

    def refusal(self, site: Latent) -> str | None:
        if not site.has_rsample:
            return f"draws of site '{site.name}' ({site.distribution}) have no gradient; use the ELBO with another estimator"
        return None


def doubly_bound(of_params: Sequence[Term], of_draws: Sequence[Term], xp: Any, stop: Any) -> Objective:
    """The K-sample bound, from terms at given draws, and terms at given parameters that have a gradient in the draws only."""
    log_w, scale = log_weights([replace(t, cost=stop(t.cost)) if t.in_guide else t for t in of_params])
    value, share = normalised(log_w, xp)
    share = stop(share)
    surrogate = share * log_w + share**2 * log_weights(of_draws)[0]
    return Objective(scale * value.sum(), scale * surrogate.sum(), {})
