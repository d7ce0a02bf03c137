"""Block Gibbs of layered energies: whole sites at once, given their neighbours (Hinton 2002; Salakhutdinov and Hinton 2009)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppl_models import InputError
from ppl_models.energy import is_gaussian

from .state import Info, State, always, bernoulli


@dataclass(frozen=True)
class BlockGibbs:
    """T = Π_c K_c, each K_c drawing the sites of one colour from p(x_c | the rest)^β / Z_c: invariant, not reversible.

    `model` names `colours`, groups of sites without a coupling inside, in the order of the sweep, and their conditionals by
    `logits(ppl, params, values, site)` or, of Gaussian sites, `normal(ppl, params, values)`. Sites in `clamp` stay.

    Raises:
        InputError: A clamped site is not one of the model's.
    """

    model: Any
    clamp: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.clamp:
            if name not in self.model.sites:
                raise InputError(f"expected clamped sites among {', '.join(self.model.sites)}, got '{name}'; leave it out.")

    def init(self, ppl: Any, rng_key: Any, values: Any) -> State:
        return State(rng_key, dict(values))

    def step(self, ppl: Any, state: State, params: Any, beta: Any = 1.0) -> tuple[State, Info]:
        rng_key, values = state.rng_key, dict(state.values)
        for colour in self.model.colours:
            drawn = {}
            for site in colour:
                if site in self.clamp:
                    continue
                if site == "x" and is_gaussian(self.model):
                    loc, scale = self.model.normal(ppl, params, values)
                    rng_key, noise = ppl.normal(rng_key, loc)
                    drawn[site] = loc + scale * noise / beta**0.5
                else:
                    rng_key, drawn[site] = bernoulli(ppl, rng_key, beta * self.model.logits(ppl, params, values, site))
            values |= drawn
        return State(rng_key, values), always(ppl, values)
