"""NUTS of NumPyro, all chains in one compiled program."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from numpyro import handlers
from numpyro.infer import MCMC, NUTS

from .._numpyro import array, key
from . import Site


def sites(model: Any, x: np.ndarray) -> dict[str, Site]:
    """Parameters and latents of the model, from shapes alone."""
    found: dict[str, Site] = {}

    def run(x: Any) -> None:
        for name, site in handlers.trace(handlers.seed(model, 0)).get_trace(x).items():
            if site["type"] == "param" or (site["type"] == "sample" and not site["is_observed"]):
                found[name] = Site(site["type"], site["type"] == "sample" and site["fn"].support.is_discrete)

    jax.eval_shape(run, array(x))
    return found


def run(
    model: Any, x: np.ndarray, num_warmup: int, num_samples: int, num_chains: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Draws by site, which of them diverged, and each chain's acceptance."""
    sampler = MCMC(NUTS(model), num_warmup=num_warmup, num_samples=num_samples, num_chains=num_chains,
                   chain_method="vectorized", progress_bar=False)  # fmt: skip
    sampler.run(key(seed), array(x), extra_fields=("diverging", "accept_prob"))
    latents = sites(model, x)
    samples = {n: np.asarray(v) for n, v in sampler.get_samples(group_by_chain=True).items() if n in latents}
    extra = sampler.get_extra_fields(group_by_chain=True)
    return samples, np.asarray(extra["diverging"]), np.asarray(extra["accept_prob"]).mean(1)
