"""Relaxed draws: their law, and that the gradient is that of the relaxed bound, draw by draw."""

from importlib import import_module
from typing import Any

import jax
import numpy as np
import pytest
import torch
from jax import random

from inference import LeaveOneOut, Relaxed, Score, fit
from inference.estimators.relaxed import relax
from ppl_models import M2, VAE, GaussianMixture, InputError, SigmoidBeliefNet, bind
from ppl_models.datasets import from_arrays
from ppl_models.language import ENGINES

from .catalogue import arrays, close, exact, random_params, shared, words

each_engine = pytest.mark.parametrize("engine", ENGINES)


def draws(engine: str, fn: Any, temperature: float) -> np.ndarray:
    draw = import_module(f"inference.estimators._{engine}").relaxed(fn, temperature)
    torch.manual_seed(0)
    return np.asarray(draw(random.key(0), (50_000,)) if engine == "numpyro" else draw((50_000,)))


@each_engine
def test_the_largest_entry_of_a_relaxed_one_hot_draw_has_the_categorical_law(engine: str):
    """For every temperature (the Gumbel-max identity); 5.5 standard errors of 50,000 draws see 1.2 % of a probability."""
    logits = np.array([0.3, -1.0, 1.2])
    p = np.exp(logits) / np.exp(logits).sum()
    with exact(engine):
        for temperature in (0.1, 2.0):
            y = draws(engine, words(engine).one_hot_categorical(shared(engine).array(logits)), temperature)
            close(y.sum(-1), np.ones(len(y)), 1e-12)
            share = np.eye(3)[y.argmax(-1)].mean(0)
            assert (np.abs(share - p) < 5.5 * np.sqrt(p * (1 - p) / len(y))).all()
        assert np.median(y.max(-1)) < 0.9 < np.median(draws(engine, words(engine).one_hot_categorical(
            shared(engine).array(logits)), 0.1).max(-1))  # fmt: skip


@each_engine
def test_relaxed_bits_lie_above_a_half_as_often_as_bits_are_one(engine: str):
    logits = np.array([0.5, -2.0])
    with exact(engine):
        ppl = words(engine)
        y = draws(engine, ppl.dist.Bernoulli(logits=shared(engine).array(logits)).to_event(1), 0.7)
    p = 1 / (1 + np.exp(-logits))
    assert ((0 <= y) & (y <= 1)).all()
    assert (np.abs((y > 0.5).mean(0) - p) < 5.5 * np.sqrt(p * (1 - p) / len(y))).all()


@each_engine
@pytest.mark.parametrize("name", ["belief-net", "m2"])
def test_the_gradient_is_the_derivative_of_the_relaxed_bound(engine: str, name: str):
    """At fixed noise, by central differences in random directions; a stopped draw or an own density would show."""
    rng = np.random.default_rng(1)
    x, labels = rng.integers(0, 2, (3, 4)).astype(float), np.array([-1, 2, -1])
    declaration, args = {"belief-net": (SigmoidBeliefNet(4, 3), (x,)), "m2": (M2(4, 3, 2, (3,)), (x, labels))}[name]
    params = random_params(declaration, args, rng)
    site = {"belief-net": "z1", "m2": "y"}[name]
    elbo = import_module(f"inference.estimators._{engine}").EstimatorELBO({site: Relaxed(0.8)})
    bound = bind(declaration, engine)
    directions = [{n: rng.normal(size=v.shape) for n, v in params.items()} for _ in range(3)]
    with exact(engine):
        rows = tuple(map(shared(engine).array, args))
        if engine == "numpyro":
            loss = jax.jit(lambda p: elbo.evaluate(random.key(0), p, {}, *bound, rows, {})[0])
            slope = {n: np.asarray(g) for n, g in jax.grad(loss)(arrays(engine, params)).items()}
        else:

            def loss(p: Any) -> Any:
                torch.manual_seed(0)
                return elbo.evaluate(p, {}, *bound, rows, {})[0]

            leaves = {n: v.requires_grad_() for n, v in arrays(engine, params).items()}
            found = torch.autograd.grad(loss(leaves), list(leaves.values()))
            slope = {n: g.numpy() for n, g in zip(leaves, found, strict=True)}
        for direction in directions:
            ends = [float(loss(arrays(engine, {n: v + h * direction[n] for n, v in params.items()}))) for h in (1e-5, -1e-5)]
            expected = sum((slope[n] * direction[n]).sum() for n in params)
            close((ends[0] - ends[1]) / 2e-5, expected, 1e-6)


@each_engine
def test_where_it_does_not_apply_it_says_so(engine: str):
    rng = np.random.default_rng(2)
    data = from_arrays(rng.normal(size=(20, 3)))
    with pytest.raises(InputError, match="'assignment'.*neither one-hot nor bits"):
        fit(GaussianMixture(3, 2), data, engine=engine, epochs=1, estimator="relaxed")
    binary = from_arrays(rng.integers(0, 2, (20, 3)).astype(float))
    with pytest.raises(InputError, match="'z'.*neither one-hot nor bits"):
        fit(VAE(3, 2, (2,)), binary, engine=engine, epochs=1, estimator={"z": Relaxed()})
    with pytest.raises(InputError, match="positive temperature"):
        Relaxed(0.0)


@each_engine
@pytest.mark.parametrize("estimator", [None, Relaxed(), Score(LeaveOneOut())], ids=["enumerated", "relaxed", "sampled"])
def test_the_label_of_m2_is_enumerated_relaxed_or_sampled_from_outside(engine: str, estimator: Any):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 60)
    x = (rng.random((60, 6)) < np.where(y[:, None] == 1, 0.9, 0.1) * np.array([1, 1, 1, 0, 0, 0]) + 0.05).astype(float)
    data = from_arrays(x, heldout=x, y=y, heldout_y=y)
    found = fit(M2(6, 2, 1, (8,)), data, engine=engine, epochs=30, batch=20, lr=0.02, estimator=estimator and {"y": estimator})
    assert found.heldout_elbo.value > found.history[0]["heldout_elbo"].value + 1


@each_engine
@pytest.mark.parametrize("one_hot", [False, True], ids=["bits", "one-hot"])
def test_the_rarest_noise_leaves_gradients_finite(engine: str, one_hot: bool):
    """In single precision, where 1 / (1 + exp(−z)) differentiates to inf / inf."""
    xp, noise = words(engine).xp, np.array([-87.0, -60.0, 0.0, 60.0, 87.0], np.float32)
    if engine == "numpyro":
        slope = jax.grad(lambda x: (np.arange(5) * relax(xp, x, noise, 0.5, one_hot)).sum())(np.zeros(5, np.float32))
    else:
        x = torch.zeros(5, requires_grad=True)
        (slope,) = torch.autograd.grad((torch.arange(5) * relax(xp, x, torch.tensor(noise), 0.5, one_hot)).sum(), [x])
    assert np.isfinite(np.asarray(slope)).all()
    draw = [relax(np, np.zeros(5), noise.astype(float), 0.5, False), 1 / (1 + np.exp(-noise.astype(float) / 0.5))]
    close(draw[0], draw[1], 1e-15)
