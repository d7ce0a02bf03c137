"""`EstimatorELBO` as the loss of the libraries' own `SVI`, on models and guides that know nothing of this project."""

from __future__ import annotations

from math import log, sqrt
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions
import numpyro.infer.autoguide
import optax
import pyro
import pyro.distributions
import pyro.infer.autoguide
import pytest
import torch

from inference import Enumerate, LeaveOneOut, PathOnly, Score
from inference.estimators import _numpyro, _pyro
from ppl_models import InputError

from .command import ENGINES

LIBRARIES = {
    "numpyro": SimpleNamespace(
        ppl=numpyro, dist=numpyro.distributions, auto=numpyro.infer.autoguide, array=jnp.asarray, xp=jnp,
        ELBO=_numpyro.EstimatorELBO, stock=numpyro.infer.Trace_ELBO, positive=numpyro.distributions.constraints.positive,
    ),
    "pyro": SimpleNamespace(
        ppl=pyro, dist=pyro.distributions, auto=pyro.infer.autoguide, array=torch.as_tensor, xp=torch,
        ELBO=_pyro.EstimatorELBO, stock=pyro.infer.Trace_ELBO, positive=torch.distributions.constraints.positive,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_random_state():
    pyro.clear_param_store()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    pyro.clear_param_store()


def train(engine: str, model: Any, guide: Any, loss: Any, args: tuple, steps: int = 600, lr: float = 0.1) -> dict[str, Any]:
    """Stock SVI with Adam, its step size falling to a hundredth; the constrained parameters."""
    if engine == "numpyro":
        optimiser = optax.adam(optax.exponential_decay(lr, steps, 0.01))
        svi = numpyro.infer.SVI(model, guide, optimiser, loss=loss)
        return svi.run(jax.random.PRNGKey(0), steps, *args, progress_bar=False).params
    svi = pyro.infer.SVI(model, guide, pyro.optim.ClippedAdam({"lr": lr, "lrd": 0.01 ** (1 / steps)}), loss=loss)
    for _ in range(steps):
        svi.step(*args)
    return {name: value.detach() for name, value in pyro.get_param_store().items()}


# Autoguides: conjugate models, the library drawing the plate's rows.

REALS = np.random.default_rng(0).normal(1, 1, 40).astype(np.float32)
COUNTS = np.array([0, 1, 1, 2], np.float32)


def normal(engine: str, rows: int) -> tuple[Any, np.ndarray, float, float]:
    """m ~ N(0, 2²), x ~ N(m, 1): the model, its data, and the mean and sd of the posterior, which is normal."""
    lib, precision = LIBRARIES[engine], 1 / 4 + len(REALS)

    def model(x):
        m = lib.ppl.sample("m", lib.dist.Normal(0.0, 2.0))
        with lib.ppl.plate("rows", len(x), subsample_size=rows) as i:
            lib.ppl.sample("x", lib.dist.Normal(m, 1.0), obs=x[i])

    return model, REALS, float(REALS.sum() / precision), 1 / sqrt(precision)


def gamma(engine: str, rows: int) -> tuple[Any, np.ndarray, float, float]:
    """m ~ Gamma(2, 1), x ~ Poisson(m), posterior Gamma(a, b): the lognormal nearest to it, mean and sd of log m.

    E[(a) u − b eᵘ] + log s, u ~ N(μ, s²), is greatest where a = b exp(μ + s²/2) and s² = 1 / a.
    """
    lib, a, b = LIBRARIES[engine], 2 + float(COUNTS.sum()), 1 + len(COUNTS)

    def model(x):
        m = lib.ppl.sample("m", lib.dist.Gamma(2.0, 1.0))
        with lib.ppl.plate("rows", len(x), subsample_size=rows) as i:
            lib.ppl.sample("x", lib.dist.Poisson(m), obs=x[i])

    return model, COUNTS, log(a / b) - 1 / (2 * a), 1 / sqrt(a)


AUTO = [
    (normal, "AutoNormal", "pathwise", 10),
    (normal, "AutoNormal", {"m*": Score(LeaveOneOut(8))}, 20),
    (normal, "AutoDiagonalNormal", None, 10),
    (normal, "AutoDiagonalNormal", "path-only", 10),
    (gamma, "AutoNormal", "path-only", 4),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("make", "guide", "spec", "rows"), AUTO, ids=lambda x: getattr(x, "__name__", str(x)))
def test_autoguides_reach_the_posterior(engine, make, guide, spec, rows):
    lib = LIBRARIES[engine]
    model, x, loc, scale = make(engine, rows)
    guide = getattr(lib.auto, guide)(model)
    params = train(engine, model, guide, lib.ELBO(spec), (lib.array(x),))
    quantiles = [0.5, 0.841344746]
    found = guide.quantiles(params, quantiles) if engine == "numpyro" else guide.quantiles(quantiles)
    middle, upper = (float(q) for q in found["m"])
    if make is gamma:
        middle, upper = log(middle), log(upper)
    # To a fifth of the posterior's width (minibatches move it), and a tenth of the width itself.
    assert abs(middle - loc) < 0.2 * scale
    assert abs((upper - middle) / scale - 1) < 0.1


@pytest.mark.parametrize("engine", ENGINES)
def test_closed_form_kl_where_guide_and_prior_are_normal(engine):
    lib = LIBRARIES[engine]
    model, x, loc, scale = normal(engine, 10)

    def guide(x):
        width = lib.ppl.param("width", lib.array(1.0), constraint=lib.positive)
        lib.ppl.sample("m", lib.dist.Normal(lib.ppl.param("loc", lib.array(0.0)), width))

    params = train(engine, model, guide, lib.ELBO("pathwise-kl"), (lib.array(x),))
    assert abs(float(params["loc"]) - loc) < 0.2 * scale
    assert abs(float(params["width"]) / scale - 1) < 0.1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", [None, "score"], ids=str)
def test_a_point_mass_guide_reaches_the_mode(engine, spec):
    """A point mass is no draw: whatever the estimator, its place has a gradient."""
    lib = LIBRARIES[engine]
    model, x, loc, _ = normal(engine, 40)
    guide = lib.auto.AutoDelta(model)
    params = train(engine, model, guide, lib.ELBO(spec), (lib.array(x),), steps=300)
    found = guide.median(params) if engine == "numpyro" else guide.median()
    assert abs(float(found["m"]) - loc) < 1e-2


# A discrete and a continuous latent in a plate, their guide's parameters one a row.

ROWS, PRIOR = 12, 0.3
SEEN = np.random.default_rng(2).normal(1, 1.2, (ROWS, 2)).astype(np.float32)
POSTERIOR = 1 / (1 + np.exp(-(log(PRIOR / (1 - PRIOR)) + 2 * SEEN[:, 0] - 2)))  # N(x; 2, 1) against N(x; 0, 1)


def mixed(engine: str, batch: int) -> tuple[Any, Any]:
    """z ~ Bernoulli(0.3), x ~ N(2 z, 1); w ~ N(0, 1), y ~ N(w, 1), w | y ~ N(y / 2, 1 / 2): rows by the library."""
    lib = LIBRARIES[engine]

    def model(x):
        with lib.ppl.plate("rows", ROWS, subsample_size=batch) as i:
            z = lib.ppl.sample("z", lib.dist.Bernoulli(PRIOR))
            w = lib.ppl.sample("w", lib.dist.Normal(0.0, 1.0))
            lib.ppl.sample("x", lib.dist.Normal(2.0 * z, 1.0), obs=x[i, 0])
            lib.ppl.sample("y", lib.dist.Normal(w, 1.0), obs=x[i, 1])

    def guide(x):
        logits = lib.ppl.param("logits", lib.xp.zeros(ROWS))
        loc = lib.ppl.param("loc", lib.xp.zeros(ROWS))
        width = lib.ppl.param("width", lib.xp.ones(ROWS), constraint=lib.positive)
        with lib.ppl.plate("rows", ROWS, subsample_size=batch) as i:
            lib.ppl.sample("z", lib.dist.Bernoulli(logits=logits[i]))
            lib.ppl.sample("w", lib.dist.Normal(loc[i], width[i]))

    return model, guide


MIXED = [
    ({"z": Score(LeaveOneOut(4)), "w": PathOnly()}, ROWS),
    ({"z": Score(LeaveOneOut(4)), "w": "path-only"}, 6),
    ({"z": Enumerate(), "w": "pathwise-kl"}, 6),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("spec", "batch"), MIXED, ids=["together", "subsampled", "enumerated"])
def test_estimators_by_site_reach_the_posterior_of_each_row(engine, spec, batch):
    lib = LIBRARIES[engine]
    params = train(engine, *mixed(engine, batch), lib.ELBO(spec), (lib.array(SEEN),))
    found = {name: np.asarray(value) for name, value in params.items()}
    assert np.abs(1 / (1 + np.exp(-found["logits"])) - POSTERIOR).max() < 0.05
    assert np.abs(found["loc"] - SEEN[:, 1] / 2).max() < 0.2 * sqrt(0.5)
    assert np.abs(found["width"] / sqrt(0.5) - 1).max() < 0.15


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", ["leave-one-out", {"z": "enumerate", "w": "pathwise-kl"}, "score"], ids=str)
def test_the_mean_loss_is_the_stock_elbos(engine, spec):
    lib = LIBRARIES[engine]
    (model, guide), x, count = mixed(engine, 6), lib.array(SEEN), 20_000 if engine == "numpyro" else 400
    params = {"logits": lib.array(np.linspace(-2, 2, ROWS, dtype=np.float32)), "loc": lib.array(SEEN[:, 1]),
              "width": lib.xp.ones(ROWS) / 2}  # fmt: skip
    means, errors = [], []
    for offset, loss in enumerate((lib.ELBO(spec), lib.stock())):
        if engine == "numpyro":
            keys = jax.random.split(jax.random.PRNGKey(offset), count)
            values = jax.jit(jax.vmap(lambda key, loss=loss: loss.loss(key, params, model, guide, x)))(keys)
        else:
            for name, value in params.items():
                pyro.param(name, value, constraint=lib.positive if name == "width" else torch.distributions.constraints.real)
            svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({}), loss=loss)
            values = [svi.evaluate_loss(x) for _ in range(count)]
        values = np.asarray(values, np.float64)
        means.append(values.mean())
        errors.append(values.std() / sqrt(count))
    assert errors[1] < 0.05 * means[1]
    assert abs(means[0] - means[1]) < 4 * np.hypot(*errors)


# A control that carries state.


def coin(engine: str) -> tuple[Any, Any]:
    lib = LIBRARIES[engine]

    def model(x):
        with lib.ppl.plate("rows", ROWS):
            z = lib.ppl.sample("z", lib.dist.Bernoulli(PRIOR))
            lib.ppl.sample("x", lib.dist.Normal(2.0 * z, 1.0), obs=x)

    def guide(x):
        with lib.ppl.plate("rows", ROWS):
            lib.ppl.sample("z", lib.dist.Bernoulli(logits=lib.ppl.param("logits", lib.xp.zeros(ROWS))))

    return model, guide


ENERGY = (  # −ELBO at the posterior, where log p(x) is its value
    -np.log(PRIOR * np.exp(-((SEEN[:, 0] - 2) ** 2) / 2) + (1 - PRIOR) * np.exp(-(SEEN[:, 0] ** 2) / 2))
    + log(2 * np.pi) / 2
)  # fmt: skip


@pytest.mark.parametrize("jitted", [False, True], ids=["run", "update"])
def test_numpyro_carries_the_running_mean(jitted):
    model, guide = coin("numpyro")
    svi = numpyro.infer.SVI(model, _numpyro.carrying(guide, "z"), optax.adam(0.05), loss=_numpyro.EstimatorELBO("running-mean"))
    x, steps = jnp.asarray(SEEN[:, 0]), 600
    if jitted:
        state, update = svi.init(jax.random.PRNGKey(0), x), jax.jit(svi.update)
        assert [float(v) for v in state.mutable_state["z$control"]] == [0, 0]
        for step in range(1, 31):
            state, _ = update(state, x)
            total, weight = state.mutable_state["z$control"]
            np.testing.assert_allclose(weight, 1 - 0.9**step, rtol=1e-5)
        for _ in range(steps - 30):
            state, _ = update(state, x)
        params = svi.get_params(state)
    else:
        result = svi.run(jax.random.PRNGKey(0), steps, x, progress_bar=False)
        state, params = result.state, result.params
    assert_settled(params["logits"], *state.mutable_state["z$control"])


def assert_settled(logits: Any, total: Any, weight: Any) -> None:
    """At the posterior; the mean is of costs (ELBO a row), which are near log p(x) there."""
    assert np.abs(1 / (1 + np.exp(-np.asarray(logits))) - POSTERIOR).max() < 0.1
    assert abs(float(weight) - 1) < 1e-5
    assert abs(float(total) / float(weight) + ENERGY.mean()) < 0.1


def test_numpyro_says_where_the_running_mean_could_be_carried():
    (model, guide), x = coin("numpyro"), jnp.asarray(SEEN[:, 0])
    for wrapped in (guide, _numpyro.carrying(guide, "y")):
        svi = numpyro.infer.SVI(model, wrapped, optax.adam(0.05), loss=_numpyro.EstimatorELBO("running-mean"))
        with pytest.raises(InputError, match=r"running mean of site 'z' has nowhere .* `carrying\(guide, sites\)`"):
            svi.update(svi.init(jax.random.PRNGKey(0), x), x)
        with pytest.raises(InputError, match="'z'"):
            svi.run(jax.random.PRNGKey(0), 3, x, progress_bar=False)


def test_pyro_carries_the_running_mean_in_the_object():
    (model, guide), x, loss = coin("pyro"), torch.as_tensor(SEEN[:, 0]), _pyro.EstimatorELBO("running-mean")
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss=loss)
    assert not loss.state
    for step in range(1, 601):
        svi.step(x)
        if step < 30:
            np.testing.assert_allclose(loss.state["z"][1], 1 - 0.9**step, rtol=1e-5)
    assert not any(value.requires_grad for value in loss.state["z"])  # no graph grows from step to step
    assert_settled(pyro.param("logits").detach(), *loss.state["z"])


