"""Training an energy with JAX: an epoch, sweeps of the chains included, is one compiled scan over minibatches."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import optax
from jax import lax, random

from .._numpyro import frozen, thawed
from ..kernels import _numpyro as words
from .objective import Objective, recentred

__all__ = ["epoch", "frozen", "optimiser", "start", "thawed"]


class Carry(NamedTuple):
    """All that one update hands to the next."""

    params: Any
    optimiser: Any
    chains: Any  # a state of the kernel; None where none persist
    rng_key: Any


def optimiser(given: Any, lr: float) -> Any:
    """What was given, an optax transformation, or Adam."""
    return adam(lr) if given is None else given


@lru_cache(maxsize=32)
def adam(lr: float) -> Any:
    """One object for equal step sizes, so that equal fits share a compiled epoch."""
    return optax.adam(lr)


def start(opt: Any, params: Any, chains: Any, seed: int) -> Carry:
    return Carry(params, opt.init(params), chains, words.seeded(seed))


@lru_cache(maxsize=32)
def epoch(objective: Objective, opt: Any, batch: int, centring: float) -> Any:
    """(carry, rows) -> (carry, what each step tells), compiled once for equal set-ups and shapes."""

    def step(carry: Carry, x: Any) -> tuple[Carry, Any]:
        rng_key, chains, slopes, told = objective.step(words, carry.rng_key, carry.params, carry.chains, x)
        slopes = {name: 0 * slope if name.endswith(".offset") else slope for name, slope in slopes.items()}
        updates, state = opt.update(slopes, carry.optimiser, carry.params)
        params = optax.apply_updates(carry.params, updates)
        if centring:
            params = recentred(words, objective.model, params, x, centring)
        return Carry(params, state, chains if objective.persistent else None, rng_key), told

    def run(carry: Carry, rows: Any) -> tuple[Carry, Any]:
        rng_key, shuffle = random.split(carry.rng_key)
        steps = rows.shape[0] // batch
        order = random.permutation(shuffle, rows.shape[0])[: steps * batch].reshape(steps, batch)
        return lax.scan(lambda carry, index: step(carry, rows[index]), carry._replace(rng_key=rng_key), order)

    return jax.jit(run)
