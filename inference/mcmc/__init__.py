"""Markov chain Monte Carlo: each library's own NUTS on a declaration's model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError
from ppl_models.datasets import Dataset
from ppl_models.language import check_engine

from ..callables import as_bound
from ..checks import check_settings
from ..data import prepare
from ..manifest import manifest


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws from p(latents | rows).

    Attributes:
        samples: By site, (chain, draw, *shape), constrained.
        diverging: Whether the transition to a draw diverged, (chain, draw).
        acceptance: Mean acceptance probability of each chain, (chain,).
        seconds: Of all chains, warm-up and compilation included.
        manifest: What ran, where and with which versions.
        model: What was drawn from, a declaration or a `Bound`; None where it is not known, and so are engine and data.
        engine: "numpyro" or "pyro".
        data: The `Dataset` whose training rows were conditioned on.
    """

    samples: dict[str, np.ndarray]
    diverging: np.ndarray
    acceptance: np.ndarray
    seconds: float
    manifest: dict[str, Any] = field(default_factory=dict)
    model: Any = None
    engine: str = ""
    data: Dataset | None = None

    def to_arviz(self, **settings: Any) -> Any:
        """An ArviZ `DataTree` of these draws; `settings` are those of `diagnostics.fit_tree.to_arviz`."""
        from ..diagnostics.fit_tree import to_arviz

        return to_arviz(self, **settings)


class Site(NamedTuple):
    """What must be known of a site before it is drawn."""

    kind: str  # "sample" or "param"
    discrete: bool


def mcmc(
    model: Any,
    data: Any,
    *,
    engine: str = "numpyro",
    num_warmup: int = 500,
    num_samples: int = 1000,
    num_chains: int = 4,
    seed: int = 0,
    dtype: str = "float32",
    device: str | None = None,
) -> Draws:
    """Draw every latent of a Bayesian declaration by the No-U-Turn sampler (Hoffman and Gelman 2014).

    Chains run side by side on NumPyro, in turn on Pyro.

    Args:
        model: A declaration, or `Bound(model, guide)`; only the model is used.
        data: A `Dataset`, or an array (N, D) of which a fifth is held out; the training rows are conditioned on.
        engine: "numpyro" or "pyro".
        num_warmup: Steps that adapt each chain and are thrown away.
        num_samples: Draws kept of each chain.
        num_chains: How many.
        seed: Of starting points and draws.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        InputError: A setting or the data cannot be used, or the model has learned parameters, discrete latents or none.
    """
    check_settings(seed=seed, dtype=dtype)
    for name, value in {"num_warmup": num_warmup, "num_samples": num_samples, "num_chains": num_chains}.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise InputError(f"expected {name} to be a whole number of at least 1, got {value!r}; change that setting.")
    check_engine(engine)
    data = prepare(data, model)
    program = as_bound(model, engine, len(data.x)).model
    shared, sampler = import_module(f"inference._{engine}"), import_module(f"inference.mcmc._{engine}")
    began = perf_counter()
    with shared.session(dtype, device) as place:
        check_latents(sampler.sites(program, data.x))
        samples, diverging, acceptance = sampler.run(program, data.x, num_warmup, num_samples, num_chains, seed)
    seconds = perf_counter() - began
    facts = {"method": "mcmc", "device": place, "dtype": dtype, "versions": shared.VERSIONS}
    told = manifest(seed=seed, wall_seconds=seconds, **facts)
    return Draws(samples, diverging, acceptance, seconds, told, model, engine, data)


def check_latents(sites: Mapping[str, Site]) -> None:
    """Raise `InputError` unless every latent is continuous, there is one, and nothing is learned."""
    for name, site in sites.items():
        if site.kind == "param":
            raise InputError(f"mcmc draws every unknown, but this model learns the parameter '{name}'; give it a prior, or "
                             "learn it by inference.fit or em.")  # fmt: skip
        if site.discrete:
            raise InputError(f"NUTS needs continuous latents, but '{name}' is discrete; sum it out of the model (marginal=True "
                             "where the declaration has it).")  # fmt: skip
    if not sites:
        raise InputError("mcmc needs a model with latents, but this one draws none; nothing is left to infer.")


def summary(draws: Draws) -> dict[str, Any]:
    """By site: mean and standard deviation over all draws, and its shape."""
    return {
        name: {"mean": v.mean((0, 1)).tolist(), "sd": v.std((0, 1)).tolist(), "shape": list(v.shape[2:])}
        for name, v in draws.samples.items()
    }
