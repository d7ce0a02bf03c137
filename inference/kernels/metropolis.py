"""Metropolis with single flips, one unit after the other (Metropolis et al. 1953)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .state import Info, State, by_columns, columns, row


@dataclass(frozen=True)
class Metropolis:
    """T = Π_i M_i, M_i flipping unit i with probability min(1, exp(−β ΔᵢE)): invariant, not reversible.

    Where the energy is flat every flip is taken, and such a scan alone does not mix: all units flip at every sweep.
    """

    model: Any

    def init(self, ppl: Any, rng_key: Any, values: Any) -> State:
        return State(rng_key, dict(values))

    def step(self, ppl: Any, state: State, params: Any, beta: Any = 1.0) -> tuple[State, Info]:
        model, units = self.model, columns(ppl, self.model, state.values)
        prepared = model.prepared(ppl, params)
        rng_key, u = ppl.uniform(state.rng_key, units)

        def flip(i: Any, carry: Any) -> Any:
            rng_key, units, total = carry
            bit, log_odds = units[i], model.columns(ppl, prepared, units, i)
            log_ratio = row(beta) * (1.0 - 2.0 * bit) * log_odds
            rng_key, taken = ppl.accept(rng_key, u[i], log_ratio)
            units = ppl.put(units, i, ppl.xp.where(taken, 1.0 - bit, bit))
            return rng_key, units, total + ppl.xp.exp(ppl.xp.clip(log_ratio, max=0.0))

        rng_key, units, total = ppl.loop(model.num_units, flip, (rng_key, units, 0.0 * units[0]))
        return State(rng_key, by_columns(ppl, model, units)), Info(total / model.num_units)
