"""Bounds, gradients and baselines against values that are known otherwise: closed forms, scikit-learn, plain sums."""

from dataclasses import dataclass
from importlib import import_module
from itertools import combinations
from typing import Any

import jax
import numpy as np
import pytest
import torch
from jax import random
from scipy import optimize, stats
from sklearn import mixture
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky

from inference import probe
from inference.gradients.blocks import Blocks
from ppl_models import FactorAnalysis, GaussianMixture, SigmoidBeliefNet, bind
from ppl_models.language import ENGINES
from ppl_models.likelihoods import Bernoulli, Categorical, ContinuousBernoulli, Normal
from ppl_models.networks import constant

from .catalogue import all_values, arrays, close, exact, random_params, shared

each_engine = pytest.mark.parametrize("engine", ENGINES)


def estimators(engine: str) -> Any:
    return import_module(f"inference.estimators._{engine}")


def elbo_rows(engine: str, declaration: Any, params: dict, x: np.ndarray, seed: int = 0, **static: Any) -> np.ndarray:
    """One-sample ELBO of each row from plain draws."""
    bound, rows = bind(declaration, engine, **static), estimators(engine).elbo_rows
    with exact(engine):
        params, x = arrays(engine, params), shared(engine).array(x)
        if engine == "numpyro":
            return np.asarray(jax.jit(lambda p, x: rows(random.key(seed), p, *bound, (x,), {}))(params, x))
        torch.manual_seed(seed)
        return rows(params, *bound, (x,), {}).numpy()


def elbo_values(engine: str, declaration: Any, estimator: str, params: dict, batches: Any, **static: Any) -> np.ndarray:
    """The estimator's value of the ELBO of each batch, on the scale of the full data."""
    bound, elbo = bind(declaration, engine, **static), estimators(engine).EstimatorELBO(estimator)
    with exact(engine):
        params, batches = arrays(engine, params), [shared(engine).array(x) for x in batches]
        if engine == "numpyro":
            value = jax.jit(lambda x, key: -elbo.evaluate(key, params, {}, *bound, (x,), {})[0])
            return np.array([value(x, random.key(i)) for i, x in enumerate(batches)])
        torch.manual_seed(0)
        return np.array([-elbo.evaluate(params, {}, *bound, (x,), {})[0].item() for x in batches])


# --- factor analysis: the bound is tight ------------------------------------------------------------------------------


def evidence(params: dict, x: np.ndarray) -> np.ndarray:
    """Log N(x; b, W Wᵀ + diag σ²)."""
    covariance = params["loading"] @ params["loading"].T + np.diag(params["scale"] ** 2 + np.zeros(x.shape[1]))
    return stats.multivariate_normal(params["loc"], covariance).logpdf(x)


@each_engine
@pytest.mark.parametrize("isotropic", [False, True])
def test_one_draw_from_the_exact_posterior_gives_log_evidence(engine: str, isotropic: bool):
    rng = np.random.default_rng(0)
    x, declaration = rng.normal(0, 2, (5, 6)), FactorAnalysis(6, 2, isotropic)
    params = random_params(declaration, x, rng)
    known = evidence(params, x)
    close(shared_evidence(engine, declaration, params, x), known, 1e-9)
    close(elbo_rows(engine, declaration, params, x), known, 1e-9)
    close(elbo_rows(engine, declaration, params, x, seed=1, total=20), known, 1e-9)


def shared_evidence(engine: str, declaration: Any, params: dict, x: np.ndarray) -> np.ndarray:
    with exact(engine):
        return shared(engine).log_evidence(declaration, params, (x,))


@dataclass(frozen=True)
class OwnGuide(FactorAnalysis):
    """Factor analysis whose guide N(z; V x + a, T Tᵀ), T lower triangular, has its own parameters."""

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        n = self.latent_dim
        weight = ppl.param("guide.weight", constant(ppl, 0.0, self.data_dim, n))
        bias = ppl.param("guide.bias", constant(ppl, 0.0, n))
        diagonal = ppl.param("guide.diagonal", constant(ppl, 1.0, n), constraint=ppl.constraints.positive)
        lower = ppl.param("guide.lower", constant(ppl, 0.0, n, n))
        tril = ppl.xp.tril(lower, k=-1) + diagonal * ppl.xp.eye(n)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.dist.MultivariateNormal(x @ weight + bias, scale_tril=tril))


