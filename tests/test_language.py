"""The words of both engines against scipy and each other, and bound callables in the libraries' own inference."""

from typing import Any

import jax
import numpy as np
import numpyro
import optax
import pyro
import pytest
import torch
from jax import lax, random
from numpyro import handlers
from pyro import poutine
from scipy import integrate

from ppl_models import VAE, bind
from ppl_models import continuous_bernoulli as cb
from ppl_models.language import ENGINES

from .catalogue import Recorder, close, exact, shared, words

each_engine = pytest.mark.parametrize("engine", ENGINES)


# --- continuous Bernoulli ---------------------------------------------------------------------------------------------

ETAS = np.array([-800, -40, -20, -1, -0.06, -0.05, -0.0499, -1e-3, -1e-8, 0, 1e-300, 1e-4, 0.05, 0.3, 3, 40, 800])
NODES, WEIGHTS = (0.5 * (v + shift) for v, shift in zip(np.polynomial.legendre.leggauss(200), (1.0, 0.0), strict=True))


@each_engine
@pytest.mark.parametrize("eta", [-20.0, -1.0, 0.0, 1e-4, 3.0, 40.0])
def test_continuous_bernoulli_draws_have_its_mean(engine: str, eta: float):
    peak, count = max(eta, 0.0), 100_000
    mass, first, second = (
        integrate.quad(lambda x, n=n: x**n * np.exp(eta * x - peak), 0, 1, epsabs=0, epsrel=1e-12)[0] for n in range(3)
    )
    mean, variance = first / mass, second / mass - (first / mass) ** 2
    with exact(engine):
        fn = words(engine).continuous_bernoulli(shared(engine).array(np.full(count, eta)))
        torch.manual_seed(0)
        draws = np.asarray(fn.sample(random.key(0)) if engine == "numpyro" else fn.sample())
    assert draws.min() >= 0
    assert draws.max() <= 1
    assert abs(draws.mean() - mean) <= 5 * np.sqrt(variance / count)
    assert abs(draws.var() / variance - 1) <= 0.1


