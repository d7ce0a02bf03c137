"""Hard draws with a gradient: straight-through Gumbel against quadrature, ReinMax against the exact gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.lax import stop_gradient

from inference import ReinMax, StraightThrough
from ppl_models import InputError
from tests.exact import grid

LOGITS = np.array([0.7, -1.2, 0.3])
BITS = grid((2,) * 3)
KINDS = np.eye(3)


def quadratic(h: Any) -> Any:
    """Not the same in any two entries, with a product of every two."""
    a, b, c = h[..., 0], h[..., 1], h[..., 2]
    return a - 2 * b + 0.5 * c + 1.3 * a * b - 0.7 * b * c + a**2 + b**2 + c**2


def quartic(h: Any) -> Any:
    return quadratic(h) + h[..., 0] ** 4 * (1 + h[..., 1] ** 3)


def states(one_hot: bool, logits: Any) -> tuple[np.ndarray, Any]:
    """Every draw, and its probability."""
    if one_hot:
        return KINDS, jax.nn.softmax(logits)
    return BITS, jnp.exp((BITS * logits - jax.nn.softplus(logits)).sum(-1))


def forcing(one_hot: bool, logits: np.ndarray) -> np.ndarray:
    """Noise that leads to each of the draws."""
    return 60 * (KINDS if one_hot else 2 * BITS - 1) - logits


def slope(estimator: Any, f: Any, logits: Any, noise: Any, one_hot: bool) -> Any:
    """The estimate of the gradient from each row of noise."""

    def cost(logits: Any, noise: Any) -> Any:
        return f(estimator.relaxed(logits, noise, one_hot, jnp, stop_gradient))

    return jax.vmap(jax.grad(cost), (None, 0))(jnp.asarray(logits), jnp.asarray(noise))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("one_hot", [False, True], ids=["bits", "one-hot"])
def test_reinmax_is_exact_where_the_costs_are_quadratic(one_hot):
    def expected(logits: Any) -> Any:
        values, chance = states(one_hot, logits)
        return (chance * quadratic(values)).sum()

    truth, chance = jax.grad(expected)(jnp.asarray(LOGITS)), states(one_hot, LOGITS)[1]
    found = slope(ReinMax(), quadratic, LOGITS, forcing(one_hot, LOGITS), one_hot)
    np.testing.assert_allclose((chance[:, None] * found).sum(0), truth, atol=1e-12)
    # At another temperature, or by the plain rule, it is not: this would see it.
    other = slope(ReinMax(2.0), quadratic, LOGITS, forcing(one_hot, LOGITS), one_hot)
    assert np.abs((chance[:, None] * other).sum(0) - truth).max() > 0.01


@pytest.mark.parametrize("one_hot", [False, True], ids=["bits", "one-hot"])
def test_reinmax_is_biased_elsewhere(one_hot):
    def expected(logits: Any) -> Any:
        values, chance = states(one_hot, logits)
        return (chance * quartic(values)).sum()

    truth, chance = jax.grad(expected)(jnp.asarray(LOGITS)), states(one_hot, LOGITS)[1]
    found = slope(ReinMax(), quartic, LOGITS, forcing(one_hot, LOGITS), one_hot)
    assert np.abs((chance[:, None] * found).sum(0) - truth).max() > 0.01


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_straight_through_is_its_formula(temperature):
    """One bit: E[f′(h) σ′((η + l) / T) / T] by quadrature over the logistic noise, and the draws' share of ones."""
    eta, estimator = 0.7, StraightThrough(temperature)
    t = np.linspace(-40, 40, 4001)
    mass = np.exp(-t) / (1 + np.exp(-t)) ** 2 * (t[1] - t[0])

    def f(h: Any) -> Any:
        return 3 * h + 2 * h**2

    y = 1 / (1 + np.exp(-(eta + t) / temperature))
    wanted = ((3 + 4 * (eta + t > 0)) * y * (1 - y) / temperature * mass).sum()
    found = slope(estimator, lambda h: f(h).sum(), np.array([eta]), t[:, None], False)[:, 0]
    np.testing.assert_allclose((np.asarray(found) * mass).sum(), wanted, rtol=1e-9)


@pytest.mark.parametrize("estimator", [StraightThrough(0.7), ReinMax(1.3)], ids=lambda e: e.name)
@pytest.mark.parametrize("one_hot", [False, True], ids=["bits", "one-hot"])
def test_draws_are_hard_and_alike_in_both_libraries(estimator, one_hot):
    import array_api_compat.torch as xp

    noise = np.random.default_rng(0).gumbel(size=(50, 3)) if one_hot else np.random.default_rng(0).logistic(size=(50, 3))
    found = np.asarray(estimator.relaxed(jnp.asarray(LOGITS), jnp.asarray(noise), one_hot, jnp, stop_gradient))
    scores = LOGITS + noise
    np.testing.assert_allclose(found, np.eye(3)[scores.argmax(-1)] if one_hot else scores > 0, atol=1e-15)
    leaf = torch.tensor(LOGITS, requires_grad=True)
    drawn = estimator.relaxed(leaf, torch.tensor(noise), one_hot, xp, torch.Tensor.detach)
    (slopes,) = torch.autograd.grad(quartic(drawn).sum(), [leaf])
    np.testing.assert_allclose(slopes.numpy(), slope(estimator, quartic, LOGITS, noise, one_hot).sum(0), rtol=1e-9)


@pytest.mark.parametrize("estimator", [StraightThrough(), ReinMax()], ids=lambda e: e.name)
def test_logits_of_any_size_have_finite_slopes(estimator):
    with jax.enable_x64(False):
        logits = jnp.asarray([-300.0, -90.0, 0.0, 90.0, 300.0])
        for one_hot in (False, True):
            found = slope(estimator, lambda h: (h * jnp.arange(5.0)).sum(), logits, jnp.zeros((1, 5)), one_hot)
            assert np.isfinite(np.asarray(found)).all()


def test_a_temperature_is_positive():
    for make in (StraightThrough, ReinMax):
        with pytest.raises(InputError, match="positive temperature, got -1"):
            make(-1)
