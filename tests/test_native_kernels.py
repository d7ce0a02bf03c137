"""Our kernels inside each library's own MCMC: the same draws' law, from exact starts, and the libraries' contracts.

Family-wise false-alarm rate 1e-6; with 16,384 chains a shift of 0.06 in total variation on 32 states would be found.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import random
from numpyro.infer import MCMC, Gibbs
from numpyro.infer.mcmc import MCMCKernel
from pyro.infer import MCMC as PyroMCMC
from scipy.stats import chi2

from inference.kernels import BlockGibbs, ChromaticGibbs, GibbsWithGradients, Metropolis, SequentialGibbs
from inference.kernels.native._numpyro import EnergyKernel
from inference.kernels.native._pyro import EnergyKernel as PyroEnergyKernel
from ppl_models.energy import RBM

from .stationary import MODELS, parameters, target, words
from .test_kernels import each_engine
from .transition import index_of, states

CHAINS, TESTS = 16_384, 60
KERNELS = {
    "block": BlockGibbs(RBM(3, 2)),
    "chromatic": ChromaticGibbs(MODELS["ring"]),
    "sequential": SequentialGibbs(MODELS["hidden"]),
    "metropolis": Metropolis(MODELS["ring-ising"]),
    "gibbs-with-gradients": GibbsWithGradients(RBM(2, 2), flips=2),
}
each_kernel = pytest.mark.parametrize("name", KERNELS)


def exact_law(model: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    params = {key: np.asarray(value, np.float32) for key, value in parameters(model).items()}
    return params, target(model, "pyro", {key: torch.tensor(value) for key, value in params.items()}, 1.0)


def exact_draws(model: Any, p: np.ndarray, count: int) -> dict[str, np.ndarray]:
    chosen = np.random.default_rng(1).choice(len(p), count, p=p / p.sum())
    return {name: bits[chosen].astype(np.float32) for name, bits in states(model.sites).items()}


def agrees(model: Any, values: Any, p: np.ndarray) -> None:
    """Pearson's test of the states' counts against p at 1e-6 / TESTS."""
    counts = np.bincount(index_of(model.sites, values), minlength=len(p))
    statistic = ((counts - counts.sum() * p) ** 2 / (counts.sum() * p)).sum()
    assert statistic < chi2.isf(1e-6 / TESTS, len(p) - 1), f"Pearson's statistic is {statistic:.1f} on {len(p) - 1} degrees"


@each_engine
@pytest.mark.parametrize("steps", [1, 2, 8])
@each_kernel
def test_exact_starts_do_not_drift_on_the_compiled_path(name: str, steps: int, engine: str):
    kernel = KERNELS[name]
    params, p = exact_law(kernel.model)
    ppl = words(engine)
    array = jnp.asarray if engine == "numpyro" else torch.tensor
    state = kernel.init(ppl, ppl.seeded(steps), {k: array(v) for k, v in exact_draws(kernel.model, p, CHAINS).items()})
    step, params = ppl.program(swept, kernel), {key: array(value) for key, value in params.items()}
    for _ in range(steps):
        state = step(state, params)
    assert next(iter(state.values.values())).dtype in (jnp.float32, torch.float32)
    agrees(kernel.model, state.values, p)


def swept(ppl: Any, kernel: Any, state: Any, params: Any) -> Any:
    return kernel.step(ppl, state, params)[0]


@each_kernel
def test_a_single_chain_does_not_drift(name: str):
    """The compiled step of one chain, from 8,192 exact starts with keys of their own."""
    kernel = KERNELS[name]
    params, p = exact_law(kernel.model)
    params = {key: jnp.asarray(value) for key, value in params.items()}
    starts = {key: jnp.asarray(value) for key, value in exact_draws(kernel.model, p, 8192).items()}
    native = EnergyKernel(kernel)

    def one(rng_key: Any, z: Any) -> Any:
        state = native.init(rng_key, 0, z, (params,), {})
        for _ in range(2):
            state = native.sample(state, (params,), {})
        return state.z

    agrees(kernel.model, jax.jit(jax.vmap(one))(random.split(random.key(5), 8192), starts), p)


@pytest.mark.parametrize("progress_bar", [False, True])
def test_vectorised_chains_of_numpyro(progress_bar: bool):
    kernel = KERNELS["block"]
    params, p = exact_law(kernel.model)
    mcmc = MCMC(EnergyKernel(kernel), num_warmup=0, num_samples=4, num_chains=2048, chain_method="vectorized",
                progress_bar=progress_bar)  # fmt: skip
    starts = exact_draws(kernel.model, p, 2048)
    mcmc.run(random.key(0), params, init_params=starts, extra_fields=("potential_energy", "accept_prob"))
    draws, extra = mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields(group_by_chain=True)
    assert draws["x"].shape == (2048, 4, 3)
    agrees(kernel.model, {name: value[:, -1] for name, value in draws.items()}, p)
    energy = kernel.model.energy(words("numpyro"), params, draws)
    np.testing.assert_allclose(extra["potential_energy"], energy, rtol=1e-5, atol=1e-5)
    assert (extra["accept_prob"] == 1).all()


@pytest.mark.parametrize("method", ["sequential", "vectorized"])
def test_blocks_of_numpyros_gibbs_condition_on_each_other(method: str):
    """h | x and x | h by two kernels of ours: together they must be the whole sweep's law."""
    model = RBM(3, 2)
    params, p = exact_law(model)
    given_x, given_h = (EnergyKernel(BlockGibbs(model, clamp=(name,))) for name in "xh")
    mcmc = MCMC(Gibbs([(given_x, ["h"]), (given_h, ["x"])]), num_warmup=100, num_samples=20_000, num_chains=1,
                chain_method=method, progress_bar=False, thinning=10)  # fmt: skip
    mcmc.run(random.key(3), params)
    agrees(model, mcmc.get_samples(), p)


