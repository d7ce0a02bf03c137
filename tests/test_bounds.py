"""The K-sample bound, the weighted KL and what a training step moves, against quadrature and each other."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import jax
import numpy as np
import pytest
import torch
from jax import random
from scipy import stats

from inference import fit, probe
from inference.estimators import ESTIMATORS
from inference.svi.schedule import Schedule
from ppl_models import VAE, Bound, FactorAnalysis, InputError, SigmoidBeliefNet, bind
from ppl_models.datasets import from_arrays
from ppl_models.language import ENGINES
from ppl_models.likelihoods import Normal
from ppl_models.networks import constant

from .catalogue import arrays, close, exact, random_params, shared

each_engine = pytest.mark.parametrize("engine", ENGINES)
X = np.array([[0.3], [-1.2], [2.0]])
VALUES = {"w": np.array(1.3), "a": np.array(0.5), "b": np.array(-0.2), "s": np.array(0.9)}


@dataclass(frozen=True)
class Line:
    """z ~ N(0, 1), x ~ N(w z, 1), q(z | x) = N(a x + b, s): log w has no closed-form mean of its exponential's logarithm."""

    shared: bool = False  # also a global latent, outside the plate

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        w, g = ppl.param("w", constant(ppl, 1.0)), 0.0
        if self.shared:
            g = ppl.sample("g", ppl.dist.Normal(ppl.xp.zeros(()), 1.0))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", ppl.dist.Normal(ppl.xp.zeros(()), 1.0))
            ppl.sample("x", ppl.dist.Normal(w * z + g, 1.0), obs=x[:, 0])

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        a, b = ppl.param("a", constant(ppl, 0.0)), ppl.param("b", constant(ppl, 0.0))
        s = ppl.param("s", constant(ppl, 1.0), constraint=ppl.constraints.positive)
        if self.shared:
            ppl.sample("g", ppl.dist.Normal(ppl.xp.zeros(()), 1.0))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.dist.Normal(a * x[:, 0] + b, s))


def line_bound(flat: np.ndarray, samples: int, nodes: int = 24) -> float:
    """L_K a datum by Gauss-Hermite quadrature over the K draws, at (a, b, log s, w)."""
    a, b, log_s, w = flat
    e, mass = np.polynomial.hermite_e.hermegauss(nodes)
    mass = mass / mass.sum()
    total = 0.0
    for x in X[:, 0]:
        z = a * x + b + np.exp(log_s) * e
        log_w = stats.norm.logpdf(z) + stats.norm(w * z, 1).logpdf(x) - stats.norm(a * x + b, np.exp(log_s)).logpdf(z)
        grid = np.meshgrid(*[log_w] * samples, indexing="ij")
        masses = np.meshgrid(*[mass] * samples, indexing="ij")
        total += float((np.prod(masses, axis=0) * (np.logaddexp.reduce(grid) - np.log(samples))).sum())
    return total / len(X)


def quadrature_gradient(samples: int) -> np.ndarray:
    """By central differences, in the order in which `probe` lays parameters out (a, b, s unconstrained, w)."""
    at = np.array([VALUES["a"], VALUES["b"], np.log(VALUES["s"]), VALUES["w"]])
    steps = 1e-5 * np.eye(4)
    return np.array([(line_bound(at + h, samples) - line_bound(at - h, samples)) / 2e-5 for h in steps])


@each_engine
@pytest.mark.parametrize("estimator", ["pathwise", "doubly-reparameterised"])
def test_gradients_of_the_two_sample_bound_are_unbiased(engine: str, estimator: str):
    """Smallest bias seen: (5.5 + 1.3) standard errors, at most 5 % of the gradient's norm (asserted).

    Planted: shares not squared in the doubly reparameterised one, and the guide's score left in, are 10 to 100 errors off.
    """
    truth, count = quadrature_gradient(2), 200_000 if engine == "numpyro" else 100_000
    what: dict = {"engine": engine, "bound": "iwae", "num_particles": 2, "dtype": "float64"}
    found = probe(*bind(Line(), engine), (X,), estimator, VALUES, count, **what)
    errors = found.std(0, ddof=1) / np.sqrt(len(found))
    assert 6.8 * errors.max() < 0.05 * np.linalg.norm(truth), "the test is blunt"
    assert (np.abs(found.mean(0) - truth) < 5.5 * errors).all(), (found.mean(0) - truth) / errors