def continuous_bernoulli(engine: str, eta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """log p, its slope in η, the mean, a draw by inversion at x and the draw's slope in η; shapes as `eta` and `x`."""
    here, ppl = shared(engine), words(engine)

    def log_prob(eta: Any, x: Any) -> Any:
        return ppl.continuous_bernoulli(eta).log_prob(x)

    def draw(eta: Any, x: Any) -> Any:
        return cb.icdf(ppl.xp, eta, x)

    def run(eta: Any, x: Any) -> Any:
        grad = jax.grad if engine == "numpyro" else torch.func.grad
        slopes = [grad(lambda e, f=f: f(e, x).sum())(eta) for f in (log_prob, draw)]
        return log_prob(eta, x), slopes[0], ppl.continuous_bernoulli(eta).mean, draw(eta, x), slopes[1]

    with exact(engine):
        run = jax.jit(run) if engine == "numpyro" else run
        return tuple(np.asarray(v) for v in run(here.array(eta), here.array(x)))


@each_engine
def test_continuous_bernoulli_is_a_density_whose_mean_is_the_slope(engine: str):
    eta, x = np.broadcast_arrays(ETAS[np.abs(ETAS) <= 40][:, None], NODES)
    log_p, slope, mean, _, _ = continuous_bernoulli(engine, eta, x)
    close(np.exp(log_p) @ WEIGHTS, np.ones(len(eta)), 1e-9)
    close(mean[:, 0], np.exp(log_p) @ (WEIGHTS * NODES), 1e-12)
    close(slope, x - mean, 1e-12)
    far = continuous_bernoulli(engine, ETAS, np.full(len(ETAS), 0.3))
    close(far[1], 0.3 - far[2], 1e-12)


@each_engine
def test_continuous_bernoulli_draws_by_inversion(engine: str):
    eta = np.array([-40, -3, -1e-2, -5e-4, 1e-5, 1e-4, 0.06, 2, 40])[:, None]
    eta, u = np.broadcast_arrays(eta, np.linspace(0, 0.99, 12))
    _, _, _, draw, slope = continuous_bernoulli(engine, eta, u)
    close(np.expm1(eta * draw) / np.expm1(eta), u, 1e-10)
    step = 1e-4 * np.maximum(1, np.abs(eta))
    higher, lower = (continuous_bernoulli(engine, eta + sign * step, u)[3] for sign in (1, -1))
    close(slope, (higher - lower) / (2 * step), 1e-6)


def test_continuous_bernoulli_agrees_near_zero_and_far_out():
    for x in (0.0, 0.3, 1.0):
        a, b = (continuous_bernoulli(engine, ETAS, np.full(len(ETAS), x)) for engine in ENGINES)
        for left, right in zip(a, b, strict=True):
            close(left, right, 1e-12)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("edge", [cb.SMALL, cb.TINY])
def test_continuous_bernoulli_is_continuous_where_series_and_closed_form_meet(edge: float, sign: int):
    inside, outside = sign * np.nextafter(edge, 0), sign * np.nextafter(edge, 1)
    u = np.linspace(0.01, 0.99, 9)
    for f in (cb.log_normaliser, cb.mean):
        close(f(np, np.float64(inside)), f(np, np.float64(outside)), 1e-12)
    for engine in ENGINES:
        near, far = (continuous_bernoulli(engine, np.full(9, eta), u) for eta in (inside, outside))
        for a, b, tolerance in zip(near, far, (1e-12, 1e-11, 1e-12, 1e-9, 1e-6), strict=True):
            close(a, b, tolerance)


# --- words ------------------------------------------------------------------------------------------------------------

GRID = np.concatenate([np.linspace(-800, 800, 1601), np.linspace(-45, 45, 901), [1e-300, -1e-300]])
PAIRS = np.stack([GRID, -GRID, GRID[::-1]], -1)
WORD_REFERENCES = {
    "softplus": (GRID, lambda x: np.logaddexp(x, 0)),
    "relu": (GRID, lambda x: np.where(x > 0, x, 0)),
    "sigmoid": (GRID, lambda x: np.exp(-np.logaddexp(0, -x))),
    "stop_gradient": (GRID, lambda x: x),
    "logsumexp": (PAIRS, lambda x: np.logaddexp.reduce(x, -1)),
    "softmax": (PAIRS, lambda x: np.exp(x - np.logaddexp.reduce(x, -1, keepdims=True))),
    "log_softmax": (PAIRS, lambda x: x - np.logaddexp.reduce(x, -1, keepdims=True)),
}


def value_and_slope(engine: str, word: str, x: np.ndarray) -> list[np.ndarray]:
    with exact(engine):
        f, x = getattr(words(engine), word), shared(engine).array(x)
        if engine == "numpyro":
            out = f(x), jax.grad(lambda x: (f(x) ** 2).sum() / 800)(x)
        else:
            out = f(x), torch.func.grad(lambda x: (f(x) ** 2).sum() / 800)(x)
        return [np.asarray(v) for v in out]


@pytest.mark.parametrize("word", WORD_REFERENCES)
def test_words_agree_from_one_tail_to_the_other(word: str):
    x, reference = WORD_REFERENCES[word]
    (a, slope_a), (b, slope_b) = (value_and_slope(engine, word, x) for engine in ENGINES)
    close(a, b, 1e-12)
    close(a, reference(x), 1e-12)
    close(getattr(Recorder(), word)(x), reference(x), 1e-12)
    close(slope_a, slope_b, 1e-12)
    assert slope_a.any() == (word != "stop_gradient")


@pytest.mark.parametrize(("stride", "padding", "kernel"), [(1, 0, (3, 2)), (1, 1, (3, 3)), (2, 1, (4, 4)), (2, 0, (2, 3))])
def test_convolution_agrees_and_its_transpose_is_its_adjoint(stride: int, padding: int, kernel: tuple[int, int]):
    rng = np.random.default_rng(5)
    small = (3, 4)
    large = [stride * (n - 1) + k - 2 * padding for n, k in zip(small, kernel, strict=True)]
    x, y, w = rng.normal(size=(2, 3, 5, *large)), rng.normal(size=(2, 3, 4, *small)), rng.normal(size=(4, 5, *kernel))
    forward, backward = [], []
    for engine in ENGINES:
        with exact(engine):
            ppl, (a, b, c) = words(engine), map(shared(engine).array, (x, y, w))
            forward.append(np.asarray(ppl.conv(a, c, stride=stride, padding=padding)))
            backward.append(np.asarray(ppl.conv_transpose(b, c, stride=stride, padding=padding)))
    options = {"stride": stride, "padding": padding}
    assert forward[0].shape == y.shape == Recorder().conv(x, w, **options).shape
    assert backward[0].shape == x.shape == Recorder().conv_transpose(y, w, **options).shape
    close(forward[0], forward[1], 1e-12)
    close(backward[0], backward[1], 1e-12)
    close((forward[0] * y).sum(), (x * backward[0]).sum(), 1e-12)
    # One output by hand: the window's products, flipped for neither library.
    padded = np.pad(x, [(0, 0)] * 3 + [(padding, padding)] * 2)
    window = padded[..., stride : stride + kernel[0], 2 * stride : 2 * stride + kernel[1]]
    close(forward[0][..., 1, 2], np.einsum("abihw,oihw->abo", window, w), 1e-12)


# --- bind: plain callables for stock inference ------------------------------------------------------------------------


def test_equal_bindings_are_equal_and_compile_once():
    def made(**static: Any) -> Any:
        return bind(VAE(4, 2, (3,)), "numpyro", **static)

    assert made(total=9) == made(total=9)
    assert hash(made(total=9)) == hash(made(total=9))
    others = [made(), made(total=8), bind(VAE(4, 2, (3,)), "pyro", total=9), bind(VAE(4, 3, (3,)), "numpyro", total=9)]
    for other in others:
        assert made(total=9) != other
    assert made().model != made().guide
    traced = []

    def run(bound: Any, x: Any) -> Any:
        traced.append(bound)
        return handlers.trace(handlers.seed(bound.guide, 0)).get_trace(x)["z"]["value"]

    compiled = jax.jit(run, static_argnums=0)
    for _ in range(3):
        compiled(made(total=9), np.zeros((2, 4), np.float32))
    assert len(traced) == 1
    compiled(made(total=8), np.zeros((2, 4), np.float32))
    assert len(traced) == 2


def images() -> np.ndarray:
    rng = np.random.default_rng(6)
    rows = rng.integers(0, 2, (3, 8))[rng.integers(0, 3, 60)]
    return np.abs(rows - (rng.uniform(size=rows.shape) < 0.05)).astype(np.float32)


def test_stock_numpyro_runs_bound_callables():
    bound, x = bind(VAE(8, 2, (8,)), "numpyro", total=120), images()
    svi = numpyro.infer.SVI(*bound, optax.adam(0.02), numpyro.infer.Trace_ELBO())

    def train(key: Any) -> Any:
        return lax.scan(lambda state, _: svi.update(state, x), svi.init(key, x), length=150)

    state, losses = jax.jit(train)(random.key(0))
    assert losses[-20:].mean() < 0.8 * losses[:20].mean()
    params = svi.get_params(state)
    decoded = handlers.uncondition(bound.model)
    drawn = numpyro.infer.Predictive(decoded, guide=bound.guide, params=params, num_samples=30)(random.key(1), x)
    assert drawn["x"].shape == (30, *x.shape)
    assert np.abs(np.asarray(drawn["x"]).mean(0) - x).mean() < 0.8 * np.abs(x.mean(0) - x).mean()


def test_stock_pyro_runs_bound_callables():
    bound, x = bind(VAE(8, 2, (8,)), "pyro", total=120), torch.tensor(images())
    with pyro.get_param_store().scope(), torch.random.fork_rng():
        torch.manual_seed(0)
        svi = pyro.infer.SVI(*bound, pyro.optim.Adam({"lr": 0.02}), pyro.infer.Trace_ELBO())
        losses = np.array([svi.step(x) for _ in range(150)])
        predictive = pyro.infer.Predictive(poutine.uncondition(bound.model), guide=bound.guide, num_samples=30)
        with torch.no_grad():
            drawn = predictive(x)
    assert losses[-20:].mean() < 0.8 * losses[:20].mean()
    assert drawn["x"].shape == (30, *x.shape)
    assert (drawn["x"].mean(0) - x).abs().mean() < 0.8 * (x.mean(0) - x).abs().mean()


def test_stock_losses_are_on_the_scale_of_the_full_data():
    x = images()
    for engine in ENGINES:
        losses = {}
        for total in (60, 600):
            bound = bind(VAE(8, 2, (8,)), engine, total=total)
            if engine == "numpyro":
                svi = numpyro.infer.SVI(*bound, optax.adam(1e-3), numpyro.infer.Trace_ELBO())
                losses[total] = float(jax.jit(lambda key, svi=svi: svi.evaluate(svi.init(key, x), x))(random.key(0)))
            else:
                with pyro.get_param_store().scope(), torch.random.fork_rng():
                    torch.manual_seed(0)
                    svi = pyro.infer.SVI(*bound, pyro.optim.Adam({"lr": 1e-3}), pyro.infer.Trace_ELBO())
                    losses[total] = svi.evaluate_loss(torch.tensor(x))
        close(losses[600] / losses[60], 10.0, 1e-4)
