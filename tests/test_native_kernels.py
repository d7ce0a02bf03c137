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
from scipy.stats import chi2, kstest, norm

from inference.kernels import BlockGibbs, ChromaticGibbs, GibbsWithGradients, Metropolis, SequentialGibbs, Tempering
from inference.kernels.native._numpyro import EnergyKernel
from inference.kernels.native._pyro import EnergyKernel as PyroEnergyKernel
from ppl_models.energy import RBM

from .stationary import MODELS, parameters, target, words
from .test_kernels import each_engine
from .transition import index_of, states

CHAINS, TESTS = 16_384, 200
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
    agrees_in_number(index_of(model.sites, values), p)


def agrees_in_number(drawn: np.ndarray, p: np.ndarray) -> None:
    """Pearson's test of whole numbers against p at 1e-6 / TESTS, the outcomes expected less than five times taken together."""
    counts, expected = np.bincount(drawn, minlength=len(p)), len(drawn) * p
    rare = expected < 5
    if rare.any():
        expected = np.append(expected[~rare], expected[rare].sum())
        counts = np.append(counts[~rare], counts[rare].sum())
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < chi2.isf(1e-6 / TESTS, len(expected) - 1), f"Pearson's {statistic:.1f} on {len(expected) - 1} degrees"


@each_engine
@each_kernel
def test_exact_starts_do_not_drift_on_the_compiled_path(name: str, engine: str):
    """16 batches of 1,024 chains of float32, after 1, 2 and 8 steps."""
    kernel, ppl = KERNELS[name], words(engine)
    params, p = exact_law(kernel.model)
    array = jnp.asarray if engine == "numpyro" else torch.tensor
    starts = exact_draws(kernel.model, p, 16 * 1024)
    step, params = ppl.program(swept, kernel), {key: array(value) for key, value in params.items()}
    seen: dict[int, list[np.ndarray]] = {1: [], 2: [], 8: []}
    for batch in range(16):
        values = {k: array(v[1024 * batch : 1024 * (batch + 1)]) for k, v in starts.items()}
        state = kernel.init(ppl, ppl.seeded(batch), values)
        for k in range(1, 9):
            state = step(state, params)
            if k in seen:
                seen[k].append(index_of(kernel.model.sites, state.values))
    assert next(iter(state.values.values())).dtype in (jnp.float32, torch.float32)
    for found in seen.values():
        agrees_in_number(np.concatenate(found), p)


@each_kernel
def test_one_chain_alone_does_not_drift(name: str):
    """4,096 times one program of one chain, compiled, float32, one after the other: after 1, 2 and 8 steps."""
    kernel, ppl = KERNELS[name], words("numpyro")
    params, p = exact_law(kernel.model)
    params = {key: jnp.asarray(value) for key, value in params.items()}
    starts = {key: jnp.asarray(value)[:, None] for key, value in exact_draws(kernel.model, p, 4096).items()}

    def one(given: Any) -> Any:
        def step(state: Any, _: Any) -> Any:
            state = kernel.step(ppl, state, params)[0]
            return state, state.values

        return jax.lax.scan(step, kernel.init(ppl, *given), None, 8)[1]

    drawn = jax.jit(lambda keys: jax.lax.map(one, (keys, starts)))(random.split(ppl.seeded(7), 4096))
    for k in (1, 2, 8):
        agrees(kernel.model, {site: value[:, k - 1, 0] for site, value in drawn.items()}, p)


@each_kernel
def test_one_chain_alone_does_not_drift_in_pyro(name: str):
    """256 runs of one chain, float32, after 1, 2 and 8 steps: a shift of 0.2 in total variation would be found."""
    kernel, ppl = KERNELS[name], words("pyro")
    params, p = exact_law(kernel.model)
    step, params = ppl.program(swept, kernel), {key: torch.tensor(value) for key, value in params.items()}
    starts, rng_key = exact_draws(kernel.model, p, 256), ppl.seeded(11)
    seen: dict[int, list[np.ndarray]] = {1: [], 2: [], 8: []}
    for i in range(256):
        state = kernel.init(ppl, rng_key, {k: torch.tensor(v[i : i + 1]) for k, v in starts.items()})
        for k in range(1, 9):
            state = step(state, params)
            if k in seen:
                seen[k].append(index_of(kernel.model.sites, state.values))
    for found in seen.values():
        agrees_in_number(np.concatenate(found), p)