# What cannot be used is refused at the first step.


def step(engine: str, model: Any, guide: Any, loss: Any, *args: Any) -> None:
    if engine == "numpyro":
        svi = numpyro.infer.SVI(model, guide, optax.adam(0.05), loss=loss)
        jax.jit(svi.update)(svi.init(jax.random.PRNGKey(0), *args), *args)
    else:
        pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss=loss).step(*args)


REFUSED = [
    ("pathwise", "'pathwise' does not apply: draws of site 'z' .* use leave-one-out or enumerate"),
    ({"z": "path-only"}, "'path-only' does not apply: draws of site 'z'"),
    ({"w": "enumerate"}, "'enumerate' does not apply: .*'w'"),
    ({"v": "score"}, "no latent site matches 'v'; the guide's sites are z, w"),
    ("score-function", "expected an estimator among"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("spec", "message"), REFUSED, ids=lambda x: str(x)[:30])
def test_an_estimator_that_does_not_apply_is_refused(engine, spec, message):
    lib = LIBRARIES[engine]
    with pytest.raises(InputError, match=message):
        step(engine, *mixed(engine, ROWS), lib.ELBO(spec), lib.array(SEEN))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_closed_form_is_refused(engine):
    lib = LIBRARIES[engine]
    model, x, *_ = gamma(engine, 4)

    def guide(x):
        lib.ppl.sample("m", lib.dist.LogNormal(lib.ppl.param("loc", lib.array(0.0)), 1.0))

    with pytest.raises(InputError, match="no closed form is known for KL.* 'm' .*; use pathwise"):
        step(engine, model, guide, lib.ELBO("pathwise-kl"), lib.array(x))
    step(engine, model, guide, lib.ELBO("pathwise"), lib.array(x))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_latent_that_only_one_of_them_draws_is_named(engine):
    lib, (model, guide) = LIBRARIES[engine], mixed(engine, ROWS)

    def poor(x):
        with lib.ppl.plate("rows", ROWS):
            lib.ppl.sample("z", lib.dist.Bernoulli(logits=lib.ppl.param("logits", lib.xp.zeros(ROWS))))

    def rich(x):
        guide(x)
        lib.ppl.sample("u", lib.dist.Normal(0.0, 1.0))

    with pytest.raises(InputError, match="latent 'w' of the model has no site in the guide; draw 'w' there"):
        step(engine, model, poor, lib.ELBO(), lib.array(SEEN))
    with pytest.raises(InputError, match="the guide draws 'u', which the model does not have"):
        step(engine, model, rich, lib.ELBO(), lib.array(SEEN))
