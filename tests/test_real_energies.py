"""Energies over reals: annealing from their base, score matching, and the samplers of both libraries, ours and theirs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import torch
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS
from pyro.infer import MCMC as PyroMCMC
from pyro.infer import NUTS as PyroNUTS
from scipy.integrate import quad

from inference.energy_training import Objective, fit_energy
from inference.energy_training.score_matching import denoising, scales
from inference.kernels import BlockGibbs, DiscreteLangevin, GibbsWithGradients, Langevin, Stepped, Tempering, pilot
from inference.kernels.native import energy_model
from inference.kernels.native._numpyro import EnergyKernel
from inference.kernels.native._pyro import EnergyKernel as PyroEnergyKernel
from inference.log_partition import annealed, exact, from_base
from ppl_models import InputError
from ppl_models.datasets import Dataset
from ppl_models.energy import RBM, NeuralEnergy

from .catalogue import close, shared
from .catalogue import exact as session
from .stationary import words
from .test_kernels import each_engine

ONE = NeuralEnergy(1, (3,), visible="normal")
TWO = NeuralEnergy(2, (5,), visible="normal")
HIDDEN = RBM(2, 3, visible="normal")


def parameters(model: Any, gain: float = 1.0) -> dict[str, np.ndarray]:
    """Standard normal values, with scales 0.6 and 1.4."""
    rng = np.random.default_rng(7)
    start = model.initial(rng.normal(size=(9, model.data_dim)), rng)
    values = {name: gain * rng.normal(size=np.shape(value)) for name, value in start.items()}
    return values | {"x.scale": np.array([0.6, 1.4])[: model.data_dim]}


def held(engine: str, values: Any) -> dict[str, Any]:
    return {name: shared(engine).array(value) for name, value in values.items()}


def minus_energy(model: Any, values: Any, x: np.ndarray) -> np.ndarray:
    with session("pyro"):
        return -np.asarray(model.energy(words("pyro"), held("pyro", values), {"x": shared("pyro").array(x)}))


def grid(low: float, high: float, points: int) -> tuple[np.ndarray, float]:
    """The points of a square, (points², 2), and the area that each stands for."""
    line = np.linspace(low, high, points)
    return np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2), (line[1] - line[0]) ** 2


def by_quadrature(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of both columns of `TWO`."""
    x, _ = grid(-9, 9, 401)
    p = np.exp(minus_energy(TWO, values, x))
    mean = p @ x / p.sum()
    return mean, p @ (x - mean) ** 2 / p.sum()


def drawn_exactly(values: Any, count: int) -> np.ndarray:
    """Draws of `TWO` by rejection from its base: f is at most the sum of its last layer's magnitudes."""
    rng = np.random.default_rng(3)
    x = values["x.bias"] + values["x.scale"] * rng.normal(size=(60 * count, 2))
    base = values | {name: 0 * values[name] for name in TWO.readout}
    most = np.abs(values["net.1.weight"]).sum() + values["net.1.bias"].sum()
    log_ratio = minus_energy(TWO, values, x) - minus_energy(TWO, base, x)
    x = x[rng.random(len(x)) < np.exp(log_ratio - most)][:count]
    assert len(x) == count
    return x


# --- log Z ------------------------------------------------------------------------------------------------------------


def test_the_base_is_normalised():
    values = parameters(TWO)
    x, area = grid(-12, 12, 401)
    close(np.exp(minus_energy(TWO, values | {name: 0 * values[name] for name in TWO.readout}, x)).sum() * area, 1.0, 1e-7)
    bits = NeuralEnergy(3, (4,))
    values = {name: np.asarray(value) for name, value in bits.initial(np.eye(3), np.random.default_rng(0)).items()}
    close(exact(bits, values | {name: 0 * values[name] for name in bits.readout}), 0.0, 1e-12)


