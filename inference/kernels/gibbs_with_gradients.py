"""Gibbs with gradients: flips proposed where the energy's gradient says they help (Grathwohl et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppl_models import InputError
from ppl_models.energy import is_gaussian
from ppl_models.energy.sites import by_site

from .state import Info, State, row


@dataclass(frozen=True)
class GibbsWithGradients:
    """Metropolis-Hastings: flip unit i with q(i | x) ∝ exp(d_i(x) / 2), d_i(x) = −β (1 − 2 xᵢ) ∂E/∂xᵢ, accepted with.

        min(1, exp(−β (E(x') − E(x))) q(i | x') / q(i | x)).

    Reversible. One step flips at most one bit; `flips` of them make a sweep. d is exact, and a step is nearly the best local
    proposal, where E is of degree one in each bit and otherwise a first-order guess: any energy over bits will do.
    Source: Grathwohl et al. 2021, algorithm 1.

    Raises:
        InputError: A site is not of bits.
    """

    model: Any
    flips: int = 1

    def __post_init__(self) -> None:
        if is_gaussian(self.model):
            raise InputError(f"expected an energy over bits, got {type(self.model).__name__} over reals; use Langevin.")

    def init(self, ppl: Any, rng_key: Any, values: Any) -> State:
        return State(rng_key, dict(values))

    def step(self, ppl: Any, state: State, params: Any, beta: Any = 1.0) -> tuple[State, Info]:
        model, sites = self.model, self.model.sites

        def log_p(values: Any) -> Any:
            return -row(beta) * model.energy(ppl, params, values)

        def gains(values: Any) -> Any:
            slopes = ppl.grad(log_p, values)
            return ppl.xp.concat([(1.0 - 2.0 * values[name]) * slopes[name] for name in sites], axis=-1)

        def flip(_: Any, carry: Any) -> Any:
            rng_key, values, total = carry
            forward = gains(values) / 2
            rng_key, index = ppl.categorical(rng_key, forward)
            chosen = ppl.one_hot(index, forward.shape[-1], forward)
            proposal = {name: (1.0 - part) * values[name] + part * (1.0 - values[name])
                        for name, part in by_site(sites, chosen).items()}  # fmt: skip
            backward = gains(proposal) / 2
            log_ratio = log_p(proposal) - log_p(values) + log_q(ppl, backward, chosen) - log_q(ppl, forward, chosen)
            rng_key, u = ppl.uniform(rng_key, log_ratio)
            rng_key, taken = ppl.accept(rng_key, u, log_ratio)
            values = {name: ppl.xp.where(taken[..., None], proposal[name], values[name]) for name in sites}
            return rng_key, values, total + ppl.xp.exp(ppl.xp.clip(log_ratio, max=0.0))

        values = dict(state.values)
        start = 0.0 * next(iter(values.values()))[..., 0]
        rng_key, values, total = ppl.loop(self.flips, flip, (state.rng_key, values, start))
        return State(rng_key, values), Info(total / self.flips)


def log_q(ppl: Any, logits: Any, chosen: Any) -> Any:
    """log softmax(logits) at the one-hot entry."""
    return (logits * chosen).sum(-1) - ppl.logsumexp(logits)
