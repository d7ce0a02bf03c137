"""What `fit` promises on either engine: restarts, warm starts, precision, and nothing of the caller's touched."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pyro
import pytest
import torch
from numpyro.infer.autoguide import AutoNormal

from inference import fit
from inference.svi import _numpyro as trainer
from inference.svi import _pyro as eager
from ppl_models import Bound, FactorAnalysis, InputError, NumericalError, SigmoidBeliefNet, bind
from ppl_models.datasets import Dataset, from_arrays

from .command import ENGINES, binary

HELDOUT = {"numpyro": trainer.heldout, "pyro": eager.heldout}
FACTORS = FactorAnalysis(4)


def correlated(rows: int = 60) -> Dataset:
    """Two factors and a little noise: much to learn."""
    rng = np.random.default_rng(4)
    return from_arrays(3 + rng.normal(size=(rows, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(rows, 4)))


def other(engine: str) -> str:
    return next(e for e in ENGINES if e != engine)


# Restarts.


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ["factors", "belief net"])
def test_restarts_are_the_single_fits_and_the_best_is_kept(engine, case):
    model, data, spec = {
        "factors": (FACTORS, correlated(), None),
        "belief net": (SigmoidBeliefNet(4, 3), from_arrays(binary(40)), {"z*": "running-mean"}),  # carries state
    }[case]
    settings = {"engine": engine, "estimator": spec, "epochs": 3, "batch": 8, "lr": 0.05}
    together = fit(model, data, seed=5, restarts=3, **settings)
    alone = [fit(model, data, seed=seed, **settings) for seed in (5, 6, 7)]
    finals = [one.restarts[0] for one in alone]
    np.testing.assert_allclose(together.restarts, finals, rtol=1e-4)
    assert np.ptp(finals) > 1e-2 * abs(finals[0])  # seeds differ by far more than the tolerance
    best = alone[int(np.argmax(finals))]
    assert set(together.params) == set(best.params)
    for name, value in best.params.items():
        np.testing.assert_allclose(together.params[name], value, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(together.history[-1]["train_elbo"].value, max(finals), rtol=1e-4)


# Starting values.


@pytest.mark.parametrize("engine", ENGINES)
def test_init_continues_where_the_other_engine_stopped(engine):
    data = correlated()
    first = fit(FACTORS, data, engine=other(engine), epochs=30, batch=8, lr=0.02)
    settings = {"engine": engine, "batch": 8, "lr": 0.02, "init": first.params}
    start, cold = fit(FACTORS, data, epochs=0, **settings), fit(FACTORS, data, engine=engine, epochs=0)
    assert abs(start.heldout_log_likelihood.value - first.heldout_log_likelihood.value) < 1e-4
    assert first.heldout_log_likelihood.value > cold.heldout_log_likelihood.value + 0.5
    on = fit(FACTORS, data, epochs=60, **settings)
    assert on.history[0]["heldout_elbo"] == start.heldout_elbo
    assert on.restarts[0] > first.restarts[0]
    both = fit(FACTORS, data, epochs=0, restarts=2, **settings)  # every restart begins there
    assert abs(both.heldout_log_likelihood.value - start.heldout_log_likelihood.value) < 1e-4


INITS = {
    "missing": (lambda p: {n: v for n, v in p.items() if n != "loc"}, "a value for 'loc', got none"),
    "strange": (lambda p: {**p, "bias": p["loc"]}, "no such parameter for 'bias', got a value"),
    "short": (lambda p: {**p, "loc": p["loc"][:3]}, r"shape \(4,\) for 'loc', got \(3,\)"),
    "scalar": (lambda p: {**p, "scale": np.float32(1)}, r"shape \(4,\) for 'scale', got \(\)"),
    "transposed": (lambda p: {**p, "loading": p["loading"].T}, r"shape \(4, 2\) for 'loading', got \(2, 4\)"),
    "none": (lambda p: {}, "got none"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("change", "message"), INITS.values(), ids=INITS)
def test_init_of_other_names_or_shapes_is_refused(engine, change, message):
    right = {"loading": np.ones((4, 2), np.float32), "loc": np.zeros(4, np.float32), "scale": np.ones(4, np.float32)}
    with pytest.raises(InputError, match=f"{message}; give the params of a fit"):
        fit(FACTORS, correlated(), engine=engine, epochs=0, init=change(right))
    found = fit(FACTORS, correlated(), engine=engine, epochs=0, init=right)
    assert all((found.params[name] == value).all() for name, value in right.items())


# Precision.


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("default", ["float32", "float64"])
def test_dtype_is_the_fits_own(engine, default):
    """Whatever the caller's default is."""
    data, before = correlated(), (torch.get_default_dtype(), jax.config.jax_enable_x64)
    try:
        torch.set_default_dtype(getattr(torch, default))
        jax.config.update("jax_enable_x64", default == "float64")
        found = {d: fit(FACTORS, data, engine=engine, epochs=3, batch=8, lr=0.05, dtype=d) for d in ("float32", "float64")}
        assert torch.get_default_dtype() == getattr(torch, default)
        assert jax.config.jax_enable_x64 is (default == "float64")
    finally:
        torch.set_default_dtype(before[0])
        jax.config.update("jax_enable_x64", before[1])
    for dtype, one in found.items():
        assert {v.dtype for v in one.params.values()} == {np.dtype(dtype)}
        assert one.manifest["dtype"] == dtype
    # Not single precision in a double's clothes: the values are no float32s.
    for name, value in found["float64"].params.items():
        assert (value != value.astype(np.float32)).all(), name