@each_engine
def test_mean_annealed_weight_of_a_real_unit_is_its_partition_function(engine: str):
    """E[w] = Z to 2e-5: the start and the Langevin step's noise by the trapezoid rule, acceptance by both its outcomes."""
    points, line = 501, np.linspace(-7, 7, 501)
    weight = np.exp(-(line**2) / 2) / np.exp(-(line**2) / 2).sum()
    start, noise = (v.reshape(-1, 1) for v in np.meshgrid(line, line, indexing="ij"))
    log_p = np.log(np.outer(weight, weight)).reshape(-1)
    values, total = parameters(ONE), 0.0
    with session(engine):
        array, ppl = shared(engine).array, words(engine)
        end = held(engine, values)
        base = from_base.base_of(ONE, end, {})
        draws = {"x": base["x.bias"] + base["x.scale"] * array(start)}
        for taken in (True, False):
            probabilities: list[np.ndarray] = []
            first = iter([array(noise), array(0 * noise)])

            def accept(key: Any, u: Any, log_ratio: Any, taken: bool = taken, told: list = probabilities) -> Any:
                a = np.exp(np.minimum(np.asarray(log_ratio), 0.0))
                told.append(a if taken else 1 - a)
                return key, u < (np.inf if taken else -np.inf)

            def loop(steps: int, body: Any, carry: Any) -> Any:
                for i in range(steps):
                    carry = body(i, carry)
                return carry

            own = {"normal": lambda key, like, first=first: (key, next(first)), "accept": accept, "loop": loop}
            forced = SimpleNamespace(**{**vars(ppl), **own})
            path, sizes = array(np.array([0.0, 0.4, 1.0])), array(np.array([0.5, 0.5]))
            log_w = np.asarray(from_base.weighed(forced, ONE, ppl.seeded(0), base, end, path, draws, sizes)[1])
            # The step after the last weight changes no weight.
            total += (np.exp(log_p + log_w) * probabilities[0]).sum()
    assert points**2 == len(log_p)
    truth = quad(lambda x: np.exp(minus_energy(ONE, values, np.array([[x]]))[0]), -9, 9)[0]
    close(total, truth, 2e-5)
    assert abs(np.log(truth)) > 0.1


@each_engine
def test_annealing_finds_log_z_of_reals_from_both_sides(engine: str):
    """Within 5.5 standard errors of quadrature, each below 0.03 nats: so large a fault is found."""
    values = parameters(TWO, 0.7)
    x, area = grid(-12, 12, 401)
    truth = np.log(np.exp(minus_energy(TWO, values, x)).sum() * area)
    forward = annealed(TWO, values, engine=engine, betas=40, chains=2000)
    reverse = annealed(TWO, values, engine=engine, betas=40, draws={"x": drawn_exactly(values, 2000)}, exact_draws=True)
    for found, side in ((forward, "below"), (reverse, "above")):
        error = (found.log_partition.high - found.log_partition.value) / 1.96
        assert found.side == side
        assert found.log_start == 0.0
        assert abs(found.log_partition.value - truth) < 5.5 * error < 5.5 * 0.03


# --- samplers ---------------------------------------------------------------------------------------------------------


@each_engine
def test_nuts_of_the_library_draws_from_the_energy(engine: str):
    """Means and variances within 5.5 standard errors, by effective samples, of quadrature."""
    values = parameters(TWO, 0.7)
    mean, variance = by_quadrature(values)
    with session(engine):
        params = held(engine, values)
        if engine == "numpyro":
            mcmc = MCMC(NUTS(energy_model(TWO)), num_warmup=300, num_samples=600, progress_bar=False)
            mcmc.run(jax.random.key(1), params)
            draws = np.asarray(mcmc.get_samples()["x"])
        else:
            torch.manual_seed(1)
            theirs = PyroMCMC(PyroNUTS(energy_model(TWO, "pyro")), num_samples=200, warmup_steps=100, disable_progbar=True)
            theirs.run(params)
            draws = np.asarray(theirs.get_samples()["x"])
    for power, truth in ((1, mean), (2, variance)):
        values_ = draws if power == 1 else (draws - mean) ** 2
        error = values_.std(0) / np.sqrt(np.maximum(effective_sample_size(values_[None]), 1.0))
        assert (error < (0.35 if engine == "numpyro" else 0.7) * np.sqrt(variance) ** power).all()
        assert (np.abs(values_.mean(0) - truth) < 5.5 * error).all()