def test_the_second_reparameterisation_takes_noise_out():
    """At K = 64 the guide's gradient (a, b, s) is far less noisy."""
    of = {
        name: probe(*bind(Line(), "numpyro"), (X,), name, VALUES, 4000, bound="iwae", num_particles=64)[:, :3].var(0).sum()
        for name in ("pathwise", "doubly-reparameterised")
    }
    assert of["doubly-reparameterised"] < 0.3 * of["pathwise"]


def value(engine: str, declaration: Any, params: dict, x: np.ndarray, seed: int = 0, total: int | None = None, **what: Any):
    """A bound's value and the gradient of its estimate, float64."""
    bound = bind(declaration, engine, **({} if total is None else {"total": total}))
    beta, elbo = what.pop("beta", None), import_module(f"inference.estimators._{engine}").EstimatorELBO(**what)
    with exact(engine):
        values, rows = arrays(engine, params), shared(engine).array(x)
        if engine == "numpyro":

            def loss(p: Any) -> Any:
                return elbo.evaluate(random.key(seed), p, {}, *bound, (rows,), {}, beta=beta)[0]

            out, slope = jax.jit(jax.value_and_grad(loss))(values)
            return -float(out), {n: -np.asarray(g) for n, g in slope.items()}
        torch.manual_seed(seed)
        leaves = {n: v.requires_grad_() for n, v in values.items()}
        loss = elbo.evaluate(leaves, {}, *bound, (rows,), {}, beta=beta)[0]
        slope = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return -loss.item(), {n: -g.numpy() for n, g in zip(leaves, slope, strict=True)}


def values(engine: str, declaration: Any, params: dict, x: np.ndarray, seeds: Any, **what: Any) -> np.ndarray:
    """A bound's value from each seed."""
    bound, elbo = bind(declaration, engine), import_module(f"inference.estimators._{engine}").EstimatorELBO(**what)
    with exact(engine):
        held, rows = arrays(engine, params), shared(engine).array(x)
        if engine == "numpyro":
            one = jax.jit(lambda key: -elbo.evaluate(key, held, {}, *bound, (rows,), {})[0])
            return np.array([one(random.key(seed)) for seed in seeds])
        torch.manual_seed(0)
        with torch.no_grad():
            return np.array([-elbo.evaluate(held, {}, *bound, (rows,), {})[0].item() for _ in seeds])


@each_engine
@pytest.mark.parametrize("total", [None, 20])
def test_one_sample_of_the_k_sample_bound_is_the_elbo(engine: str, total: int | None):
    rng = np.random.default_rng(1)
    x, declaration = rng.normal(size=(4, 5)), VAE(5, 2, (3,), Normal("learned"))
    params = random_params(declaration, x, rng)
    elbo, iwae = (value(engine, declaration, params, x, total=total, bound=bound) for bound in ("elbo", "iwae"))
    close(iwae[0], elbo[0], 1e-12)
    for name in params:
        close(iwae[1][name], elbo[1][name], 1e-10)
    # Doubly reparameterised, one sample leaves the path-only gradient.
    doubly = value(engine, declaration, params, x, total=total, bound="iwae", estimator="doubly-reparameterised")
    path = value(engine, declaration, params, x, total=total, estimator="path-only")
    if engine == "pyro":  # there the draws of the two are the same
        for name in params:
            close(doubly[1][name], path[1][name], 1e-10)