@pytest.mark.parametrize("engine", ENGINES)
def test_double_precision_reaches_the_bound(engine):
    """The guide is the exact posterior, so the ELBO is log p(x) without noise, to the precision of the arithmetic."""
    found = [fit(FACTORS, correlated(), engine=engine, epochs=2, batch=8, lr=0.05, dtype=d) for d in ("float32", "float64")]
    gaps = [abs(one.heldout_elbo.value - one.heldout_log_likelihood.value) for one in found]
    assert gaps[1] < 1e-12 * abs(found[1].heldout_elbo.value)
    assert 1e-9 < gaps[0] < 1e-4


# Nothing leaks.


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ends", ["well", "refused", "stopped by an error"])
def test_a_fit_leaves_the_process_as_it_was(engine, dtype, ends):
    pyro.clear_param_store()
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002

    def state():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002
        return (
            jax.config.jax_enable_x64, torch.get_default_dtype(), torch.get_rng_state().tolist(), torch.get_default_device(),
            torch.is_grad_enabled(), pyro.settings.get("validate_distributions_pyro"), kind, keys.tolist(), rest,
            dict(pyro.get_param_store().items()), pyro.get_param_store().get_state(),
        )  # fmt: skip

    def run(**settings):
        return fit(SigmoidBeliefNet(4, 3), from_arrays(binary(), binarise="dynamic"), engine=engine, dtype=dtype, **settings)

    def broken(row):
        raise KeyError("callback")

    before = state()
    if ends == "well":
        run(epochs=2, restarts=2)
    elif ends == "refused":
        with pytest.raises(InputError):
            run(estimator="pathwise")
    else:
        with pytest.raises(KeyError):
            run(epochs=1, callbacks=[broken])
    assert state() == before
    assert not list(pyro.get_param_store())


@pytest.mark.parametrize("engine", ENGINES)
def test_the_callers_random_state_changes_no_number(engine):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        found.append(fit(SigmoidBeliefNet(4, 3), from_arrays(binary()), engine=engine, epochs=1))
    assert found[0].restarts == found[1].restarts
    assert found[0].heldout_elbo == found[1].heldout_elbo


# Compilation.


def counted() -> tuple[Bound, list[int]]:
    """A user's own pair that notes each time Python runs the model."""
    runs: list[int] = []

    def model(x, total=None):
        runs.append(1)
        weight = numpyro.param("weight", np.ones(4, np.float32))
        with numpyro.plate("rows", total or len(x), subsample_size=len(x)):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0))
            numpyro.sample("x", dist.Normal(z[..., None] * weight, 1.0).to_event(1), obs=x)

    def guide(x, total=None):
        slope = numpyro.param("slope", np.zeros(4, np.float32))
        with numpyro.plate("rows", total or len(x), subsample_size=len(x)):
            numpyro.sample("z", dist.Normal(x @ slope, 1.0))

    return Bound(model, guide), runs


def test_equal_fits_share_one_compilation():
    pair, runs = counted()
    data, settings = correlated(), {"epochs": 2, "batch": 8, "estimator": {"z": "pathwise"}}
    fit(pair, data, **settings)
    first, misses = len(runs), trainer.trainer.cache_info().misses
    assert first
    again = fit(pair, data, **{**settings, "epochs": 3, "seed": 1, "estimator": {"z": "pathwise"}})
    assert len(again.history) == 4
    assert trainer.trainer.cache_info().misses == misses
    assert len(runs) == first  # Python never ran the model again
    fit(pair, data, **{**settings, "estimator": "path-only"})
    assert trainer.trainer.cache_info().misses == misses + 1
    assert len(runs) > first