@each_engine
def test_a_native_langevin_kernel_does_not_drift_from_exact_starts(engine: str):
    """8,192 chains side by side, 8 steps of a size of their own: means and squares within 5.5 standard errors (below 0.03)."""
    values, count = {name: np.float32(v) for name, v in parameters(TWO, 0.5).items()}, 8192
    start = drawn_exactly(values, count).astype(np.float32)
    kernel = Langevin(TWO, 0.3)
    if engine == "numpyro":
        mcmc = MCMC(EnergyKernel(kernel), num_warmup=0, num_samples=8, num_chains=count, chain_method="vectorized",
                    progress_bar=False)  # fmt: skip
        mcmc.run(jax.random.key(0), {k: jax.numpy.asarray(v) for k, v in values.items()}, init_params={"x": start},
                 extra_fields=("accept_prob",))  # fmt: skip
        after = np.asarray(mcmc.get_samples(group_by_chain=True)["x"][:, -1])
        taken = mcmc.get_extra_fields()["accept_prob"].mean()
    else:
        native = PyroEnergyKernel(kernel, chains=count)
        native.initial_params = {"x": torch.tensor(start)}
        theirs = PyroMCMC(native, num_samples=8, warmup_steps=0, disable_progbar=True)
        theirs.run({name: torch.tensor(value) for name, value in values.items()})
        after, taken = np.asarray(theirs.get_samples()["x"][-1]), native.diagnostics()["acceptance rate"]
    assert 0.3 < taken < 0.95
    assert np.abs(after - start).mean() > 0.3
    for power in (1, 2):
        change = (after**power).mean(0) - (start**power).mean(0)
        error = np.sqrt(((after**power).var(0) + (start**power).var(0)) / count)
        assert (np.abs(change) < 5.5 * error).all()


@each_engine
@pytest.mark.parametrize("visible", ["normal", "bernoulli"])
def test_warm_up_finds_a_step_size_and_leaves_it(visible: Any, engine: str):
    """From starts of its own, at the rate that is best: 57.4 % ± 5 of proposals taken after warm-up, the step size frozen."""
    model, gain = NeuralEnergy(20, (10,), visible=visible), 0.4 if visible == "normal" else 0.8
    rng = np.random.default_rng(0)
    values = {name: np.float32(v + gain * rng.normal(size=np.shape(v))) for name, v in
              model.initial(rng.integers(0, 2, (50, 20)), rng).items()}  # fmt: skip
    values |= {} if visible == "bernoulli" else {"x.scale": np.exp(rng.normal(size=20)).astype(np.float32)}
    kernel = Langevin(model) if visible == "normal" else DiscreteLangevin(model)
    if engine == "numpyro":
        native = EnergyKernel(kernel)
        mcmc = MCMC(native, num_warmup=120, num_samples=30, num_chains=100, chain_method="vectorized", progress_bar=False)
        mcmc.run(jax.random.key(0), {k: jax.numpy.asarray(v) for k, v in values.items()},
                 extra_fields=("accept_prob", "step_size"))  # fmt: skip
        x, extra = np.asarray(mcmc.get_samples()["x"]), mcmc.get_extra_fields()
        taken, sizes = float(extra["accept_prob"].mean()), np.asarray(extra["step_size"])
        assert (sizes == sizes[0]).all()
        assert sizes[0] != np.float32(kernel.first)
    else:
        native = PyroEnergyKernel(kernel, chains=100)
        theirs = PyroMCMC(native, num_samples=30, warmup_steps=120, disable_progbar=True)
        theirs.run({name: torch.tensor(value) for name, value in values.items()})
        x, taken = np.asarray(theirs.get_samples()["x"]).reshape(-1, 20), float(torch.stack(native._taken[120:]).mean())
    assert abs(taken - 0.574) < 0.05
    assert (len(np.unique(x)) == 2) == (visible == "bernoulli")


@each_engine
def test_a_pilot_is_pure_and_leaves_other_kernels_alone(engine: str):
    values = parameters(TWO, 0.5)
    with session(engine):
        ppl, params = words(engine), held(engine, values)
        x = {"x": shared(engine).array(np.random.default_rng(0).normal(size=(200, 2)))}
        kernel = Langevin(TWO)
        state: Any = kernel.init(ppl, ppl.seeded(0), x)
        found = ppl.program(piloted, kernel)(state, params)
        assert isinstance(found, Stepped)
        assert float(state.step_size) == pytest.approx(kernel.first)
        after, info = ppl.program(stepped, kernel)(found, params)
        assert float(after.step_size) == float(found.step_size)
        assert abs(float(info.accept_prob.mean()) - 0.574) < 0.12
        given = Langevin(TWO, 0.3).init(ppl, ppl.seeded(0), x)
        assert pilot(ppl, Langevin(TWO, 0.3), given, params) is given