@each_engine
def test_path_only_gradients_vanish_at_the_exact_posterior(engine: str):
    rng = np.random.default_rng(1)
    x, declaration = rng.normal(0, 2, (4, 5)), OwnGuide(5, 2)
    model = random_params(FactorAnalysis(5, 2), x, rng)
    whitened = model["loading"] / model["scale"][:, None] ** 2
    covariance = np.linalg.inv(np.eye(2) + model["loading"].T @ whitened)
    tril, weight = np.linalg.cholesky(covariance), whitened @ covariance
    params = model | {"guide.weight": weight, "guide.bias": -model["loc"] @ weight,
                      "guide.diagonal": np.diag(tril).copy(), "guide.lower": np.tril(tril, -1)}  # fmt: skip
    close(elbo_rows(engine, declaration, params, x), evidence(params, x), 1e-9)
    blocks = Blocks.of({name: v.shape for name, v in params.items()})
    own = np.concatenate([np.arange(s.start, s.stop) for name, s in blocks.slices.items() if name.startswith("guide.")])

    def norms(estimator: str, params: dict) -> np.ndarray:
        where = {"engine": engine, "dtype": "float64", "device": "cpu"}
        out = probe(*bind(declaration, engine), (x,), estimator, params, 20, 2, **where)
        assert out.shape == (20, blocks.size)
        return np.linalg.norm(out[:, own], axis=1)

    assert norms("path-only", params).max() < 1e-6
    assert norms("pathwise", params).min() > 1e-2
    # Away from the posterior the gradient is there to be followed.
    assert norms("path-only", params | {"guide.bias": params["guide.bias"] + 0.1}).min() > 1e-2


@each_engine
@pytest.mark.parametrize(
    ("declaration", "estimator"),
    [(FactorAnalysis(4, 2), "pathwise"), (FactorAnalysis(4, 2), "path-only"), (GaussianMixture(4, 2), "enumerate")],
    ids=["pathwise", "path-only", "enumerate"],
)
def test_minibatches_average_to_the_full_data(engine: str, declaration: Any, estimator: str):
    rng = np.random.default_rng(2)
    x = rng.normal(0, 2, (6, 4))
    params = random_params(declaration, x, rng)
    full = elbo_values(engine, declaration, estimator, params, [x])[0]
    close(full, shared_evidence(engine, declaration, params, x).sum(), 1e-9)
    batches = [x[list(rows)] for rows in combinations(range(6), 2)]
    parts = elbo_values(engine, declaration, estimator, params, batches, total=6)
    assert parts.std() > 0.1
    close(parts.mean(), full, 1e-9)
    if estimator == "pathwise":
        sums = [elbo_rows(engine, declaration, params, batch, total=6).sum() for batch in batches[:2]]
        close(np.array(sums) * 3, parts[:2], 1e-9)


# --- Gaussian mixture: scikit-learn -----------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal", "spherical"])
def test_the_enumerated_bound_of_a_mixture_is_that_of_scikit_learn(engine: str, covariance: Any):
    rng = np.random.default_rng(3)
    x, declaration = rng.normal(0, 2, (4, 3)), GaussianMixture(3, 2, covariance)
    params = random_params(declaration, x, rng)
    kind = {"diagonal": "diag"}.get(covariance, covariance)
    scale = params["scale"]
    if covariance in ("full", "tied"):
        factor = np.tril(params["lower"], -1) + scale[..., None] * np.eye(3)
        covariances = factor @ np.swapaxes(factor, -1, -2)
    else:
        covariances = scale**2 if covariance == "diagonal" else scale[:, 0] ** 2
    peer = mixture.GaussianMixture(2, covariance_type=kind)
    peer.weights_ = np.exp(params["logits"]) / np.exp(params["logits"]).sum()
    peer.means_, peer.covariances_ = params["locs"], covariances
    peer.precisions_cholesky_ = _compute_precision_cholesky(covariances, kind)
    known = peer.score_samples(x)
    close(elbo_values(engine, declaration, "enumerate", params, np.split(x, 4)), known, 1e-9)
    close(elbo_values(engine, declaration, "enumerate", params, [x])[0], known.sum(), 1e-9)
    close(shared_evidence(engine, declaration, params, x), known, 1e-9)
    # The guide is the posterior: one draw tells it all.
    close(elbo_rows(engine, declaration, params, x), known, 1e-9)


# --- sigmoid belief net: sums over every state ------------------------------------------------------------------------


def bernoulli(logits: np.ndarray, value: np.ndarray) -> np.ndarray:
    return (value * -np.logaddexp(0, -logits) - (1 - value) * np.logaddexp(0, logits)).sum(-1)


def affine(params: dict, name: str, x: np.ndarray) -> np.ndarray:
    return x @ params[f"{name}.0.weight"] + params[f"{name}.0.bias"]


