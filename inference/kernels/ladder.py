"""A ladder of inverse temperatures whose neighbours all exchange equally often (Syed et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import InputError
from ppl_models.energy import is_gaussian
from ppl_models.language import check_engine

from .tempering import Tempering

PILOT = 12  # replicas of a pilot whose number is not given
FIRST = 32  # steps of the first round; each has twice those of the one before


def ladder(
    kernel: Any, params: Mapping[str, Any], *, count: int | None = None, rate: float | None = None, last: float = 0.0,
    engine: str = "numpyro", rounds: int = 6, chains: int = 64, seed: int = 0, dtype: str = "float32",
    device: str | None = None,
) -> tuple[float, ...]:  # fmt: skip
    """β from 1 down to `last`, for `Tempering`: Λ(β) = Σ of what the pairs of neighbours down to β refuse, in equal parts.

    A pilot of parallel tempering estimates how often each pair of neighbours refuses, r_i = 1 − the mean chance to swap. Λ, the
    communication barrier, is Σ r_i whatever the ladder, but for terms of third order in its steps; straight lines between its
    values are cut equally, and the next round, twice as long, runs on what comes of it: so round trips are most. The ladder is
    then frozen: nothing adapts while draws are taken, and those of the pilot are gone. Replicas start at fair coins.
    Source: Syed et al. 2022, algorithm 2, equations of section 5.1.

    Args:
        kernel: What moves each replica.
        params: The model's parameters by name.
        count: How many β; or
        rate: the rate of exchange that neighbours shall have, within (0, 1): Λ / (1 − rate) steps, rounded up.
        last: The hottest β.
        engine: "numpyro" or "pyro".
        rounds: Of the pilot: 32 steps, then twice as many each time.
        chains: Side by side, over which the rates are means.
        seed: Of everything random.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        InputError: Both or neither of count and rate are given, or they, `last` or `rounds` are out of range; or units are
            real-valued, for which no start is known.
    """
    model = kernel.model
    if (count is None) == (rate is None):
        raise InputError(f"expected either count or rate, got count={count} and rate={rate}; give one of them.")
    if count is not None and count < 2:
        raise InputError(f"expected a count of at least 2 temperatures, got {count}; give 5 or more.")
    if rate is not None and not 0 < rate < 1:
        raise InputError(f"expected a rate of exchange between 0 and 1, got {rate}; give 0.5 or the like.")
    if not 0 <= last < 1 or rounds < 1:
        raise InputError(f"expected a hottest β within [0, 1) and at least one round, got {last} and {rounds}.")
    if is_gaussian(model):
        raise InputError("expected an energy over bits, got real-valued units; give Tempering a ladder such as (1, 0.7, 0.5).")
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    shared = import_module(f"inference._{engine}")
    even = np.linspace(1.0, last, count or PILOT)
    betas, barrier = even, np.zeros_like(even)
    with shared.session(dtype, device):
        given = {name: shared.array(np.asarray(value, float)) for name, value in params.items()}
        run = words.program(refusals, Tempering(kernel, tuple(map(float, even))), chains)
        key = words.seeded(seed)
        for round_ in range(rounds):
            # One program for all rounds: its ladder is the even one, times what makes that this round's.
            factor = np.divide(betas, even, out=np.ones_like(even), where=even > 0)
            key, refused = run(key, given, shared.array(factor), FIRST * 2**round_)
            barrier = np.concatenate([[0.0], np.cumsum(np.clip(np.asarray(refused, float), 1e-4, 1.0))])
            after = cut(betas, barrier, len(betas))
            betas = after if round_ + 1 < rounds or rate is None else betas
    if rate is not None:
        betas = cut(betas, barrier, int(np.ceil(barrier[-1] / (1 - rate))) + 1)
    return tuple(float(beta) for beta in betas)


def cut(betas: np.ndarray, barrier: np.ndarray, count: int) -> np.ndarray:
    """β at equal parts of the barrier, which rises along them; the ends stay."""
    inner = np.interp(np.linspace(0, barrier[-1], max(count, 2))[1:-1], barrier, betas)
    return np.concatenate([betas[:1], inner, betas[-1:]])


def refusals(
    ppl: Any, tempering: Tempering, chains: int, rng_key: Any, params: Any, factor: Any, steps: Any
) -> tuple[Any, Any]:  # fmt: skip
    """The next key, and 1 − the mean chance to swap of each pair, over the second half of an even number of steps."""
    some, values = next(iter(params.values())), {}
    for name, size in tempering.model.sites.items():
        wide = ppl.xp.zeros((len(tempering.betas), chains, size), dtype=some.dtype)
        rng_key, u = ppl.uniform(rng_key, wide)
        rng_key, values[name] = ppl.flip(rng_key, u, wide)

    def settle(_: Any, state: Any) -> Any:
        return tempering.step(ppl, state, params, factor)[0]

    def count(_: Any, carry: Any) -> Any:
        state, total = carry
        state, info = tempering.step(ppl, state, params, factor)
        return state, total + info.swap_prob

    state = ppl.loop(steps // 2, settle, tempering.init(ppl, rng_key, values))
    state, total = ppl.loop(steps // 2, count, (state, 0.0 * factor[1:]))
    return state.rng_key, 1.0 - 4.0 * total / steps  # a pair has its turn at every other step