def piloted(ppl: Any, kernel: Any, state: Any, params: Any) -> Any:
    return pilot(ppl, kernel, state, params)


def stepped(ppl: Any, kernel: Any, state: Any, params: Any) -> Any:
    return kernel.step(ppl, state, params)


# --- score matching ---------------------------------------------------------------------------------------------------

GAUSS = NeuralEnergy(1, (), visible="normal")  # f is affine: N(b + s² w, s²)


@each_engine
def test_score_matching_of_a_normal_density_is_its_closed_form(engine: str):
    """½ [σ² (v + (m − μ)² + σ²) / s⁴ − 2 σ² / s² + 1], and its gradient: noise ±1 has the moments that it reads."""
    x, sigma = np.random.default_rng(0).normal(1.0, 2.0, 7), 0.8
    rows, noise = np.repeat(x, 2)[:, None], np.tile([1.0, -1.0], 7)[:, None]
    values = {"net.0.weight": np.array([[0.3]]), "net.0.bias": np.array([0.1]), "x.bias": np.array([0.4]),
              "x.scale": np.array([1.3])}  # fmt: skip

    def closed(b: float, w: float, s: float) -> float:
        gap = x.var() + (x.mean() - b - s**2 * w) ** 2 + sigma**2
        return (sigma**2 * gap / s**4 - 2 * sigma**2 / s**2 + 1) / 2

    with session(engine):
        ppl, array = words(engine), shared(engine).array

        def loss(params: Any) -> Any:
            return denoising(ppl, GAUSS, params, array(rows), array(noise), array(np.array([sigma]))).mean()

        close(ppl.stop_gradient(loss(held(engine, values))), closed(0.4, 0.3, 1.3), 1e-12)
        slopes = {name: np.asarray(v).item() for name, v in ppl.grad(loss, held(engine, values)).items()}
    point, step = np.array([0.4, 0.3, 1.3]), 1e-5
    for i, name in enumerate(("x.bias", "net.0.weight", "x.scale")):
        move = step * np.eye(3)[i]
        close(slopes[name], (closed(*(point + move)) - closed(*(point - move))) / (2 * step), 1e-8)
    assert slopes["net.0.bias"] == 0.0


@pytest.mark.parametrize("model", [TWO, HIDDEN], ids=["network", "rbm"])
def test_score_matching_is_one_number_on_both_engines_and_that_of_finite_differences(model: Any):
    """On injected noise: parity to 1e-12 of value and gradient, scores by differences of the free energy to 1e-7."""
    values, rng = parameters(model), np.random.default_rng(0)
    x, noise, sigma = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), np.array([0.3, 0.7])
    found, slopes = {}, {}
    for engine in ("numpyro", "pyro"):
        with session(engine):
            ppl, array = words(engine), shared(engine).array

            def loss(params: Any, ppl: Any = ppl, array: Any = array) -> Any:
                return denoising(ppl, model, params, array(x), array(noise), array(sigma))

            found[engine] = np.asarray(ppl.stop_gradient(loss(held(engine, values))))
            slopes[engine] = {name: np.asarray(v) for name, v in ppl.grad(loss, held(engine, values)).items()}
    close(found["numpyro"], found["pyro"], 1e-12)
    for name in values:
        close(slopes["numpyro"][name], slopes["pyro"][name], 1e-11)

    def by_hand(values: Any) -> np.ndarray:
        at, out = x + sigma * noise, np.zeros(len(x))
        for i in range(2):
            step = 1e-5 * np.eye(2)[i]
            ends = [free_of(model, values, at + sign * step) for sign in (1, -1)]
            out = out + (sigma[i] * (ends[0] - ends[1]) / 2e-5 + noise[:, i]) ** 2 / 2
        return out

    close(found["pyro"], by_hand(values), 1e-7)
    for name in values:
        direction = rng.normal(size=np.shape(values[name]))
        ends = [by_hand(values | {name: values[name] + sign * 1e-3 * direction}).sum() for sign in (1, -1)]
        close((slopes["pyro"][name] * direction).sum(), (ends[0] - ends[1]) / 2e-3, 2e-4)


