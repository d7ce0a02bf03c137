"""Exponential families: identities of convex duality, scipy's densities, and maximum entropy on finite supports."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch
from scipy import stats

from ppl_models import InputError
from ppl_models.exponential_families import (
    Bernoulli,
    Categorical,
    Dirichlet,
    Gamma,
    Normal,
    NormalGamma,
    Poisson,
    dual,
    kl,
    log_prob,
    maximum_entropy,
)  # fmt: skip
from ppl_models.language import ENGINES

from .catalogue import Recorder, close, exact, shared, words

N = 7


class Case(NamedTuple):
    family: Any
    standard: Callable[[np.random.Generator], tuple[np.ndarray, ...]]  # N members
    draw: Callable[..., np.ndarray]  # of each, from its standard parameters
    log_prob: Callable[..., np.ndarray]  # of those draws


def positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.exp(rng.normal(size=shape or (N,)))


def simplex(rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet(np.ones(4), N)


def normal_gamma_log_prob(x: np.ndarray, m: np.ndarray, c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    value, precision = x[:, 0], x[:, 1]
    return stats.norm(m, (c * precision) ** -0.5).logpdf(value) + stats.gamma(a, scale=1 / b).logpdf(precision)


CASES = [
    Case(Bernoulli(), lambda rng: (rng.uniform(size=N),), lambda rng, p: rng.binomial(1, p) * 1.0, stats.bernoulli.logpmf),
    Case(Categorical(4), lambda rng: (simplex(rng),), lambda rng, p: np.arange(N) % 4,
         lambda x, p: np.log(p[np.arange(N), x])),
    Case(Poisson(), lambda rng: (3 * positive(rng),), lambda rng, rate: rng.poisson(rate) * 1.0, stats.poisson.logpmf),
    Case(Normal(), lambda rng: (3 * rng.normal(size=N), positive(rng)), lambda rng, m, s: rng.normal(m, s), stats.norm.logpdf),
    Case(Gamma(), lambda rng: (2 * positive(rng), positive(rng)), lambda rng, a, b: rng.gamma(a, 1 / b),
         lambda x, a, b: stats.gamma.logpdf(x, a, scale=1 / b)),
    Case(Dirichlet(), lambda rng: (3 * positive(rng, N, 3),), lambda rng, c: np.stack([rng.dirichlet(row) for row in c]),
         lambda x, c: np.array([stats.dirichlet.logpdf(*pair) for pair in zip(x, c, strict=True)])),
    Case(NormalGamma(), lambda rng: (rng.normal(size=N), positive(rng), 2 * positive(rng), positive(rng)),
         lambda rng, m, c, a, b: np.stack([rng.normal(m, 1), rng.gamma(a, 1 / b)], -1), normal_gamma_log_prob),
]  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES, ids=[type(case.family).__name__ for case in CASES])
each_engine = pytest.mark.parametrize("engine", ENGINES)
NUMPY: Any = Recorder()


def members(case: Case, seed: int = 0) -> np.ndarray:
    return case.family.natural(NUMPY, *case.standard(np.random.default_rng(seed)))


@each_engine
@each_case
def test_densities_are_those_of_scipy(case: Case, engine: str):
    rng = np.random.default_rng(1)
    standard = case.standard(rng)
    x = case.draw(rng, *standard)
    with exact(engine):
        ppl, array = words(engine), shared(engine).array
        eta = case.family.natural(ppl, *map(array, standard))
        close(log_prob(ppl, case.family, eta, array(x)), case.log_prob(x, *standard), 1e-11)
        for back, given in zip(case.family.standard(ppl, eta), standard, strict=True):
            close(back, given, 1e-12)


@each_engine
@each_case
def test_the_mean_is_the_gradient_and_the_dual_its_inverse(case: Case, engine: str):
    with exact(engine):
        ppl, eta = words(engine), shared(engine).array(members(case))
        grad = jax.grad if engine == "numpyro" else torch.func.grad
        mean = case.family.mean(ppl, eta)
        close(grad(lambda eta: case.family.log_partition(ppl, eta).sum())(eta), mean, 1e-11)
        back = case.family.from_mean(ppl, mean)
        close(back, eta, 1e-9)
        # Fenchel: A(η) + A*(μ) = η · μ; at any other member A + A* is larger, by the divergence.
        left = case.family.log_partition(ppl, eta) + dual(ppl, case.family, mean)
        close(left, (eta * mean).sum(-1), 1e-10)
        other = shared(engine).array(members(case, 2))
        gap = case.family.log_partition(ppl, other) + dual(ppl, case.family, mean) - (other * mean).sum(-1)
        close(kl(ppl, case.family, eta, other), gap, 1e-9)
        assert bool((gap > 1e-6).all())
        close(kl(ppl, case.family, eta, eta), np.zeros(N), 1e-12)


@pytest.mark.parametrize(("case", "standard", "other", "grid"), [
    (CASES[2], (np.array(2.5),), (np.array(4.0),), np.arange(80.0)),
    (CASES[3], (np.array(0.5), np.array(1.3)), (np.array(-1.0), np.array(2.0)), np.linspace(-20, 20, 40_001)),
    (CASES[4], (np.array(2.5), np.array(1.5)), (np.array(4.0), np.array(0.7)), np.linspace(1e-9, 60, 400_001)),
], ids=["Poisson", "Normal", "Gamma"])  # fmt: skip
def test_divergence_and_dual_are_the_sums_that_define_them(case, standard, other, grid):
    p, q = (np.exp(case.log_prob(grid, *s)) for s in (standard, other))
    step = grid[1] - grid[0]
    seen = (p > 0) & (q > 0)
    a, b = (case.family.natural(NUMPY, *s) for s in (standard, other))
    close(kl(NUMPY, case.family, a, b), (p * np.log(p / q, where=seen, out=np.zeros_like(p)))[seen].sum() * step, 1e-6)
    negative_entropy = (p * (np.log(p, where=p > 0, out=np.zeros_like(p)) - case.family.log_base(NUMPY, grid))).sum() * step
    close(dual(NUMPY, case.family, case.family.mean(NUMPY, a)), negative_entropy, 1e-6)


def test_extreme_shapes_are_found_again():
    for family, eta in [
        (Gamma(), Gamma().natural(NUMPY, np.array([1e-2, 0.3, 1e3]), np.array([1e-3, 5.0, 1e4]))),
        (Dirichlet(), np.array([[1e-2, 5.0, 300.0], [1e-2, 1e-2, 2e-2], [100.0, 200.0, 1.0]]) - 1),
    ]:
        back = family.from_mean(NUMPY, family.mean(NUMPY, eta))
        close(family.mean(NUMPY, back), family.mean(NUMPY, eta), 1e-9)
        close(back, eta, 1e-6)


# --- maximum entropy --------------------------------------------------------------------------------------------------

DICE = np.arange(1.0, 7)


def powers(x: np.ndarray) -> np.ndarray:
    return np.stack([x, x**2], -1)


def test_maximum_entropy_has_the_moments_and_beats_every_rival():
    rng = np.random.default_rng(3)
    moments = np.array([4.5, 22.8])  # Jaynes 1978: dice whose mean is 4.5
    found = maximum_entropy(powers, moments, DICE)
    close(found.probabilities @ powers(DICE), moments, 1e-12)
    close(found.probabilities, np.exp(powers(DICE) @ found.natural - np.logaddexp.reduce(powers(DICE) @ found.natural)), 1e-12)
    close(found.entropy, stats.entropy(found.probabilities), 1e-12)
    _, _, null = np.linalg.svd(np.vstack([np.ones(6), powers(DICE).T]))
    directions = rng.normal(size=(200, 3)) @ null[3:]
    reach = (found.probabilities / np.maximum(-directions, 1e-300)).min(1)
    rivals = found.probabilities + 0.99 * rng.uniform(size=(200, 1)) * reach[:, None] * directions
    close(rivals @ powers(DICE), np.tile(moments, (200, 1)), 1e-10)
    assert (rivals >= 0).all()
    assert (stats.entropy(rivals.T) < found.entropy).all()


def test_maximum_entropy_of_the_uniforms_moments_is_uniform_and_of_one_mean_jayness_dice():
    close(maximum_entropy(powers, powers(DICE).mean(0), DICE).probabilities, np.full(6, 1 / 6), 1e-12)
    dice = maximum_entropy(lambda x: x[:, None], np.array([4.5]), DICE).probabilities
    close(dice, [0.05435, 0.07877, 0.11416, 0.16545, 0.23977, 0.34749], 1e-5)  # Jaynes 1978, to the five digits printed


def test_scaled_statistics_and_near_edges_are_no_obstacle():
    far = 1e6 * DICE + 1e9
    found = maximum_entropy(lambda x: x[:, None], np.array([far.mean() + 2.49e6]), far)
    close(found.probabilities @ DICE, 3.5 + 2.49, 1e-9)


@pytest.mark.parametrize("moments", [[6.5, 40.0], [3.5, 12.0], [6.0, 36.0]], ids=["far", "negative variance", "edge"])
def test_moments_outside_the_hull_are_refused(moments):
    with pytest.raises(InputError, match="convex hull"):
        maximum_entropy(powers, np.array(moments), DICE)


def test_statistics_of_the_wrong_shape_are_refused():
    with pytest.raises(InputError, match=r"shape \(6, 1\)"):
        maximum_entropy(powers, np.array([3.5]), DICE)
