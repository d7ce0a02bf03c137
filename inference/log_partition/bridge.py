"""Bridge sampling of log Z along the replicas of parallel tempering (Bennett 1976; Meng and Wong 1996)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import InputError
from ppl_models.energy import is_gaussian
from ppl_models.language import check_engine

from ..estimate import Estimate
from ..kernels.tempering import Tempering
from .annealed import Annealed, kernel

FEWEST = 10  # chains, whose scatter is the interval


def bridge(
    model: Any, params: Mapping[str, Any], *, engine: str = "numpyro", betas: int | Sequence[float] = 11, chains: int = 50,
    draws: int = 500, warmup: int = 500, thin: int = 1, seed: int = 0, dtype: str = "float32", device: str | None = None,
) -> Annealed:  # fmt: skip
    """log Z = Σ_r d_r + units · log 2 from draws of p_r ∝ exp(−β_r E), β₀ = 1 > … > β_R = 0; d_r = log Z_r / Z_{r+1}, at which.

        mean over p_{r+1} of σ((β_{r+1} − β_r) E − d) = mean over p_r of σ(d − (β_{r+1} − β_r) E),  σ(u) = 1 / (1 + exp(−u)).

    The bridge between neighbours is the one of least variance for as many independent draws of either (Meng and Wong 1996,
    eq. 4.1; Bennett 1976, eq. 12). Neighbours should overlap: as many β as let them exchange states at a fifth of their turns
    or more, as those of `inference.kernels.ladder` do. Draws of one chain hang together, over time and between replicas;
    chains do not, and the interval is made of how they differ. Each starts at fair coins: what `warmup` leaves of that is
    not in the interval, and the estimate bounds nothing (`side` is "approximate").

    Args:
        model: A declaration of an energy over bits.
        params: Its parameters by name.
        engine: "numpyro" or "pyro".
        betas: So many inverse temperatures in equal steps, or these themselves, falling from 1 to 0.
        chains: Independent sets of replicas.
        draws: Of each replica of each chain.
        warmup: Steps before them.
        thin: Steps from draw to draw.
        seed: Of everything random.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        InputError: Units are real-valued, whose hottest replica has no law; β do not fall from 1 to 0; chains are too few.
    """
    if is_gaussian(model):
        raise InputError("expected an energy over bits, got real-valued units, which have no law at β = 0; use `annealed`.")
    ladder = tuple(map(float, np.linspace(1, 0, betas))) if isinstance(betas, int) else tuple(map(float, betas))
    if not ladder or (ladder[0], ladder[-1]) != (1.0, 0.0):
        raise InputError("expected inverse temperatures that fall from 1 to 0; give their number, or use `ladder`.")
    if draws < 1 or warmup < 0 or thin < 1:
        raise InputError(f"expected draws and thin of at least 1 and warmup of at least 0, got {draws}, {thin} and {warmup}.")
    tempering = Tempering(kernel(model), ladder)
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    shared = import_module(f"inference._{engine}")
    with shared.session(dtype, device):
        given = {name: shared.array(np.asarray(value, float)) for name, value in params.items()}
        run = words.program(recorded, tempering, chains, draws, warmup, thin)
        energies = np.asarray(run(words.seeded(seed), given)[1], np.float64)
    settings = {"betas": len(ladder), "chains": chains, "draws": draws, "warmup": warmup, "thin": thin, "seed": seed,
                "dtype": dtype, "engine": engine}  # fmt: skip
    return bridged(energies, ladder, sum(model.sites.values()) * float(np.log(2)), settings)


def recorded(
    ppl: Any, tempering: Tempering, chains: int, draws: int, warmup: int, thin: int, rng_key: Any, params: Any
) -> tuple[Any, Any]:
    """The next key, and E of the replicas at each draw, (replicas, chains, draws), from fair coins on."""
    model, some = tempering.model, next(iter(params.values()))
    values = {}
    for name, size in model.sites.items():
        wide = ppl.xp.zeros((len(tempering.betas), chains, size), dtype=some.dtype)
        rng_key, u = ppl.uniform(rng_key, wide)
        rng_key, values[name] = ppl.flip(rng_key, u, wide)

    def step(_: Any, state: Any) -> Any:
        return tempering.step(ppl, state, params)[0]

    def draw(i: Any, carry: Any) -> Any:
        state, out = carry
        state = ppl.loop(thin, step, state)
        return state, ppl.put(out, i, model.energy(ppl, params, state.values))

    state = ppl.loop(warmup, step, tempering.init(ppl, rng_key, values))
    out = ppl.xp.zeros((draws, len(tempering.betas), chains), dtype=some.dtype)
    state, out = ppl.loop(draws, draw, (state, out))
    return state.rng_key, ppl.xp.moveaxis(out, 0, -1)


def bridged(energies: np.ndarray, betas: Sequence[float], log_last: float, settings: dict[str, Any] | None = None) -> Annealed:
    """log Z at the first β from E, nats, (replicas, chains, draws), and log Z at the last.

    The chains' shares of the equations are linear in their weight: chain c says of d_r by how much its own left side exceeds
    its right, over the slope of both; the interval is Student's of the sums of these over r, one a chain.

    Raises:
        InputError: There are fewer than ten chains.
    """
    replicas, chains, draws = energies.shape
    if chains < FEWEST:
        raise InputError(f"expected at least {FEWEST} chains, which tell the error by how they differ, got {chains}.")
    value, one_each, by_draw = log_last, np.zeros(chains), np.zeros(energies.shape)
    for r in range(replicas - 1):
        hotter = betas[r + 1] - betas[r]
        cold, hot = hotter * energies[r], hotter * energies[r + 1]
        d = log_ratio(cold, hot)
        lost, won = logistic(d - cold), logistic(hot - d)
        slope = (lost * (1 - lost)).mean() + (won * (1 - won)).mean()
        value += d
        one_each += (won - lost).mean(1) / slope
        by_draw[r] -= lost / slope
        by_draw[r + 1] += won / slope
    from scipy.stats import t  # slow to import, and of use here alone

    variance = one_each.var(ddof=1) / chains
    half = float(t.isf(0.025, chains - 1)) * variance**0.5
    independent = by_draw.var(axis=(1, 2)).sum()  # of a single draw of each replica
    effective = float(independent / variance) if variance > 0 else float(chains * draws)
    return Annealed(Estimate(float(value), float(value - half), float(value + half)), "approximate", value + one_each,
                    effective, log_last, settings or {})  # fmt: skip


def log_ratio(cold: np.ndarray, hot: np.ndarray) -> float:
    """log Z / Z' of the law that the draws `cold` are from and that of `hot`, as many; both hold log q / q', unnormalised.

    The left side less the right falls as d rises, so that halving an interval finds where they meet.
    """
    low, high = min(cold.min(), hot.min()) - 1.0, max(cold.max(), hot.max()) + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if logistic(hot - middle).mean() > logistic(middle - cold).mean():
            low = middle
        else:
            high = middle
    return (low + high) / 2


def logistic(u: np.ndarray) -> np.ndarray:
    """σ(u), without overflow."""
    return 0.5 * (1 + np.tanh(u / 2))
