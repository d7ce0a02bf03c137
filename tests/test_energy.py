"""Energies: the same on both engines, conditionals that are theirs, and relations that must hold between declarations."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pyro
import pytest
import torch
from numpyro import handlers
from pyro import poutine
from scipy.integrate import quad

from inference.kernels import GibbsWithGradients, Langevin, State
from inference.log_partition import exact, unnormalised
from ppl_models.energy import RBM, BoltzmannMachine, DeepBoltzmannMachine, NeuralEnergy, free_energy
from ppl_models.language import language

from .catalogue import ENGINES, close, shared
from .catalogue import exact as session
from .stationary import CONDITIONAL, MODELS, RING, energies, given, parameters, target, words
from .test_kernels import each_engine
from .transition import matrix, states

NORMAL = RBM(2, 3, visible="normal")
CENTRED = RBM(2, 3, visible="normal", centred=True)


def normal_parameters(model: RBM) -> dict[str, np.ndarray]:
    return parameters(model) | {"x.scale": np.array([0.6, 1.7])}


@pytest.mark.parametrize("name", MODELS)
def test_both_engines_have_one_energy_and_one_law(name: str):
    found = []
    for engine in ENGINES:
        with session(engine):
            found.append(energies(MODELS[name], engine, given(MODELS[name], engine)))
    close(*found, 1e-12)


@each_engine
@pytest.mark.parametrize("name", CONDITIONAL)
def test_logits_are_differences_of_the_energy(name: str, engine: str):
    """Of every unit in every state: E at 0 less E at 1, the rest as it is."""
    model, ppl = MODELS[name], words(engine)
    with session(engine):
        params, array = given(model, engine), shared(engine).array
        bits = states(model.sites)
        arrays = {site: array(v) for site, v in bits.items()}
        if hasattr(model, "colours"):
            logits = {site: np.asarray(model.logits(ppl, params, arrays, site)) for site in model.sites}
        else:
            flat = model.logits(ppl, model.prepared(ppl, params), model.join(ppl, arrays))
            logits = {site: np.asarray(v) for site, v in model.split(flat).items()}
        for site, size in model.sites.items():
            for i in range(size):
                ends = []
                for value in (0.0, 1.0):
                    changed = bits[site].copy()
                    changed[:, i] = value
                    ends.append(np.asarray(model.energy(ppl, params, arrays | {site: array(changed)})))
                close(logits[site][:, i], ends[0] - ends[1], 1e-12)


def test_one_sparse_machine_serves_float32_and_then_float64():
    """JAX keeps a narrowed copy of an int64 index that a compiled program still holds: under x64 it no longer fits."""
    model, ppl, kept = BoltzmannMachine(4, edges=RING), words("numpyro"), []
    for dtype in ("float32", "float64"):
        with shared("numpyro").session(dtype, "cpu"):
            params, x = given(model, "numpyro"), shared("numpyro").array(states(model.sites)["x"])
            kept.append(jax.jit(lambda x, params=params: model.logits(ppl, model.prepared(ppl, params), x)))
            close(np.asarray(kept[-1](x)), np.asarray(model.logits(ppl, model.prepared(ppl, params), x)), 1e-5)


@each_engine
@pytest.mark.parametrize("model", [NORMAL, CENTRED], ids=["plain", "centred"])
def test_gaussian_conditional_and_free_energy_against_quadrature(model: RBM, engine: str):
    """p(x | h) by ∫ x p and ∫ x² p of exp(−E), and F(x) as the sum over h, to 1e-8."""
    params = normal_parameters(model)
    bits = states({"h": 3})["h"]
    with session(engine):
        array, ppl = shared(engine).array, words(engine)
        held = {name: array(v) for name, v in params.items()}
        for h in bits[[0, 3, 6]]:
            loc, scale = (np.broadcast_to(np.asarray(v), (1, 2)) for v in model.normal(ppl, held, {"h": array(h[None])}))
            for i in range(2):

                def density(v: float, i: int = i, h: np.ndarray = h, power: int = 0) -> float:
                    x = np.zeros((1, 2))
                    x[0, i] = v
                    values = {"x": array(x), "h": array(h[None])}
                    return v**power * float(np.exp(-np.asarray(model.energy(ppl, held, values))[0]))

                ends = float(loc[0, i] - 9 * scale[0, i]), float(loc[0, i] + 9 * scale[0, i])
                moments = [quad(density, *ends, args=(i, h, k), epsabs=1e-12, epsrel=1e-11)[0] for k in range(3)]
                mean = moments[1] / moments[0]
                close(loc[0, i], mean, 1e-8)
                close(scale[0, i] ** 2, moments[2] / moments[0] - mean**2, 1e-8)
        x = np.random.default_rng(0).normal(size=(4, 2))
        total = np.stack([np.asarray(-model.energy(ppl, held, {"x": array(x), "h": array(np.tile(h, (4, 1)))})) for h in bits])
        close(-np.asarray(free_energy(ppl, model, held, {"x": array(x)})), np.logaddexp.reduce(total), 1e-12)


# --- relations --------------------------------------------------------------------------------------------------------


@each_engine
def test_an_rbm_is_a_deep_machine_of_one_layer_and_a_graph_with_hidden_units(engine: str):
    rbm, params = MODELS["rbm"], parameters(MODELS["rbm"])
    deep = {"x.bias": params["x.bias"], "h1.bias": params["h.bias"], "h1.weight": params["weight"]}
    edges = tuple((i, 3 + j) for i in range(3) for j in range(2))
    flat = {"bias": np.concatenate([params["x.bias"], params["h.bias"]]), "coupling": params["weight"].ravel()}
    x = states({"x": 3})["x"]
    laws = [exact(rbm, params, engine), exact(DeepBoltzmannMachine(3, (2,)), deep, engine)]
    close(*laws, 1e-12)
    close(exact(BoltzmannMachine(3, 2, edges), flat, engine), laws[0], 1e-12)
    free = (unnormalised(rbm, params, x, engine=engine), unnormalised(DeepBoltzmannMachine(3, (2,)), deep, x, engine=engine))
    close(*free, 1e-12)


@each_engine
def test_centred_and_plain_parameters_of_one_law(engine: str):
    """b' = b − W λ, c' = c − Wᵀ μ: the law of a centred machine is that of a plain one."""
    model, params = MODELS["rbm-centred"], parameters(MODELS["rbm-centred"])
    plain = {"weight": params["weight"], "x.bias": params["x.bias"] - params["weight"] @ params["h.offset"],
             "h.bias": params["h.bias"] - params["x.offset"] @ params["weight"]}  # fmt: skip
    with session(engine):
        array = shared(engine).array
        laws = [target(one, engine, {k: array(v) for k, v in held.items()}, 1.0)
                for one, held in ((model, params), (RBM(2, 2), plain))]  # fmt: skip
    close(*laws, 1e-12)


@each_engine
def test_spins_and_bits_of_one_law(engine: str):
    """s = 2x − 1: J' = 4 J, b' = 2 b − 2 Σⱼ Jᵢⱼ."""
    ising, params = MODELS["dense-ising"], parameters(MODELS["dense-ising"])
    lower = np.tril(params["coupling"], -1)
    bits = {"coupling": 4 * lower, "bias": 2 * params["bias"] - 2 * (lower + lower.T).sum(1)}
    with session(engine):
        array = shared(engine).array
        laws = [target(one, engine, {k: array(v) for k, v in held.items()}, 1.0)
                for one, held in ((ising, params), (BoltzmannMachine(4), bits))]  # fmt: skip
    close(*laws, 1e-12)


@each_engine
@pytest.mark.parametrize("name", ["hidden", "ring-ising"])
def test_temperature_divides_the_energy_and_flipping_all_spins_flips_the_biases(name: str, engine: str):
    model = MODELS[name]
    cold = BoltzmannMachine(model.data_dim, model.num_hidden, model.edges, model.spins)
    with session(engine):
        params = given(model, engine)
        warm, other = (energies(one, engine, params) for one in (model, cold))
        close(warm * model.temperature, other, 1e-12)
        turned = params | {"bias": -params["bias"]}
        close(energies(model, engine, turned)[::-1], warm, 1e-12)  # `states` counts up: backwards, every bit is flipped


@each_engine
def test_relabelled_units_have_the_same_energies(engine: str):
    order = np.random.default_rng(0).permutation(4)
    place = np.argsort(order)
    ring, params = MODELS["ring"], parameters(MODELS["ring"])
    moved = BoltzmannMachine(4, edges=tuple((int(place[i]), int(place[j])) for i, j in ring.edges or ()))
    with session(engine):
        array = shared(engine).array
        here = energies(ring, engine, given(ring, engine))
        x = states({"x": 4})["x"]
        there = moved.energy(words(engine), {"coupling": array(params["coupling"]), "bias": array(params["bias"][order])},
                             {"x": array(x[:, order])})  # fmt: skip
    close(np.asarray(there), here, 1e-12)


# --- as programs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*MODELS.values(), NORMAL], ids=[*MODELS, "normal"])
def test_sites_plates_and_parameters_are_the_same_in_both_engines(model: Any):
    with handlers.seed(rng_seed=0):
        left = handlers.trace(model.model).get_trace(language("numpyro"))
    pyro.clear_param_store()
    with torch.no_grad():
        right = poutine.trace(model.model).get_trace(language("pyro"))
    told = [{name: tuple(np.shape(site["value"])) for name, site in sites if site["type"] in ("sample", "param")
             and name not in ("_INPUT", "_RETURN")} for sites in (left.items(), right.nodes.items())]  # fmt: skip
    units = {f"{name}_units" for name in model.sites}
    assert {name for name in told[1]} - units == set(told[0]) == {*parameters(model), *model.sites, "energy"}
    for name, size in model.sites.items():
        assert told[0][name] == told[1][name] == (size,)
    with torch.no_grad():
        right.compute_log_prob()
        total = sum(float(site["log_prob_sum"]) for site in right.nodes.values() if "log_prob_sum" in site)
        values = {name: right.nodes[name]["value"] for name in model.sites}
        params = {name: right.nodes[name]["value"] for name in parameters(model)}
        np.testing.assert_allclose(total, -float(model.energy(words("pyro"), params, values)), rtol=1e-5, atol=1e-5)


def test_layers_and_their_neighbours():
    model = DeepBoltzmannMachine(4, (3, 2, 1))
    assert model.colours == (("h1", "h3"), ("x", "h2"))
    assert all(abs(list(model.sites).index(a) - list(model.sites).index(b)) == 2 for c in model.colours for a, b in pairwise(c))


# --- neural energies --------------------------------------------------------------------------------------------------

NEURAL = NeuralEnergy(3, (5,))
REAL = NeuralEnergy(2, (5,), visible="normal")


def neural_parameters(model: NeuralEnergy) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    out = {}
    for name, value in model.initial(rng.integers(0, 2, (9, model.data_dim)), rng).items():
        out[name] = (1.5 if "weight" in name else 0.5) * rng.normal(size=np.shape(value))
    return out | ({"x.scale": np.array([0.6, 1.4])} if model.visible == "normal" else {})


def test_a_neural_energy_is_the_same_on_both_engines_and_has_the_base_it_says():
    for model in (NEURAL, REAL):
        params, x = neural_parameters(model), np.random.default_rng(0).normal(size=(4, model.data_dim))
        found = []
        for engine in ENGINES:
            with session(engine):
                array, held = shared(engine).array, {k: shared(engine).array(v) for k, v in params.items()}
                found.append(np.asarray(model.energy(words(engine), held, {"x": array(x)})))
                flat = held | {name: 0 * value for name, value in held.items() if name.startswith("net")}
                base = np.asarray(model.energy(words(engine), flat, {"x": array(x)}))
        close(*found, 1e-12)
        hidden = np.tanh(x @ params["net.0.weight"] + params["net.0.bias"])
        close(base - found[0], (hidden @ params["net.1.weight"] + params["net.1.bias"])[:, 0], 1e-12)


@each_engine
def test_a_neural_energy_over_bits_is_drawn_from_by_gibbs_with_gradients(engine: str):
    """πT = π, where the gradient is only a first guess at what a flip does."""
    with session(engine):
        array, ppl = shared(engine).array, words(engine)
        params = {name: array(value) for name, value in neural_parameters(NEURAL).items()}
        kernel = GibbsWithGradients(NEURAL)
        T = matrix(lambda ppl, state: kernel.step(ppl, state, params), ppl, array, NEURAL.sites)
        pi = target(NEURAL, engine, params, 1.0)
    close(T.sum(1), np.ones(8), 1e-12)
    assert np.abs(pi @ T - pi).max() < 1e-12
    flow = pi[:, None] * T
    assert np.abs(flow - flow.T).max() < 1e-12


@each_engine
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_langevin_is_in_detailed_balance(beta: float, engine: str):
    """π(x) q(x'|x) a(x, x') = π(x') q(x|x') a(x', x) on random pairs, q and π from their formulas alone, to 1e-8."""
    kernel, rng = Langevin(REAL, 0.3), np.random.default_rng(0)
    with session(engine):
        array, ppl = shared(engine).array, words(engine)
        params = {name: array(value) for name, value in neural_parameters(REAL).items()}
        here, there = ({"x": array(rng.normal(size=(50, 2)))} for _ in range(2))

        def log_p(values: Any) -> np.ndarray:
            return -beta * np.asarray(REAL.energy(ppl, params, values))

        def slope(values: Any) -> np.ndarray:
            out = np.zeros((50, 2))
            for i in range(2):
                step = np.zeros(2)
                step[i] = 1e-5
                ends = [np.asarray(values["x"]) + sign * step for sign in (1, -1)]
                out[:, i] = (log_p({"x": array(ends[0])}) - log_p({"x": array(ends[1])})) / 2e-5
            return out

        def log_q(a: Any, b: Any) -> np.ndarray:
            scale = np.array([0.6, 1.4])
            move = (np.asarray(b["x"]) - np.asarray(a["x"])) / scale - 0.3 * scale * slope(a)
            return -(move**2).sum(-1) / (4 * 0.3)

        wanted = log_p(there) - log_p(here) + log_q(there, here) - log_q(here, there)
        forth, back = (kernel.drift(ppl, x, params, beta, 0.3) for x in (here, there))
        close(np.asarray(kernel.log_ratio(ppl, here, there, forth, back, params, beta, 0.3)), wanted, 1e-8)


@each_engine
def test_langevin_does_not_drift_from_exact_starts(engine: str):
    """20,000 chains that start from the law (by rejection from the base) after 20 steps: means and squares within 5.5 s.e."""
    kernel, count = Langevin(REAL, 0.2), 20_000
    values = neural_parameters(REAL)
    values["net.1.weight"] = 0.3 * values["net.1.weight"]
    with session(engine):
        array, ppl = shared(engine).array, words(engine)
        params = {name: array(value) for name, value in values.items()}
        flat = params | {name: 0 * value for name, value in params.items() if name.startswith("net")}
        rng = np.random.default_rng(3)
        x = values["x.bias"] + values["x.scale"] * rng.normal(size=(400_000, 2))
        gain = np.asarray(REAL.energy(ppl, flat, {"x": array(x)})) - np.asarray(REAL.energy(ppl, params, {"x": array(x)}))
        most = np.abs(values["net.1.weight"]).sum() + values["net.1.bias"].sum()
        start = x[rng.random(len(x)) < np.exp(gain - most)][:count]
        assert len(start) == count
        step, state = ppl.program(one_step, kernel), State(ppl.seeded(0), {"x": array(start)})
        taken = []
        for _ in range(20):
            state, info = step(state, params)
            taken.append(float(np.asarray(info.accept_prob).mean()))
        after = np.asarray(state.values["x"])
    assert 0.3 < np.mean(taken) < 0.95
    for power in (1, 2):
        change = (after**power).mean(0) - (start**power).mean(0)
        error = np.sqrt(((after**power).var(0) + (start**power).var(0)) / count)
        assert (np.abs(change) < 5.5 * error).all()
    assert np.abs(after - start).mean() > 0.5


def one_step(ppl: Any, kernel: Any, state: Any, params: Any) -> Any:
    return kernel.step(ppl, state, params)
