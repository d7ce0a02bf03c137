"""NUTS of Pyro, one chain after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from pyro.poutine.subsample_messenger import _Subsample

from .._pyro import array, nodes
from ..svi._pyro import RandomState
from . import Site


def sites(model: Any, x: np.ndarray) -> dict[str, Site]:
    """Parameters and latents of the model."""
    with pyro.get_param_store().scope(), torch.random.fork_rng(), torch.no_grad():
        trace = poutine.trace(model).get_trace(array(x))
    return {
        name: Site(site["type"], site["type"] == "sample" and site["fn"].support.is_discrete)
        for name, site in nodes(trace)
        if site["type"] == "param"
        or (site["type"] == "sample" and not site["is_observed"] and not isinstance(site["fn"], _Subsample))
    }


def run(
    model: Any, x: np.ndarray, num_warmup: int, num_samples: int, num_chains: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Draws by site, which of them diverged, and each chain's acceptance."""
    rows, chains = array(x), []
    diverging, acceptance = np.zeros((num_chains, num_samples), bool), np.zeros(num_chains)
    states = np.random.SeedSequence(seed).generate_state(num_chains)
    for chain, state in enumerate(states):
        sampler = MCMC(NUTS(model), num_samples, warmup_steps=num_warmup, disable_progbar=True)
        with RandomState(int(state))():
            sampler.run(rows)
        chains.append({name: v.cpu().numpy() for name, v in sampler.get_samples().items()})
        told: Any = sampler.diagnostics()
        diverging[chain, told["divergences"]["chain 0"]] = True
        acceptance[chain] = told["acceptance rate"]["chain 0"]
    return {name: np.stack([one[name] for one in chains]) for name in chains[0]}, diverging, acceptance
