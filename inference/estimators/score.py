"""Score function: ∇ E_q[f(z)] = E_q[(f(z) − b) ∇ log q(z)] + E_q[∇ f(z)] (Williams 1992; Ranganath et al. 2014).

f is the cost downstream of the site only (Rao-Blackwellisation: provenance finds it, plates keep rows apart), and log q
is neither scaled nor masked. Applies to every site. Unbiased for the ELBO. One evaluation of model and guide a sample.
Its variance is what the controls b reduce: `RunningMean`, `LeaveOneOut`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .leave_one_out import LeaveOneOut
from .running_mean import RunningMean
from .site import Latent, Variant


@dataclass(frozen=True)
class Score:
    """Costs downstream of the site times the gradient of log q."""

    control: RunningMean | LeaveOneOut | None = None
    particles: int = 1
    variant: ClassVar[Variant | None] = "score"
    unbiased_for = ("elbo",)

    @property
    def name(self) -> str:
        return "score" if self.control is None else self.control.name

    @property
    def num_particles(self) -> int:
        return self.control.num_particles if isinstance(self.control, LeaveOneOut) else self.particles

    def refusal(self, site: Latent) -> str | None:
        return None
