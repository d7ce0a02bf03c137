"""Langevin with Metropolis correction, for real-valued sites (Besag 1994; Roberts and Tweedie 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ppl_models import InputError
from ppl_models.energy import is_gaussian

from .state import Info, State, row
from .step_size import Stepped, check_step


@dataclass(frozen=True)
class Langevin:
    """Propose x' = x − ε s² β ∇E(x) + s √(2ε) n, n standard normal, and accept or stay; s is the base's scale, `x.scale`.

    The probability of acceptance is

        min(1, exp(−β (E(x') − E(x))) q(x | x') / q(x' | x)),  log q(x' | x) = −‖(x' − x) / s + ε s β ∇E(x)‖² / 4ε.

    Reversible. `step_size` is ε, in units in which the base has variance 1; left out, the state carries one, which a pilot
    adapts (`step_size.pilot`) and which starts at 1.36 D^(−1/3): best for D standard normal columns.
    Source: Roberts and Rosenthal 1998, section 2.

    Raises:
        InputError: The step size is not positive, or a site is not real-valued.
    """

    model: Any
    step_size: float | None = None
    STEPS: ClassVar[int] = 10  # between updates of training, where no number is given: one step moves little

    def __post_init__(self) -> None:
        check_step(self.step_size)
        if not is_gaussian(self.model) or set(self.model.sites) != {"x"}:
            raise InputError(f"expected an energy over reals alone, got {type(self.model).__name__} with sites of bits; use a "
                             "Gibbs kernel, or DiscreteLangevin.")  # fmt: skip

    def init(self, ppl: Any, rng_key: Any, values: Any) -> State | Stepped:
        values = dict(values)
        return State(rng_key, values) if self.step_size else Stepped(rng_key, values, ppl.constant(self.first, values["x"]))

    @property
    def first(self) -> float:
        """The step size of a state that carries none, and of the first step of a pilot."""
        return self.step_size or 1.36 / self.model.data_dim ** (1 / 3)

    def step(self, ppl: Any, state: Any, params: Any, beta: Any = 1.0) -> tuple[Any, Info]:
        here, size = state.values, getattr(state, "step_size", self.first)
        rng_key, noise = ppl.normal(state.rng_key, here["x"])
        forth = self.drift(ppl, here, params, beta, size)
        there = {"x": here["x"] + params["x.scale"] * (forth + (2 * size) ** 0.5 * noise)}
        back = self.drift(ppl, there, params, beta, size)
        log_ratio = self.log_ratio(ppl, here, there, forth, back, params, beta, size)
        rng_key, u = ppl.uniform(rng_key, log_ratio)
        rng_key, taken = ppl.accept(rng_key, u, log_ratio)
        values = {"x": ppl.xp.where(taken[..., None], there["x"], here["x"])}
        return state._replace(rng_key=rng_key, values=values), Info(ppl.xp.exp(ppl.xp.clip(log_ratio, max=0.0)))

    def drift(self, ppl: Any, values: Any, params: Any, beta: Any, size: Any) -> Any:
        """−ε s β ∇E."""
        slopes = ppl.grad(lambda values: row(beta) * self.model.energy(ppl, params, values), values)
        return -size * params["x.scale"] * slopes["x"]

    def log_ratio(
        self, ppl: Any, here: Any, there: Any, forth: Any, back: Any, params: Any, beta: Any, size: Any
    ) -> Any:
        """log of p(x') q(x | x') / (p(x) q(x' | x)), of each chain, by the drifts forth from x and back from x'."""
        change = self.model.energy(ppl, params, here) - self.model.energy(ppl, params, there)
        way = (there["x"] - here["x"]) / params["x.scale"]
        return row(beta) * change + (((way - forth) ** 2).sum(-1) - ((way + back) ** 2).sum(-1)) / (4 * size)
