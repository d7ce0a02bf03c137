"""Langevin over bits with Metropolis correction: every unit may flip in one step (Zhang, Liu and Liu 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ppl_models import InputError
from ppl_models.energy import is_gaussian

from .state import Info, State, row
from .step_size import Stepped, check_step


@dataclass(frozen=True)
class DiscreteLangevin:
    """Flip each unit by itself, with log odds lᵢ(x) = dᵢ(x) / 2 − 1 / 2α, dᵢ(x) = −β (1 − 2 xᵢ) ∂E/∂xᵢ, and accept or stay.

    The probability of acceptance is

        min(1, exp(−β (E(x') − E(x))) Πᵢ q(i | x') / q(i | x)),  q(i | x) = σ(±lᵢ(x)), + of those that flipped.

    Reversible. α is the `step_size`: small, few units flip and nearly all are taken. Left out, the state carries one, which
    a pilot adapts (`step_size.pilot`), from 0.2 on. Any energy over bits will do; d is exact where E is of degree one in
    each. Source: Zhang et al. 2022, eqs 3 and 4 (there "DMALA").

    Raises:
        InputError: The step size is not positive, or a site is not of bits.
    """

    model: Any
    step_size: float | None = None
    STEPS: ClassVar[int] = 10  # between updates of training, where no number is given: one step flips a few units

    def __post_init__(self) -> None:
        check_step(self.step_size)
        if is_gaussian(self.model):
            raise InputError(f"expected an energy over bits, got {type(self.model).__name__} over reals; use Langevin.")

    def init(self, ppl: Any, rng_key: Any, values: Any) -> State | Stepped:
        values = dict(values)
        if self.step_size:
            return State(rng_key, values)
        return Stepped(rng_key, values, ppl.constant(self.first, next(iter(values.values()))))

    @property
    def first(self) -> float:
        """The step size of a state that carries none, and of the first step of a pilot."""
        return self.step_size or 0.2

    def step(self, ppl: Any, state: Any, params: Any, beta: Any = 1.0) -> tuple[Any, Info]:
        xp, model, here, size = ppl.xp, self.model, state.values, getattr(state, "step_size", self.first)

        def log_odds(values: Any) -> dict[str, Any]:
            slopes = ppl.grad(lambda values: -row(beta) * model.energy(ppl, params, values), values)
            return {name: (1.0 - 2.0 * bits) * slopes[name] / 2 - 0.5 / size for name, bits in values.items()}

        rng_key, forth, flips, there = state.rng_key, log_odds(here), {}, {}
        for name, bits in here.items():
            rng_key, u = ppl.uniform(rng_key, bits)
            rng_key, flips[name] = ppl.flip(rng_key, u, forth[name])
            there[name] = bits + flips[name] * (1.0 - 2.0 * bits)
        back = log_odds(there)
        log_ratio = row(beta) * (model.energy(ppl, params, here) - model.energy(ppl, params, there))
        for name, flip in flips.items():
            ways = [(flip * odds - ppl.softplus(odds)).sum(-1) for odds in (back[name], forth[name])]
            log_ratio = log_ratio + ways[0] - ways[1]
        rng_key, u = ppl.uniform(rng_key, log_ratio)
        rng_key, taken = ppl.accept(rng_key, u, log_ratio)
        values = {name: xp.where(taken[..., None], there[name], bits) for name, bits in here.items()}
        return state._replace(rng_key=rng_key, values=values), Info(xp.exp(xp.clip(log_ratio, max=0.0)))