@each_engine
def test_bounds_rise_with_the_number_of_samples_to_log_evidence(engine: str):
    """ELBO₁ ≤ L₅ ≤ L₅₀ ≤ log p: a linear VAE's, known in closed form, each mean within its error on the right side."""
    rng = np.random.default_rng(2)
    declaration = VAE(4, 2, (), Normal(0.8))
    params = {name: 0.4 * value for name, value in random_params(declaration, np.zeros((1, 4)), rng).items()}
    row = rng.normal(size=(1, 4))
    w, b = params["decoder.0.weight"], params["decoder.0.bias"]
    known = stats.multivariate_normal(b, w.T @ w + 0.64 * np.eye(4)).logpdf(row[0])
    x, found, errors = np.repeat(row, 2000, 0), [], []
    # Rows are independent: many times the same row is as many draws. Twenty runs give the error.
    for samples in (1, 5, 50):
        means = values(engine, declaration, params, x, range(20), bound="iwae", num_particles=samples) / len(x)
        found.append(means.mean())
        errors.append(means.std(ddof=1) / np.sqrt(len(means)))
    for low, high, error in zip(found, [*found[1:], known], errors, strict=True):
        assert low < high + 4 * error
    assert found[0] < found[1] - 0.01 < found[2] - 0.02, "too alike to tell the order"
    assert known - found[2] < 0.5 * (known - found[1])


@each_engine
def test_a_plates_scale_stands_outside_the_logarithm(engine: str):
    """5 rows that stand for 50 give ten times their bound (Pyro's RenyiELBO does not: it takes weights to the tenth power)."""
    rng = np.random.default_rng(3)
    x, declaration = rng.normal(size=(5, 4)), VAE(4, 2, (), Normal(0.8))
    params = random_params(declaration, x, rng)
    for estimator in ("pathwise", "doubly-reparameterised"):
        what = {"bound": "iwae", "num_particles": 3, "estimator": estimator}
        one, ten = value(engine, declaration, params, x, **what), value(engine, declaration, params, x, total=50, **what)
        close(ten[0], 10 * one[0], 1e-12)
        for name in params:
            close(ten[1][name], 10 * one[1][name], 1e-10)


@each_engine
def test_a_global_latent_is_inside_one_logarithm_of_all_rows_and_refused_on_a_minibatch(engine: str):
    values, what = VALUES, {"bound": "iwae", "num_particles": 4}
    # log w is one number for the three rows together: L_K is below the sum of the rows' own by more than rounding.
    assert np.isfinite(value(engine, Line(shared=True), values, X, **what)[0])
    with pytest.raises(InputError, match="'g' lies outside"):
        value(engine, Line(shared=True), values, X, total=30, **what)


@each_engine
def test_the_mean_over_minibatches_is_the_full_bound(engine: str):
    """With the exact posterior, whose K-sample bound has no noise."""
    rng = np.random.default_rng(4)
    x, declaration = rng.normal(size=(6, 4)), FactorAnalysis(4, 2)
    params = random_params(declaration, x, rng)
    what = {"bound": "iwae", "num_particles": 3}
    full = value(engine, declaration, params, x, **what)[0]
    parts = [value(engine, declaration, params, part, total=6, **what)[0] for part in np.split(x, 3)]
    close(np.mean(parts), full, 1e-12)


@each_engine
def test_beta_weighs_the_latents_share_alone(engine: str):
    """The gradient is linear in β, at β = 1 the ELBO's, and the prior's parameters have none at β = 0; the value stays."""
    rng = np.random.default_rng(5)
    x, declaration = rng.integers(0, 2, (4, 5)).astype(float), SigmoidBeliefNet(5, 3)
    params = random_params(declaration, x, rng)
    plain = value(engine, declaration, params, x, estimator="enumerate")
    none, half, one = (value(engine, declaration, params, x, estimator="enumerate", beta=beta) for beta in (0.0, 0.5, 1.0))
    for name in params:
        close(one[1][name], plain[1][name], 1e-12)
        close(half[1][name], (none[1][name] + one[1][name]) / 2, 1e-10)
        if name.startswith("decoder"):  # p(x | z) keeps its weight
            close(none[1][name], plain[1][name], 1e-12)
    assert not none[1]["prior.logits"].any()
    assert plain[1]["prior.logits"].any()
    close([none[0], half[0]], [plain[0], plain[0]], 1e-12)


# --- what a step moves ------------------------------------------------------------------------------------------------

