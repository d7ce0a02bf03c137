"""Reweighted wake-sleep, its wake phase: ∇_θ L_K = E[Σₖ w̃ₖ ∇log p(x, zₖ)], ∇_φ KL(p(z | x) ‖ q) ≈ −E[Σₖ w̃ₖ ∇log q(zₖ)].

The model climbs the K-sample bound of each datum, the guide falls towards the posterior by the divergence that the ELBO does
not use; no gradient passes through a draw. Applies to every site, all latents of a datum together. Biased for the guide, whose
objective is another, by O(1/K) since the weights are normalised; unbiased for the K-sample bound's gradient in the model. K
evaluations of model and guide. Source: Bornschein and Bengio 2015; Le, Kosiorek, Siddharth, Teh and Wood 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from .site import Latent, Variant
from .terms import Objective, Term, log_weights, normalised


@dataclass(frozen=True)
class WakeSleep:
    """The guide learns from weighted draws."""

    num_particles: int = 2  # at least
    name = "wake-sleep"
    variant: ClassVar[Variant | None] = "score"
    unbiased_for = ()
    bounds = ("iwae",)

    def refusal(self, site: Latent) -> str | None:
        return None


def wake(terms: Sequence[Term], xp: Any, stop: Any) -> Objective:
    """The K-sample bound, and a surrogate that holds +log q where the bound holds −log q."""
    log_w, scale = log_weights(terms)
    value, share = normalised(log_w, xp)
    joint, _ = log_weights([replace(t, cost=-t.cost) if t.in_guide else t for t in terms])
    return Objective(scale * value.sum(), scale * (stop(share) * joint).sum(), {})
