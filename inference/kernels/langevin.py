"""Langevin with Metropolis correction, for real-valued sites (Besag 1994; Roberts and Tweedie 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppl_models import InputError

from .state import Info, State, row


@dataclass(frozen=True)
class Langevin:
    """Propose x' = x − ε β ∇E(x) + √(2ε) n, n standard normal, and accept or stay.

    The probability of acceptance is

        min(1, exp(−β (E(x') − E(x))) q(x | x') / q(x' | x)),  log q(x' | x) = −‖x' − x + ε β ∇E(x)‖² / 4ε.

    Reversible. About 57 % of proposals taken is best in high dimension (Roberts and Rosenthal 1998); `step_size` is ε.

    Raises:
        InputError: The step size is not positive.
    """

    model: Any
    step_size: float = 0.01

    def __post_init__(self) -> None:
        if not self.step_size > 0:
            raise InputError(f"expected a step size above 0, got {self.step_size!r}; give one such as 0.01.")

    def init(self, ppl: Any, rng_key: Any, values: Any) -> State:
        return State(rng_key, dict(values))

    def step(self, ppl: Any, state: State, params: Any, beta: Any = 1.0) -> tuple[State, Info]:
        values, rng_key, moved = state.values, state.rng_key, {}
        drift = self.drift(ppl, values, params, beta)
        for name, x in values.items():
            rng_key, noise = ppl.normal(rng_key, x)
            moved[name] = x + drift[name] + (2 * self.step_size) ** 0.5 * noise
        log_ratio = self.log_ratio(ppl, values, moved, params, beta)
        rng_key, u = ppl.uniform(rng_key, log_ratio)
        rng_key, taken = ppl.accept(rng_key, u, log_ratio)
        after = {name: ppl.xp.where(taken[..., None], moved[name], x) for name, x in values.items()}
        return State(rng_key, after), Info(ppl.xp.exp(ppl.xp.clip(log_ratio, max=0.0)))

    def drift(self, ppl: Any, values: Any, params: Any, beta: Any) -> Any:
        """−ε β ∇E."""
        slopes = ppl.grad(lambda values: row(beta) * self.model.energy(ppl, params, values), values)
        return {name: -self.step_size * slope for name, slope in slopes.items()}

    def log_ratio(self, ppl: Any, here: Any, there: Any, params: Any, beta: Any) -> Any:
        """log of p(x') q(x | x') / (p(x) q(x' | x)), of each chain."""
        forth, back = (self.drift(ppl, values, params, beta) for values in (here, there))
        energies = (row(beta) * self.model.energy(ppl, params, values) for values in (here, there))
        out = next(energies) - next(energies)
        for name in here:
            way = there[name] - here[name]
            out = out + (((way - forth[name]) ** 2).sum(-1) - ((way + back[name]) ** 2).sum(-1)) / (4 * self.step_size)
        return out
