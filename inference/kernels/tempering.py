"""Parallel tempering: replicas at several temperatures that exchange their states (Swendsen and Wang 1986; Geyer 1991)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ppl_models import InputError

from .state import State


class Replicas(NamedTuple):
    """Sites by name, (replicas, chains, size), the first replica at the first β; `walker` tells whose state each holds.

    `heading` is +1 of a walker that last touched the first β and −1 of one that last touched the last, 0 of neither;
    `trips` counts, for each chain, the walkers that came home to the first β from the last.
    """

    rng_key: Any
    values: Any
    step: Any
    walker: Any
    heading: Any
    trips: Any


class Exchanges(NamedTuple):
    """`swap_prob` (replicas − 1,): of each pair of neighbours, its mean over chains, 0 of pairs whose turn it was not.

    `accept_prob` (replicas,) is the inner kernel's, its mean over chains.
    """

    swap_prob: Any
    accept_prob: Any


def check_plain(kernel: Any) -> Any:
    """The kernel, if its chains are of one temperature.

    Raises:
        InputError: They are not.
    """
    if isinstance(kernel, Tempering):
        raise InputError("expected a kernel of chains at one temperature, got Tempering, whose state holds several replicas; "
                         "give its inner kernel, or scan its `step`.")  # fmt: skip
    return kernel


@dataclass(frozen=True)
class Tempering:
    """On Π_r p(x_r)^βᵣ / Z(βᵣ): a step of `kernel` in each replica, then exchanges of neighbours r, r + 1 with probability.

        min(1, exp((βᵣ − βᵣ₊₁) (E(x_r) − E(x_{r+1})))),

    even pairs at even steps and odd pairs at odd ones (which makes walkers travel rather than diffuse; Okabe et al. 2001).
    The energies are those of the joint over all sites: those of a marginal, tempered as β F(x), would be another target.

    Raises:
        InputError: There are fewer than two temperatures, or they do not fall from the first on.
    """

    kernel: Any
    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.betas) < 2 or any(a <= b for a, b in zip(self.betas, self.betas[1:], strict=False)) or self.betas[-1] < 0:
            raise InputError(f"expected at least two inverse temperatures, falling and none below 0, got {self.betas}; "
                             "give 1.0 first and the hottest last.")  # fmt: skip

    @property
    def model(self) -> Any:
        return self.kernel.model

    def init(self, ppl: Any, rng_key: Any, values: Any) -> Replicas:
        """`values` (replicas, chains, size) a site."""
        none = ppl.xp.zeros_like(next(iter(values.values()))[..., 0])
        walker = none + ppl.constant(range(len(self.betas)), none)[:, None]
        heading = none + ppl.constant([1, *[0] * (len(self.betas) - 2), -1], none)[:, None]
        return Replicas(rng_key, dict(values), none[0, 0], walker, heading, none[0])

    def step(self, ppl: Any, state: Replicas, params: Any, beta: Any = 1.0) -> tuple[Replicas, Exchanges]:
        xp, model = ppl.xp, self.kernel.model
        betas = beta * ppl.constant(self.betas, state.trips)
        inner, info = self.kernel.step(ppl, State(state.rng_key, state.values), params, betas[:, None, None])
        energy = model.energy(ppl, params, inner.values)
        log_ratio = (betas[:-1] - betas[1:])[:, None] * (energy[:-1] - energy[1:])
        turn = (state.step + ppl.constant(range(len(self.betas) - 1), state.trips)) % 2 == 0
        rng_key, u = ppl.uniform(inner.rng_key, log_ratio)
        rng_key, taken = ppl.accept(rng_key, u, log_ratio)
        up = taken & turn[:, None]

        def exchanged(x: Any) -> Any:
            swap = up.reshape(*up.shape, *(1,) * (x.ndim - 2))
            off = xp.zeros_like(swap[:1])
            from_below = xp.concat([swap, off], axis=0)  # replica r takes the state of r + 1
            from_above = xp.concat([off, swap], axis=0)
            below, above = xp.roll(x, -1, axis=0), xp.roll(x, 1, axis=0)
            return xp.where(from_below, below, xp.where(from_above, above, x))

        values = {name: exchanged(value) for name, value in inner.values.items()}
        walker, heading = exchanged(state.walker), exchanged(state.heading)
        home = heading[0] < 0
        trips = state.trips + xp.where(home, 1.0, 0.0)
        heading = xp.concat([xp.ones_like(heading[:1]), heading[1:-1], -xp.ones_like(heading[:1])], axis=0)
        probability = xp.exp(xp.clip(log_ratio, max=0.0)).mean(1) * xp.where(turn, 1.0, 0.0)
        after = Replicas(rng_key, values, state.step + 1, walker, heading, trips)
        return after, Exchanges(probability, info.accept_prob.mean(-1))
