"""Pathwise gradient: ∇ E_q[f(z)] = E_ε[∇ f(g(ε))], z = g(ε; φ) (Kingma and Welling 2014, eq. 4; Rezende et al. 2014).

Applies to sites whose draws are differentiable, implicit reparameterisation included (Figurnov et al. 2018). Unbiased
for the ELBO and the K-sample bound. One evaluation of model and guide a sample. With `analytic_kl` (name `pathwise-kl`)
the terms log p(z) − log q(z) become −KL(q(z) ‖ p(z)) in closed form, which removes their noise; for the ELBO only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .site import Latent, Variant


@dataclass(frozen=True)
class Pathwise:
    """Through the reparameterised draw."""

    analytic_kl: bool = False
    num_particles: int = 1
    variant: ClassVar[Variant | None] = None

    @property
    def unbiased_for(self) -> tuple[str, ...]:
        return ("elbo",) if self.analytic_kl else ("elbo", "iwae")

    @property
    def name(self) -> str:
        return "pathwise-kl" if self.analytic_kl else "pathwise"

    def refusal(self, site: Latent) -> str | None:
        if not site.has_rsample:
            return f"draws of site '{site.name}' ({site.distribution}) have no gradient; use leave-one-out or enumerate"
        if self.analytic_kl and not site.has_analytic_kl:
            return f"no closed form is known for KL(q ‖ p) at site '{site.name}' ({site.distribution}); use pathwise"
        return None