DATA = from_arrays(np.random.default_rng(6).integers(0, 2, (40, 6)).astype(float))
MODEL = VAE(6, 2, (4,))


def test_the_weight_rises_linearly_to_beta():
    schedule = Schedule(beta=0.5, anneal=2)
    np.testing.assert_allclose([schedule.weight(step, 4) for step in (0, 3, 7, 8, 100)], [1 / 16, 0.25, 0.5, 0.5, 0.5])
    assert Schedule().weight(3, 4) is None
    assert Schedule(beta=2.0).weight(3, 4) == 2.0


@each_engine
def test_frozen_parameters_stay_and_the_others_move(engine: str):
    start = fit(MODEL, DATA, engine=engine, epochs=0)
    found = fit(MODEL, DATA, engine=engine, epochs=1, freeze=["decoder.*"])
    for name, before in start.params.items():
        assert (found.params[name] == before).all() == name.startswith("decoder.")


@each_engine
def test_alternating_updates_move_the_guide_first_and_the_model_on_what_it_became(engine: str):
    """One step of the whole data: what the guide becomes does not depend on the model's update; the model's does on it."""
    joint, turns, guide_only = (
        fit(MODEL, DATA, engine=engine, epochs=1, batch=32, lr=0.1, **how)
        for how in ({}, {"alternate": True}, {"freeze": ["decoder.*"]})
    )
    encoder, decoder = "encoder.0.weight", "decoder.1.weight"
    assert (turns.params[decoder] != fit(MODEL, DATA, engine=engine, epochs=0).params[decoder]).any()
    if engine == "pyro":  # the guide moves first, on the same draws as when it moves alone
        np.testing.assert_array_equal(turns.params[encoder], guide_only.params[encoder])
    assert (turns.params[decoder] != joint.params[decoder]).any()
    longer = fit(MODEL, DATA, engine=engine, epochs=200, batch=32, lr=0.01, alternate=True)
    assert longer.history[-1]["train_elbo"].value > longer.history[1]["train_elbo"].value + 0.3


@each_engine
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"freeze": ["no.such"]}, "no parameter matches"),
        ({"freeze": ["*"]}, "every parameter is frozen"),
        ({"bound": "iwae", "beta": 2.0}, "weigh the KL of the ELBO"),
        ({"bound": "iwae", "estimator": "path-only"}, "does not estimate the K-sample bound"),
        ({"bound": "iwae", "estimator": "pathwise-kl"}, "does not estimate the K-sample bound"),
        ({"bound": "iwae", "estimator": "stock-trace"}, "leave out bound"),
        ({"num_particles": 2, "estimator": "stock-trace"}, "leave out bound"),
        ({"estimator": "doubly-reparameterised"}, "use path-only"),
        ({"bound": "renyi"}, "expected bound to be elbo or iwae"),
        ({"num_particles": 0}, "num_particles"),
        ({"anneal": -1}, "anneal"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(engine: str, settings: dict, words: str):
    with pytest.raises(InputError, match=words):
        fit(MODEL, DATA, engine=engine, epochs=1, **settings)


@each_engine
def test_alternating_needs_two_sides(engine: str):
    with pytest.raises(InputError, match="the guide has none of its own"):
        fit(FactorAnalysis(6, 2), DATA, engine=engine, epochs=1, alternate=True)


@each_engine
def test_discrete_draws_have_no_k_sample_estimator_yet(engine: str):
    with pytest.raises(InputError, match="does not estimate the K-sample bound"):
        fit(SigmoidBeliefNet(6, 2), DATA, engine=engine, epochs=1, bound="iwae")


@each_engine
def test_a_users_own_pair_trains_by_the_k_sample_bound(engine: str):
    found = fit(Bound(*bind(Line(), engine)), X, engine=engine, epochs=3, bound="iwae", num_particles=3)
    assert np.isfinite(found.history[-1]["train_elbo"].value)


def test_every_estimator_says_what_it_is_for():
    iwae = {name for name, make in ESTIMATORS.items() if "iwae" in make().unbiased_for}
    assert iwae == {"pathwise", "doubly-reparameterised"}