@each_engine
def test_tempering_does_not_drift_from_exact_starts(engine: str):
    """16,384 chains of three replicas: the law of all six bits together, float32, after 1, 2 and 8 steps.

    Swaps taken the wrong way would be found, a mere tenth of a swap's odds only by the matrix in `test_kernels`.
    """
    model, betas = RBM(1, 1), (1.0, 0.6, 0.2)
    kernel, ppl = Tempering(BlockGibbs(model), betas), words(engine)
    params = {key: 2.0 * np.asarray(value, np.float32) for key, value in parameters(model).items()}
    laws = [target(model, "pyro", {key: torch.tensor(value) for key, value in params.items()}, beta) for beta in betas]
    array = jnp.asarray if engine == "numpyro" else torch.tensor
    chosen = np.stack([np.random.default_rng(r).choice(4, CHAINS, p=law / law.sum()) for r, law in enumerate(laws)])
    starts = {name: array(bits[chosen].astype(np.float32)) for name, bits in states(model.sites).items()}
    state, step = kernel.init(ppl, ppl.seeded(2), starts), ppl.program(swept, kernel)
    params = {key: array(value) for key, value in params.items()}
    for k in range(1, 9):
        state = step(state, params)
        if k in (1, 2, 8):
            x, h = (np.asarray(state.values[name])[..., 0].astype(int) for name in "xh")
            agrees_in_number(np.array([16, 4, 1]) @ (2 * x + h), np.einsum("a,b,c->abc", *laws).reshape(-1))
    assert float(state.trips.sum()) > 0


@each_engine
def test_gaussian_units_do_not_drift_from_exact_starts(engine: str):
    """16,384 chains, float32, after 1, 2 and 8 sweeps: h by Pearson's test, each x by Kolmogorov and Smirnov's.

    Noise a fifth too wide would be found; the conditionals themselves are held to 1e-8 in `test_kernels`.
    """
    model = RBM(2, 2, visible="normal", centred=True)
    params = {k: np.asarray(v, np.float32) for k, v in (parameters(model) | {"x.scale": np.array([0.6, 1.7])}).items()}
    bits = states({"h": 2})["h"]
    # p(h) ∝ Π_i ∫ exp(−E) dxᵢ; E is a sum over the units of x for given h, but for what it is at their biases.
    loc = params["x.bias"] + params["x.scale"] * ((bits - params["h.offset"]) @ params["weight"].T)
    at_loc: Any = {"x": torch.tensor(loc), "h": torch.tensor(bits)}
    held: Any = {k: torch.tensor(v, dtype=torch.float64) for k, v in params.items()}
    log_p = -np.asarray(model.energy(words("pyro"), held, at_loc))  # the height of a Gaussian, whose width is the same for all
    p = np.exp(log_p - log_p.max())
    p = p / p.sum()
    rng, ppl = np.random.default_rng(4), words(engine)
    chosen = rng.choice(4, CHAINS, p=p)
    x = loc[chosen] + params["x.scale"] * rng.normal(size=(CHAINS, 2))
    array = jnp.asarray if engine == "numpyro" else torch.tensor
    kernel = BlockGibbs(model)
    state = kernel.init(ppl, ppl.seeded(4), {"x": array(x.astype(np.float32)), "h": array(bits[chosen].astype(np.float32))})
    step, params = ppl.program(swept, kernel), {key: array(value) for key, value in params.items()}
    scale = np.asarray(params["x.scale"])
    for k in range(1, 9):
        state = step(state, params)
        if k in (1, 2, 8):
            agrees_in_number(index_of({"h": 2}, state.values), p)
            for i in range(2):
                drawn = np.asarray(state.values["x"])[:, i]
                law = lambda v, i=i: norm.cdf((v[:, None] - loc[:, i]) / scale[i]) @ p  # noqa: E731
                assert kstest(drawn, law).pvalue > 1e-6 / TESTS


def swept(ppl: Any, kernel: Any, state: Any, params: Any) -> Any:
    return kernel.step(ppl, state, params)[0]


@pytest.mark.parametrize("name", ["block", "gibbs-with-gradients"])
def test_a_single_chain_of_numpyros_does_not_drift(name: str):
    """NumPyro's compiled step of one chain, from 8,192 exact starts with keys of their own."""
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
