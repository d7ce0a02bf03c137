"""Score function: ∇ E_q[f(z)] = E_q[(f(z) − b) ∇ log q(z)] + E_q[∇ f(z)].

f is the cost downstream of the site only (Rao-Blackwellisation: provenance finds it, plates keep rows apart), and log q
is neither scaled nor masked; of the K-sample bound it is the bound itself. Applies to every site. Unbiased for the ELBO and
the K-sample bound. One evaluation of model and guide a sample. Its variance is what the controls b reduce: `RunningMean`,
`Nvil` and `LeaveOneOut` for the ELBO, `Vimco` and `Ovis` for the K-sample bound. Source: Williams 1992; Ranganath, Gerrish
and Blei 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .leave_one_out import LeaveOneOut
from .nvil import Nvil
from .ovis import Ovis
from .running_mean import RunningMean
from .site import Latent, Variant
from .vimco import Vimco


@dataclass(frozen=True)
class Score:
    """Costs downstream of the site times the gradient of log q."""

    control: RunningMean | Nvil | LeaveOneOut | Vimco | Ovis | None = None
    particles: int = 1
    variant: ClassVar[Variant | None] = "score"

    @property
    def name(self) -> str:
        return "score" if self.control is None else self.control.name

    @property
    def unbiased_for(self) -> tuple[str, ...]:
        return ("elbo", "iwae") if self.control is None else getattr(self.control, "bounds", ("elbo",))

    @property
    def num_particles(self) -> int:
        return getattr(self.control, "num_particles", self.particles)

    def refusal(self, site: Latent) -> str | None:
        return None
