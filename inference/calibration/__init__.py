"""Simulation-based calibration: draws of a posterior, held to the model's own simulations.

    θ ~ p(θ), x ~ p(x | θ), θ₁ … θ_L ~ q(θ | x):  the rank of θ among θ₁ … θ_L is uniform on 0 … L if q is the posterior

(Talts et al. 2018, theorem 1). Ties, as discrete latents have them, are broken at random, which keeps the rank uniform. The
ranks of many simulations are held to simultaneous bands about the uniform distribution function, see `bands`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import InputError

from ..callables import as_bound, inputs_of
from .bands import Band, band

Draws = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of simulated values among draws.

    Attributes:
        names: Of the coordinates, as in z[1].
        ranks: (replicates, coordinates), 0 to draws.
        draws: L.
        band: Where the counts of ranks below each edge must lie, all at once, with the family-wise error `alpha`.
        alpha: The chance that calibrated draws leave the band of any coordinate, all tests of the family together.
    """

    names: tuple[str, ...]
    ranks: np.ndarray
    draws: int
    band: Band
    alpha: float

    @property
    def counts(self) -> np.ndarray:
        """How many ranks lie below each edge of the band, (coordinates, edges)."""
        return (self.ranks[:, :, None] < self.band.edges).sum(0)

    @property
    def outside(self) -> np.ndarray:
        """By how many replicates each coordinate leaves the band at worst, (coordinates,); 0 inside."""
        counts = self.counts
        return np.maximum(np.maximum(self.band.low - counts, counts - self.band.high), 0).max(1)

    @property
    def calibrated(self) -> bool:
        """Whether every coordinate lies inside its band."""
        return bool((self.outside == 0).all())

    @property
    def room(self) -> np.ndarray:
        """The distance to the nearer edge of the band at the worst place, over its half width there; negative outside."""
        centre, half = (self.band.high + self.band.low) / 2, np.maximum((self.band.high - self.band.low) / 2, 0.5)
        return (1 - np.abs(self.counts - centre) / half).min(1)


def sbc(
    simulate: Callable[[int], tuple[Draws, Any]], posterior: Callable[[Any, int], Draws], *, draws: int = 99, seed: int = 0,
    alpha: float = 1e-6, family: int | None = None,
) -> Calibration:  # fmt: skip
    """Ranks of simulated latents among draws given the simulated data, held to simultaneous bands.

    The smallest fault that 1,000 replicates catch nine times in ten at alpha = 1e-6, of normal draws: a shift by 0.25 sds,
    or sds too small by a fifth or too large by a third.

    Args:
        simulate: From a seed, latents by site (replicates, *shape) and the data they gave.
        posterior: From the data and a seed, draws by site (draws, replicates, *shape), independent of each other.
        draws: L, how many of them are ranked.
        seed: Of everything random.
        alpha: The chance that calibrated draws are called uncalibrated.
        family: How many coordinates are tested in all, if these are a part of more.

    Raises:
        InputError: A latent has no draws, or their shapes do not go together.
    """
    truth, data = simulate(seed)
    found = posterior(data, seed + 1)
    ranked = ranks_of(truth, found, draws, np.random.default_rng(seed + 2))
    names, ranks = list(ranked), np.stack(list(ranked.values()), 1)
    count = family or len(names)
    return Calibration(tuple(names), ranks, draws, band(len(ranks), draws, alpha / count), alpha)


