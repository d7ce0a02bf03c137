"""NumPyro's NUTS on many data sets at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as xp
import numpy as np
from jax import random
from numpyro import handlers
from numpyro.infer import MCMC, NUTS

from .._numpyro import array, key

DEPTH = 5


def simulate(model: Any, rows: int, columns: int, replicates: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Latents by site (replicates, *shape), and the data sets that they gave, (replicates, rows, columns)."""

    def one(rng_key: Any) -> Any:
        run_key, draw_key = random.split(rng_key)
        trace = handlers.trace(handlers.seed(model, run_key)).get_trace(xp.zeros((rows, columns)))
        sites = {name: site for name, site in trace.items() if site["type"] == "sample"}
        latents = {name: site["value"] for name, site in sites.items() if not site["is_observed"]}
        (observed,) = (site for site in sites.values() if site["is_observed"])
        return latents, observed["fn"].sample(draw_key).reshape(rows, columns)

    latents, x = jax.jit(jax.vmap(one))(random.split(key(seed), replicates))
    return {name: np.asarray(value) for name, value in latents.items()}, np.asarray(x)


def nuts(model: Any, x: np.ndarray, draws: int, thin: int, num_warmup: int, seed: int) -> dict[str, np.ndarray]:
    """A chain for every data set, all at once: draws by site, (draws, replicates, *shape).

    All wait for the longest trajectory, so that trees are kept shallow; that costs independence of draws, not their law.
    """

    def one(rng_key: Any, rows: Any) -> Any:
        sampler = MCMC(NUTS(model, max_tree_depth=DEPTH), num_warmup=num_warmup, num_samples=draws * thin, thinning=thin,
                       num_chains=1, progress_bar=False, jit_model_args=False)  # fmt: skip
        sampler.run(rng_key, rows)
        return sampler.get_samples()

    found = jax.jit(jax.vmap(one))(random.split(key(seed), len(x)), array(x))
    return {name: np.moveaxis(np.asarray(value), 1, 0) for name, value in found.items()}