def test_a_clamped_site_is_no_part_of_the_draws():
    model = RBM(3, 2)
    params, _ = exact_law(model)
    x = np.array([1.0, 0.0, 1.0], np.float32)
    mcmc = MCMC(EnergyKernel(BlockGibbs(model, clamp=("x",))), num_warmup=10, num_samples=4096, progress_bar=False)
    mcmc.run(random.key(0), params, _gibbs_sites={"x": x})
    draws = mcmc.get_samples()
    assert set(draws) == {"h"}
    odds = x @ params["weight"] + params["h.bias"]
    error = 5.5 * 0.5 / np.sqrt(4096)
    np.testing.assert_allclose(draws["h"].mean(0), 1 / (1 + np.exp(-odds)), atol=error)


def test_pyros_mcmc_runs_chains_side_by_side():
    kernel = KERNELS["block"]
    params, p = exact_law(kernel.model)
    native = PyroEnergyKernel(kernel, chains=2048)
    native.initial_params = {name: torch.tensor(v) for name, v in exact_draws(kernel.model, p, 2048).items()}
    mcmc = PyroMCMC(native, num_samples=4, warmup_steps=1, disable_progbar=True)
    mcmc.run({key: torch.tensor(value) for key, value in params.items()})
    draws = mcmc.get_samples()
    assert tuple(draws["x"].shape) == (4, 2048, 3)
    agrees(kernel.model, {name: value[-1] for name, value in draws.items()}, p)
    assert native.diagnostics() == {"acceptance rate": 1.0}


@each_kernel
def test_the_log_density_of_the_model_is_minus_the_energy(name: str):
    """As NumPyro itself computes it, so that stock kernels and ArviZ see the same target."""
    from numpyro.infer.util import log_density

    kernel = KERNELS[name]
    params, p = exact_law(kernel.model)
    z = {site: value[0] for site, value in exact_draws(kernel.model, p, 1).items()}
    value, _ = log_density(EnergyKernel(kernel).model, (params,), {}, z)
    np.testing.assert_allclose(value, -kernel.model.energy(words("numpyro"), params, z), rtol=1e-6, atol=1e-6)
    assert isinstance(EnergyKernel(kernel), MCMCKernel)