def test_equal_declarations_share_one_compilation():
    data = from_arrays(binary(40))
    fit(SigmoidBeliefNet(4, 3), data, epochs=1, batch=8)
    misses = trainer.trainer.cache_info().misses
    fit(SigmoidBeliefNet(4, 3), data, epochs=1, batch=8, seed=2)
    assert trainer.trainer.cache_info().misses == misses
    fit(SigmoidBeliefNet(4, 2), data, epochs=1, batch=8)
    assert trainer.trainer.cache_info().misses == misses + 1


# Held-out rows.


@pytest.mark.parametrize("engine", ENGINES)
def test_heldout_rows_need_be_a_multiple_of_nothing(engine):
    """Factor analysis has no noise in its bound, so that each row has one value in whatever company."""
    x, params = correlated(100).x, fit(FACTORS, correlated(), engine=engine, epochs=3, batch=8, lr=0.05).params
    bound = bind(FACTORS, engine, total=48)
    whole = HELDOUT[engine](params, *bound, (x,), 0)
    assert whole.shape == (len(x),)
    assert np.ptp(whole) > 1
    for rows, chunk in ((7, 1000), (1, 1000), (7, 3), (7, 7), (10, 4)):
        found = HELDOUT[engine](params, *bound, (x[:rows],), 1, chunk)
        np.testing.assert_allclose(found, whole[:rows], rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fit_is_held_to_its_heldout_rows(engine):
    data = correlated()
    few = from_arrays(data.x, heldout=data.heldout[:7])
    found = fit(FACTORS, few, engine=engine, epochs=2, batch=8, lr=0.05)
    values = HELDOUT[engine](found.params, *found.bound, (few.heldout,), 0)
    np.testing.assert_allclose(found.heldout_elbo.value, values.mean(), rtol=1e-5)
    assert abs(found.heldout_elbo.value - found.heldout_log_likelihood.value) < 1e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_heldout_draws_are_fixed_by_the_seed(engine):
    model, x = SigmoidBeliefNet(4, 3), binary(30)
    params = fit(model, from_arrays(x), engine=engine, epochs=1).params
    first, again, others = (HELDOUT[engine](params, *bind(model, engine, total=24), (x,), seed) for seed in (2, 2, 3))
    np.testing.assert_array_equal(first, again)
    assert (first != others).any()


# Learning.


@pytest.mark.parametrize("engine", ENGINES)
def test_the_training_bound_of_factor_analysis_rises(engine):
    """No noise but that of the minibatches, of which there is one: every epoch is an uphill step."""
    found = fit(FACTORS, correlated(), engine=engine, epochs=40, lr=0.03)
    values = [row["train_elbo"].value for row in found.history[1:]]
    assert found.history[0]["train_elbo"] is None
    assert (np.diff(values) > 0).all()
    assert values[-1] > values[0] + 0.5
    assert [row["step"] for row in found.history] == list(range(41))


def test_an_autoguide_that_never_ran_is_set_up_first():
    """Under a trace its first run would keep tracers."""
    x = np.random.default_rng(0).normal(3.0, 1.0, (200, 1))

    def model(x):
        loc = numpyro.sample("loc", dist.Normal(0, 10))
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("x", dist.Normal(loc, 1), obs=x[:, 0])

    found = fit(Bound(model, AutoNormal(model)), from_arrays(x, heldout=x), engine="numpyro", epochs=400, lr=0.05)
    assert abs(found.params["loc_auto_loc"] - x.mean()) < 0.05
    assert abs(found.params["loc_auto_scale"] - 200**-0.5) < 0.02


def test_a_method_named_likelihood_is_no_likelihood():
    class Named(FactorAnalysis):
        def likelihood(self, ppl, z):  # type: ignore[override]
            """A part of the declaration's own."""

    found = fit(Named(4), correlated(), engine="pyro", epochs=1)
    assert found.baseline is not None


@pytest.mark.parametrize("engine", ENGINES)
def test_a_heldout_elbo_that_is_nan_at_the_end_is_placed(engine, monkeypatch):
    """The row, the step and the epoch; parameters alone do not show it."""
    module = {"numpyro": trainer, "pyro": eager}[engine]
    monkeypatch.setattr(module, "heldout", lambda *_: np.array([0.0, 1.0, np.nan, np.nan]))
    with pytest.raises(NumericalError, match=r"step 1 of epoch 1, first at held-out row 2 \(counting"):
        fit(FACTORS, correlated(), engine=engine, epochs=1)
