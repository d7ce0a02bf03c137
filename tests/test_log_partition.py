"""log Z: exact by two roads, the expectation of annealed weights by enumerating every path, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp

from inference.log_partition import annealed, exact, pooled, raised, schedule, unnormalised
from ppl_models import InputError
from ppl_models.energy import RBM

from .catalogue import close
from .catalogue import exact as session
from .stationary import CONDITIONAL, MODELS, PAIRS, annealed_ratio, energies, given, parameters, raised_gap
from .test_kernels import each_engine
from .transition import states


def by_hand(name: str, factor: float = 1.0) -> float:
    """Over all states, from the energy alone."""
    with session("pyro"):
        return float(np.logaddexp.reduce(-energies(MODELS[name], "pyro", given(MODELS[name], "pyro", factor))))


@each_engine
@pytest.mark.parametrize("name", MODELS)
def test_exact_is_the_sum_over_all_states(name: str, engine: str):
    close(exact(MODELS[name], parameters(MODELS[name]), engine), by_hand(name), 1e-12)


@each_engine
@pytest.mark.parametrize("name", ["rbm", "rbm-centred", "rbm-copies"])
def test_log_likelihood_sums_to_one(name: str, engine: str):
    model, params = MODELS[name], parameters(MODELS[name])
    x = states({"x": model.data_dim})["x"]
    close(logsumexp(unnormalised(model, params, x, engine=engine) - exact(model, params, engine)), 0.0, 1e-12)


@each_engine
@pytest.mark.parametrize("name", PAIRS)
def test_mean_annealed_weight_is_the_ratio_of_partition_functions(name: str, engine: str):
    """E[w] = Z / Z₀ to 1e-12, over all paths of two units through three temperatures."""
    total, mean_weight, ratio = annealed_ratio(name, engine)
    close(total, 1.0, 1e-12)
    close(mean_weight, ratio, 1e-12)


@each_engine
@pytest.mark.parametrize("name", CONDITIONAL)
def test_annealed_finds_the_enumerated_value(name: str, engine: str):
    """Within 5.5 of its standard errors (family-wise 1e-6), which are below 0.02 nats: so large a fault is found."""
    truth = by_hand(name)
    found = annealed(MODELS[name], parameters(MODELS[name]), engine=engine, betas=50, chains=2000)
    error = (found.log_partition.high - found.log_partition.value) / 1.96
    assert error < 0.02
    assert abs(found.log_partition.value - truth) < 5.5 * error
    assert found.side == "below"
    assert 1000 < found.effective_samples <= 2000
    close(pooled(found.log_weights), found.log_partition, 1e-12)


@each_engine
def test_reverse_runs_from_exact_draws_bound_from_above(engine: str):
    name = "rbm"
    truth, model, params = by_hand(name), MODELS[name], parameters(MODELS[name])
    with session("pyro"):
        p = np.exp(-energies(model, "pyro", given(model, "pyro")) - truth)
    chosen = np.random.default_rng(0).choice(len(p), 2000, p=p / p.sum())
    draws = {site: bits[chosen] for site, bits in states(model.sites).items()}
    found = annealed(model, params, engine=engine, betas=50, draws=draws, exact_draws=True)
    error = (found.log_partition.high - found.log_partition.value) / 1.96
    assert found.side == "above"
    assert abs(found.log_partition.value - truth) < 5.5 * error < 0.1
    assert annealed(model, params, engine=engine, betas=5, draws=draws).side == "approximate"


@each_engine
def test_mean_weight_of_annealing_backwards_is_where_annealing_ends(engine: str):
    """E[w] = p_ann(x) to 1e-12, over all paths through three temperatures."""
    assert raised_gap(engine) < 1e-12


def test_annealing_backwards_finds_log_p_of_each_row_and_from_below():
    """Of all eight rows within 0.03 nats with 500 β, and with five and a single chain well below in the mean."""
    model, params = MODELS["rbm"], parameters(MODELS["rbm"])
    x = states({"x": 3})["x"]
    truth = unnormalised(model, params, x) - exact(model, params)
    found = raised(model, params, x, engine="pyro", betas=500, chains=500)
    np.testing.assert_allclose(found.log_p, truth, atol=0.03)
    assert (found.effective_samples > 300).all()
    close(found.mean.value, found.log_p.mean(), 1e-12)
    strong = {name: 3 * value for name, value in params.items()}
    p = np.exp(unnormalised(model, strong, x) - exact(model, strong))
    rows = np.repeat(x, np.round(2000 * p).astype(int), 0)
    low = raised(model, strong, rows, engine="pyro", betas=5, chains=1)
    assert low.mean.high < p @ np.log(p)


@each_engine
def test_gaussian_units_against_quadrature(engine: str):
    """log Z of one Gaussian and two binary units; σ is no 1, so that a scale forgotten shows."""
    model = RBM(1, 2, visible="normal")
    params = parameters(model) | {"x.scale": np.array([0.7])}

    def density(x: float) -> float:
        return float(np.exp(unnormalised(model, params, np.array([[x]]), engine=engine))[0])

    truth = np.log(quad(density, -15, 15, epsabs=1e-10)[0])
    found = annealed(model, params, engine=engine, betas=50, chains=4000)
    error = (found.log_partition.high - found.log_partition.value) / 1.96
    assert abs(found.log_partition.value - truth) < 5.5 * error < 0.1


def test_the_interval_covers():
    """300 replicates of 100 runs: between 87 and 99.5 % (binomial, 1e-6), the thousand of `benchmarks log_partition` closer."""
    model, params = MODELS["rbm"], parameters(MODELS["rbm"], 5)
    truth = exact(model, params)
    weights = annealed(model, params, betas=30, chains=30_000).log_weights.reshape(300, 100)
    share = np.mean([(one := pooled(row)).low <= truth <= one.high for row in weights])
    assert 0.87 < share < 0.995


def test_the_schedule_of_salakhutdinov_and_murray():
    path = schedule((500, 0.5), (4000, 0.9), (10_000, 1.0))
    assert (path[0], path[-1], len(path)) == (0.0, 1.0, 14_501)
    assert (np.diff(path) > 0).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"betas": [0.0, 0.5]}, "from 0 to 1"),
        ({"betas": [0.0, 0.7, 0.6, 1.0]}, "rise"),
        ({"base": {"weight": 0.0}}, "'weight'"),
    ],
)
def test_paths_that_lead_nowhere_are_refused(settings: dict, words: str):
    with pytest.raises(InputError, match=words):
        annealed(RBM(2, 2), parameters(RBM(2, 2)), **settings)


def test_raising_from_what_is_no_row_of_an_rbm_is_refused():
    model, params = RBM(2, 2), parameters(RBM(2, 2))
    with pytest.raises(InputError, match="rise from 0 to 1"):
        raised(model, params, np.zeros((1, 2)), betas=[0.0, 0.5])
    with pytest.raises(InputError, match="2 columns"):
        raised(model, params, np.zeros((1, 3)))
    with pytest.raises(InputError, match="DeepBoltzmannMachine"):
        raised(MODELS["dbm"], parameters(MODELS["dbm"]), np.zeros((1, 2)))


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(InputError, match="at most 30 units"):
        exact(RBM(40, 35), {})