def free_of(model: Any, values: Any, x: np.ndarray) -> np.ndarray:
    """−F(x), nats."""
    if model is TWO:
        return minus_energy(TWO, values, x)
    z = (x - values["x.bias"]) / values["x.scale"]
    odds = x / values["x.scale"] @ values["weight"] + values["h.bias"]
    return -(z**2).sum(-1) / 2 + np.logaddexp(0, odds).sum(-1)


@each_engine
def test_score_matching_fits_the_density_of_the_blurred_data(engine: str):
    """Of N(3, 4) with noise of its own deviation: mean 3 and variance 8, within 0.15 and 6 %; a fit to the data has 4."""
    x = 3 + 2 * np.random.default_rng(0).normal(size=(4000, 1))
    data = Dataset("normal", x, x[:50], "none")
    found = fit_energy(GAUSS, data, method="score-matching", engine=engine, noise=1.0, epochs=40, batch=500, lr=0.03)
    variance = float(found.params["x.scale"][0]) ** 2
    assert abs(variance / (2 * x.var()) - 1) < 0.06
    assert abs(float(found.params["x.bias"][0] + variance * found.params["net.0.weight"][0, 0]) - x.mean()) < 0.15
    assert found.chains is None
    close(scales(x, 1.0), [x.std()], 1e-12)


@pytest.mark.parametrize("engine", ["numpyro"])  # that both follow the same gradient is shown above
def test_a_ring_is_learned_by_score_matching(engine: str):
    """Held-out log-likelihood, normalised by quadrature, at least 0.5 nats above the best Gaussian's."""
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 3000), 2 + 0.2 * rng.normal(size=3000)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    data = Dataset("ring", x[:2500], x[2500:], "none")
    found = fit_energy(NeuralEnergy(2, (32, 32), visible="normal"), data, method="score-matching", engine=engine, noise=0.2,
                       epochs=20, batch=250, lr=0.02)  # fmt: skip
    values = {name: np.asarray(value, float) for name, value in found.params.items()}
    points, area = grid(-8, 8, 301)
    log_z = np.log(np.exp(minus_energy(found.model, values, points)).sum() * area)
    reached = minus_energy(found.model, values, data.heldout).mean() - log_z
    centred = data.heldout - data.x.mean(0)
    cov = np.cov(data.x.T)
    gauss = -(np.log(2 * np.pi) + np.linalg.slogdet(cov)[1] / 2 + ((centred @ np.linalg.inv(cov)) * centred).sum(1) / 2).mean()
    assert reached > gauss + 0.5
    assert found.history[-1]["objective"] > found.history[0]["objective"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Langevin(NeuralEnergy(2)), ["over reals", "DiscreteLangevin"]),
        (lambda: Langevin(HIDDEN), ["over reals", "RBM"]),
        (lambda: Langevin(TWO, -1.0), ["above 0", "-1.0"]),
        (lambda: DiscreteLangevin(TWO), ["over bits", "Langevin"]),
        (lambda: DiscreteLangevin(NeuralEnergy(2), 0.0), ["above 0", "0.0"]),
        (lambda: GibbsWithGradients(TWO), ["over bits", "Langevin"]),
        (lambda: EnergyKernel(Tempering(BlockGibbs(RBM(2, 2)), (1.0, 0.5))), ["one temperature", "inner kernel"]),
        (lambda: PyroEnergyKernel(Tempering(BlockGibbs(RBM(2, 2)), (1.0, 0.5))), ["one temperature", "inner kernel"]),
        (lambda: Objective(NeuralEnergy(2), None, "score-matching"), ["real-valued", "visible=normal"]),
        (lambda: Objective(NeuralEnergy(2), None, "pseudo-likelihood"), ["log odds", "NeuralEnergy"]),
        (lambda: Objective(TWO, None, "exact"), ["binary units", "annealed"]),
        (lambda: exact(TWO, {}), ["binary units", "annealed"]),
        (lambda: annealed(TWO, parameters(TWO), base={"x.bias": np.zeros(2)}), ["'x.bias'", "leave it out"]),
        (lambda: fit_energy(TWO, np.zeros((9, 2)), method="score-matching", noise=0.0), ["noise above 0", "0.0"]),
    ],
)
def test_what_does_not_apply_is_refused(make: Any, said: list[str]):
    with pytest.raises(InputError) as caught:
        make()
    assert all(word in str(caught.value) for word in said), caught.value