def ranks_of(truth: Draws, found: Draws, draws: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The rank of every coordinate of `truth` (replicates, *shape) among `found` (draws, replicates, *shape), by name."""
    out: dict[str, np.ndarray] = {}
    for site, value in truth.items():
        if site not in found:
            raise InputError(f"expected draws of '{site}', which was simulated, got {', '.join(found) or 'none'}; draw it too.")
        value, drawn = np.asarray(value), np.asarray(found[site])[:draws]
        if drawn.shape != (draws, *value.shape):
            raise InputError(f"expected {draws} draws of '{site}' of shape {value.shape}, got {drawn.shape}; give as many.")
        below, ties = (drawn < value).sum(0), (drawn == value).sum(0)
        rank = below + rng.integers(0, ties + 1)
        for place in np.ndindex(value.shape[1:]):
            out[f"{site}[{', '.join(map(str, place))}]" if place else site] = rank[(slice(None), *place)]
    return out


def of_guide(
    model: Any, params: Draws, columns: int, *, engine: str = "numpyro", replicates: int = 1000, draws: int = 99, seed: int = 0,
    alpha: float = 1e-6, family: int | None = None, dtype: str = "float32",
) -> Calibration:  # fmt: skip
    """Calibration of a guide's local latents given the parameters: every simulated row is a replicate.

    Args:
        model: A declaration, or `Bound(model, guide)`, with latents inside the plate over its rows, that takes only "x".
        params: Constrained, by name.
        columns: Of a row.
        engine: "numpyro" or "pyro".
        replicates: Rows.
        draws: Of each row's latents.
        seed: Of everything random.
        alpha: See `sbc`.
        family: See `sbc`.
        dtype: "float32" or "float64".

    Raises:
        InputError: The model takes more than rows.
    """
    if inputs_of(model) != ("x",):
        raise InputError(f"expected a model of plain rows x, got one of {', '.join(inputs_of(model))}; simulate its other "
                         "inputs yourself and call sbc.")  # fmt: skip
    shared, engines = (import_module(f"{package}._{engine}") for package in ("inference", "inference.evaluate"))
    pair = as_bound(model, engine)

    def simulate(seed: int) -> tuple[Draws, np.ndarray]:
        drawn = engines.predict(pair.model, params, (np.zeros((replicates, columns)),), {}, seed)
        return drawn.latents, np.asarray(drawn.draw, np.float64)

    def posterior(x: np.ndarray, seed: int) -> Draws:
        seeds = np.random.SeedSequence(seed).generate_state(draws) % 2**31
        runs = [engines.latents(*pair, params, (x,), int(one), 1, rows=replicates) for one in seeds]
        return {site: np.stack([run[site].value for run in runs]) for site in runs[0]}

    with shared.session(dtype):
        return sbc(simulate, posterior, draws=draws, seed=seed, alpha=alpha, family=family)


def by_nuts(
    model: Any, columns: int, *, rows: int, replicates: int = 1000, draws: int = 99, thin: int = 5, num_warmup: int = 300,
    statistic: Callable[[Draws], Draws] | None = None, seed: int = 0, alpha: float = 1e-6, family: int | None = None,
) -> Calibration:  # fmt: skip
    """Calibration of NumPyro's NUTS on a model whose every unknown has a prior: one data set and one chain a replicate.

    Chains of all replicates run side by side. Draws of a chain are nearly independent if thinned; what dependence is left
    makes ranks gather at both ends.

    Args:
        model: A declaration or `Bound(model, guide)`.
        columns: Of a row.
        rows: Of each data set.
        replicates: Data sets.
        draws: Kept of each chain, every `thin`-th.
        thin: Draws from one kept to the next.
        num_warmup: Steps that adapt and are thrown away.
        statistic: What is ranked, from latents by site (any leading dims, *shape): of a mixture something that no
            renumbering of its components changes, since a chain need not visit every numbering. All latents if left out.
        seed: Of everything random.
        alpha: See `sbc`.
        family: See `sbc`.
    """
    engine, shared = import_module("inference.calibration._numpyro"), import_module("inference._numpyro")
    program, seen = as_bound(model, "numpyro", rows).model, statistic or dict

    def simulate(seed: int) -> tuple[Draws, np.ndarray]:
        drawn, x = engine.simulate(program, rows, columns, replicates, seed)
        return seen(drawn), x

    def posterior(x: np.ndarray, seed: int) -> Draws:
        return seen(engine.nuts(program, x, draws, thin, num_warmup, seed))

    with shared.session("float64"):
        return sbc(simulate, posterior, draws=draws, seed=seed, alpha=alpha, family=family)


def part(found: Calibration, *names: str) -> Calibration:
    """The same of some coordinates."""
    keep = [found.names.index(name) for name in names]
    return replace(found, names=tuple(names), ranks=found.ranks[:, keep])
