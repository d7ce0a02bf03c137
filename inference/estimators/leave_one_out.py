"""Leave-one-out baseline: bₖ = Σ_{j≠k} fⱼ / (K − 1) over K ≥ 2 independent samples.

Each sample's baseline is the mean cost of the others, so it is independent of the sample itself. Unbiased for the ELBO
with K evaluations of model and guide. Source: Mnih and Rezende 2016, eq. 9; Kool, van Hoof and Welling 2019, eq. 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppl_models import InputError


@dataclass(frozen=True)
class LeaveOneOut:
    """The mean cost of the other samples."""

    num_particles: int = 2
    name = "leave-one-out"

    def __post_init__(self) -> None:
        if self.num_particles < 2:
            raise InputError(f"leave-one-out needs at least 2 particles, got {self.num_particles}; "
                             "give num_particles=2 or more.")  # fmt: skip

    def baseline(self, cost: Any, scale: float, state: Any) -> tuple[Any, Any]:
        total = cost.sum(axis=0, keepdims=True)
        return (total - cost) / (cost.shape[0] - 1), state