def sbn_sums(params: dict, x: np.ndarray, layers: int) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) and the ELBO of each row by summing over every state of three units a layer."""
    states = all_values(2, 3 * layers)
    z1, z2 = states[:, :3], states[:, 3:]
    top = states[:, -3:]
    x = x[:, None]
    log_p = bernoulli(params["prior.logits"], top) + bernoulli(affine(params, "decoder", z1), x)
    log_q = bernoulli(affine(params, "encoder", x), z1)
    if layers == 2:
        log_p = log_p + bernoulli(affine(params, "decoder2", z2), z1)
        log_q = log_q + bernoulli(affine(params, "encoder2", z1), z2)
    close(np.exp(log_q).sum(-1), np.ones(len(x)), 1e-12)
    return np.logaddexp.reduce(log_p, -1), (np.exp(log_q) * (log_p - log_q)).sum(-1)


@each_engine
@pytest.mark.parametrize("layers", [1, 2])
def test_a_belief_nets_bounds_are_those_summed_by_hand(engine: str, layers: int):
    rng = np.random.default_rng(4)
    x, draws = rng.integers(0, 2, (3, 5)).astype(float), 2_000
    declaration = SigmoidBeliefNet(5, 3, layers)
    params = random_params(declaration, x, rng)
    log_p, bound = sbn_sums(params, x, layers)
    assert (bound < log_p - 0.01).all(), "too tight to tell the two apart"
    close(elbo_values(engine, declaration, "enumerate", params, x[:, None]), bound, 1e-9)
    # Rows are independent: every row many times over is as many draws.
    sampled = elbo_rows(engine, declaration, params, np.repeat(x, draws, 0)).reshape(3, draws)
    error = sampled.std(1) / np.sqrt(draws)
    assert (sampled.mean(1) <= log_p + 4 * error).all()
    assert (np.abs(sampled.mean(1) - bound) <= 5 * error).all()


# --- baselines of independent dimensions ------------------------------------------------------------------------------


@pytest.mark.parametrize(("likelihood", "values"), [(Bernoulli(), 2), (Categorical(3), 3)])
def test_discrete_baselines_sum_to_one(likelihood: Any, values: int):
    rng = np.random.default_rng(5)
    x = np.column_stack([np.zeros(7), rng.integers(0, values, (7, 2))])  # a value never seen still has its share
    outcomes = all_values(values, 3)
    log_p = likelihood.baseline(x, outcomes)
    assert log_p.shape == (values**3,)
    close(np.exp(log_p).sum(), 1.0, 1e-12)
    # Independent: what changing one column costs does not depend on the others. Often seen is likely.
    table = log_p.reshape([values] * 3)
    close(table - table[..., :1], np.broadcast_to(table[:1, :1] - table[:1, :1, :1], table.shape), 1e-12)
    assert table[:, 0, 0].argmax() == 0
    counts = np.bincount(x[:, 1].astype(int), minlength=values)
    order = np.exp(table - table[:, :1])[0, :, 0] * (counts[0] + 0.5)
    close(order, counts + 0.5, 1e-12)


@pytest.mark.parametrize("scale", [0.7, "learned", "per-dim"])
def test_normal_baseline_is_the_maximum_likelihood_fit(scale: Any):
    rng = np.random.default_rng(6)
    x, heldout = rng.normal([0, 5, -2], [1, 0.2, 3], (50, 3)), rng.normal(size=(4, 3))
    moments = np.array([stats.norm.fit(column) for column in x.T])
    spread = {"per-dim": moments[:, 1], "learned": np.sqrt((moments[:, 1] ** 2).mean())}.get(scale, scale)
    close(Normal(scale).baseline(x, heldout), stats.norm(moments[:, 0], spread).logpdf(heldout).sum(1), 1e-12)


def test_continuous_bernoulli_baseline_fits_the_mean():
    rng = np.random.default_rng(7)
    greys = rng.uniform(size=(40, 3)) ** [1, 4, 1 / 6]
    x = np.column_stack([greys, np.zeros(40), np.full(40, 0.5)])
    log_p = ContinuousBernoulli().baseline(x, np.vstack([np.zeros(5), np.eye(5)]))
    etas = log_p[1:] - log_p[0]  # log p is linear in each x with slope η
    means = np.clip(x.mean(0), 1e-3, 1 - 1e-3)
    nodes, weights = (0.5 * (v + s) for v, s in zip(np.polynomial.legendre.leggauss(200), (1, 0), strict=True))
    log_normaliser = 0.0
    for eta, mean in zip(etas, means, strict=True):
        near = np.abs(eta) < 100
        density = np.exp(eta * (nodes - (eta > 0)))
        mass = density @ weights if near else 1 / np.abs(eta)
        found = density * nodes @ weights / mass if near else (1 / -eta if eta < 0 else 1 - 1 / eta)
        close(found, mean, 1e-9)
        log_normaliser += np.log(mass) + max(eta, 0.0)
    close(log_p[0], -log_normaliser, 1e-9)
    # No other η is more likely.
    column = x[:, :1]
    best = ContinuousBernoulli().baseline(column, column).mean()
    other = optimize.minimize_scalar(
        lambda eta: -(eta * column.mean() - np.log(np.exp(eta * nodes) @ weights)), bounds=(-20, 20), method="bounded"
    )
    close(best, -other.fun, 1e-9)
