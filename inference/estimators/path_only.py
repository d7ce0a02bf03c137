"""Path-only gradient (sticking the landing): ∇ E_q[log p − log q] = E_ε[∇_z(log p(z) − log q(z)) ∂z/∂φ], z = g(ε; φ).

The pathwise gradient without its term E[∇_φ log q(z; φ)] = 0, so its variance vanishes where q is the exact posterior.
Applies to sites whose draws are differentiable. Unbiased for the ELBO, not for K-sample bounds. One evaluation of
model and guide, and one more of log q, a sample. Source: Roeder, Wu and Duvenaud 2017, eq. 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .site import Latent, Variant


@dataclass(frozen=True)
class PathOnly:
    """Pathwise without the score of q."""

    num_particles: int = 1
    name = "path-only"
    variant: ClassVar[Variant | None] = "path"
    unbiased_for = ("elbo",)

    def refusal(self, site: Latent) -> str | None:
        if not site.has_rsample:
            return f"draws of site '{site.name}' ({site.distribution}) have no gradient; use leave-one-out or enumerate"
        return None
