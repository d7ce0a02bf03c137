"""Our kernels as citizens of each library's own `MCMC`, and energies as models for the libraries' own kernels.

`from inference.kernels.native._numpyro import EnergyKernel` (a `numpyro.infer.mcmc.MCMCKernel`), or `…native._pyro` (a
`pyro.infer.mcmc.mcmc_kernel.MCMCKernel`): importing one loads that library alone. `energy_model` gives what a kernel of
theirs takes, for energies over reals the No-U-Turn sampler:

    from numpyro.infer import MCMC, NUTS
    mcmc = MCMC(NUTS(energy_model(declaration)), num_warmup=500, num_samples=500)
    mcmc.run(jax.random.key(0), params)

and on Pyro `MCMC(NUTS(energy_model(declaration, "pyro")), num_samples=500).run(params)`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ppl_models.language import check_engine

__all__ = ["energy_model"]


def energy_model(declaration: Any, engine: str = "numpyro") -> Callable[[Any], None]:
    """A plain model of the engine, called with the parameters by name: its log density is exactly −E of its sites."""
    return import_module(f"{__name__}._{check_engine(engine)}").EnergyModel(declaration)
