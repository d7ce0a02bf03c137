"""Where training arrives: closed-form optima, the truth that made the data, and the same numbers from a run's files."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_iris

from inference import evaluate, fit
from inference.runs import reopen, results, store
from inference.source import Source
from ppl_models import VAE, FactorAnalysis
from ppl_models.datasets import from_arrays
from ppl_models.language import ENGINES
from ppl_models.likelihoods import Normal

each_engine = pytest.mark.parametrize("engine", ENGINES)


@each_engine
def test_a_linear_vae_reaches_probabilistic_pca(engine: str):
    """Its marginal N(b, W Wᵀ + σ² I) within 1e-2 nats of the closed-form maximum on iris, 2 latents (Lucas et al. 2019)."""
    x = load_iris().data
    x = x - x.mean(0)
    model, data = VAE(4, 2, (), Normal("learned")), from_arrays(x, heldout=x)
    settings: dict = {"engine": engine, "dtype": "float64", "seed": 1}
    # From noise as wide as the data the smaller factor dies first and takes long to return: begin below it.
    init = {**fit(model, data, epochs=0, **settings).params, "likelihood.scale": np.array(0.3)}
    settings |= {"batch": 150, "lr": 0.02, "estimator": "pathwise-kl", "num_particles": 4}
    found = fit(model, data, epochs=1500, init=init, **settings)
    w, b, s = (found.params[name] for name in ("decoder.0.weight", "decoder.0.bias", "likelihood.scale"))
    value = stats.multivariate_normal(b, w.T @ w + s**2 * np.eye(4)).logpdf(x).mean()
    assert -2.699752 - 1e-2 < value < -2.699752 + 1e-6
    # Its loadings span the principal plane.
    plane = np.linalg.svd(x - x.mean(0))[2][:2]
    spanned = np.linalg.svd(w)[2][:2]
    assert np.linalg.svd(plane @ spanned.T)[1].min() > 0.99


def known(isotropic: bool) -> tuple[Any, Any, float]:
    """5,000 rows of a factor analyser, 2,000 more held out, and the true mean log p of the latter."""
    rng = np.random.default_rng(3)
    D, K = 8, 3
    loading, loc = rng.normal(size=(D, K)), rng.normal(0, 3, D)
    scale = np.full(D, 0.7) if isotropic else rng.uniform(0.4, 1.5, D)
    x = rng.normal(size=(7000, K)) @ loading.T + loc + scale * rng.normal(size=(7000, D))
    truth = stats.multivariate_normal(loc, loading @ loading.T + np.diag(scale**2)).logpdf(x[5000:]).mean()
    return FactorAnalysis(D, K, isotropic), from_arrays(x[:5000], heldout=x[5000:]), float(truth)


@each_engine
@pytest.mark.parametrize("isotropic", [False, True], ids=["factor-analysis", "ppca"])
def test_svi_reaches_the_truth_that_made_the_data(engine: str, isotropic: bool):
    """Within 0.05 nats of the true held-out log-likelihood; one factor fewer is 0.1 or more below."""
    model, data, truth = known(isotropic)
    found = fit(model, data, engine=engine, epochs=20, batch=250, lr=0.02)
    assert abs(found.heldout_log_likelihood.value - truth) < 0.05
    fewer = FactorAnalysis(model.data_dim, model.latent_dim - 1, isotropic)
    if engine == "numpyro":
        assert fit(fewer, data, engine=engine, epochs=20, batch=250, lr=0.02).heldout_log_likelihood.value < truth - 0.1


@each_engine
@pytest.mark.parametrize("name", ["vae", "factor_analysis"])
def test_a_run_reopened_gives_the_same_log_p_to_the_bit(engine: str, name: str, tmp_path):
    settings = ("latent_dim=2",) + (("hidden=8",) if name == "vae" else ())
    source = Source(name, "digits", engine, settings)
    declaration, rows = source.open()
    found = fit(declaration, rows, engine=engine, epochs=2, lr=0.01)
    before = evaluate(found, num_samples=8, rows=20, seed=4)
    store(tmp_path / "run", found, results(found, source, "svi", None, "ppl fit", before), source, 0)
    again = reopen(tmp_path / "run")
    assert again.model == declaration
    assert again.params.keys() == found.params.keys()
    for key, value in found.params.items():
        assert value.dtype == again.params[key].dtype
        np.testing.assert_array_equal(value, again.params[key])
    after = evaluate(again, num_samples=8, rows=20, seed=4)
    assert after.log_likelihood == before.log_likelihood
    assert after.elbo == before.elbo
