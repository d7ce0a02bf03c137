"""Both engines, and a third Language, give every declaration the same sites, densities, gradients and files."""

from collections.abc import Mapping
from functools import cache, partial
from types import SimpleNamespace
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
from pyro.poutine.subsample_messenger import _Subsample
from scipy import integrate

from inference._pyro import Parameters
from inference.files import load_params, save_params
from ppl_models import VAE, bind
from ppl_models import continuous_bernoulli as cb
from ppl_models.language import ENGINES, WORDS, language

from .catalogue import CATALOGUE, IDS, Inputs, Recorder, Row, arrays, close, exact, random_params, record, shared, words
from .catalogue import tail_latents as tails
from .exact import QUICK

TOTAL = 20
METHODS = ("model", "guide")
PARTICLES = 2
each_row = pytest.mark.parametrize("row", CATALOGUE, ids=IDS)
each_engine = pytest.mark.parametrize("engine", ENGINES)


# --- sites ------------------------------------------------------------------------------------------------------------


def test_every_language_has_every_word():
    for ppl in (*map(language, ENGINES), Recorder()):
        assert [word for word in WORDS if not hasattr(ppl, word)] == []
    public = {name for name in vars(Recorder) if not name.startswith("_")}
    assert public == set(WORDS)


def numpyro_sites(program: Any, data: Inputs) -> list[tuple]:
    found = []

    def run(*data: Any) -> None:
        trace = handlers.trace(handlers.seed(program, random.key(0))).get_trace(*data)
        for name, site in trace.items():
            if site["type"] == "plate":
                found.append(("plate", name, (site["args"][1],), ()))
            else:
                frames = sorted(site["cond_indep_stack"], key=lambda f: f.dim)
                plates = tuple((f.name, f.size, trace[f.name]["args"][0]) for f in frames)
                sample = site["type"] == "sample"
                found.append((site["type"], name, np.shape(site["value"]), plates if sample else ()))

    jax.eval_shape(run, *data)
    return found


def pyro_sites(program: Any, data: Inputs) -> list[tuple]:
    with pyro.get_param_store().scope():
        trace = poutine.trace(program).get_trace(*map(torch.tensor, data))
    found = []
    for name, site in trace.nodes.items():
        if isinstance(site.get("fn"), _Subsample):  # how Pyro's trace shows a plate
            found.append(("plate", name, (len(site["value"]),), ()))
        elif site["type"] in ("param", "sample"):
            frames = sorted((f for f in site["cond_indep_stack"] if f.vectorized), key=lambda f: f.dim)
            plates = tuple((f.name, f.size, f.full_size or f.size) for f in frames)
            found.append((site["type"], name, tuple(site["value"].shape), plates if site["type"] == "sample" else ()))
    return found


@each_row
@pytest.mark.parametrize(("size", "total"), [(5, None), (3, TOTAL)])
def test_sites_are_those_of_the_recording_language(row: Row, size: int, total: int | None):
    data = tuple(part[:size] for part in row.data(np.random.default_rng(0)))
    static = {} if total is None else {"total": total}
    for method, recorder in record(row.declaration, data, total).items():
        assert recorder.sites or method == "guide", "nothing was recorded"
        for name, shape, plates in [site[1:] for site in recorder.sites if site[0] == "sample"]:
            assert plates == (("data", size, total or size),), name
            assert shape[0] == size
        with exact("numpyro"):
            assert numpyro_sites(getattr(bind(row.declaration, "numpyro", **static), method), data) == recorder.sites
        with exact("pyro"):
            assert pyro_sites(getattr(bind(row.declaration, "pyro", **static), method), data) == recorder.sites


# --- densities and their gradients ------------------------------------------------------------------------------------


class Densities(SimpleNamespace):
    """By method: log p of each site for each datum, and gradients of their sum in constrained coordinates."""

    sites: dict[str, dict[str, np.ndarray]]
    gradients: dict[str, dict[str, np.ndarray]]


@cache
def numpyro_program(declaration: Any) -> Any:
    bound = bind(declaration, "numpyro", total=TOTAL)

    def density(params: Any, latents: Any, data: Any, method: str) -> Any:
        program = handlers.substitute(handlers.seed(getattr(bound, method), 0), data={**params, **latents})
        trace = handlers.trace(program).get_trace(*data)
        sites = {n: s["scale"] * s["fn"].log_prob(s["value"]) for n, s in trace.items() if s["type"] == "sample"}
        return sum((v.sum() for v in sites.values()), jax.numpy.zeros(())), sites

    both = {m: partial(jax.value_and_grad(density, has_aux=True), method=m) for m in METHODS}
    return jax.jit(lambda *args: {m: f(*args) for m, f in both.items()}, compiler_options=QUICK)


def numpyro_densities(declaration: Any, params: Mapping, latents: Mapping, data: Inputs) -> Densities:
    with exact("numpyro"):
        program = numpyro_program(declaration)
        out = program(*(arrays("numpyro", v) for v in (params, latents)), tuple(map(shared("numpyro").array, data)))
        out = jax.tree.map(np.asarray, out)
    return Densities(sites={m: v[0][1] for m, v in out.items()}, gradients={m: v[1] for m, v in out.items()})


def pyro_densities(declaration: Any, params: Mapping, latents: Mapping, data: Inputs) -> Densities:
    bound = bind(declaration, "pyro", total=TOTAL)
    out = Densities(sites={}, gradients={})
    with exact("pyro"):
        for method in METHODS:
            leaves = {name: value.requires_grad_() for name, value in arrays("pyro", params).items()}
            program = poutine.condition(getattr(bound, method), data=arrays("pyro", latents))
            with Parameters(leaves):
                trace = poutine.trace(program).get_trace(*map(shared("pyro").array, data))
            trace.compute_log_prob()
            sites = {n: trace.nodes[n]["log_prob"] for n in trace.stochastic_nodes + trace.observation_nodes}
            sites = {n: v for n, v in sites.items() if not isinstance(trace.nodes[n]["fn"], _Subsample)}
            out.sites[method] = {n: v.detach().numpy() for n, v in sites.items()}
            total = sum((v.sum() for v in sites.values()), 0.0 * sum(v.sum() for v in leaves.values()))
            found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
            out.gradients[method] = {n: g.numpy() for n, g in zip(leaves, found, strict=True)}
    return out


@each_row
def test_densities_and_gradients_agree(row: Row):
    rng = np.random.default_rng(1)
    data = row.data(rng)
    params, latents = random_params(row.declaration, data, rng), tails(row.declaration, data, rng)
    a, b = (f(row.declaration, params, latents, data) for f in (numpyro_densities, pyro_densities))
    moved = set()
    for method in METHODS:
        assert a.sites[method].keys() == b.sites[method].keys()
        for name, value in a.sites[method].items():
            assert value.shape == data[0].shape[:1], name
            close(value, b.sites[method][name], 1e-10)
        for name in params:
            close(a.gradients[method][name], b.gradients[method][name], 1e-10)
            if a.gradients[method][name].any():
                moved.add(name)
    assert moved == set(params) - row.unmoved, "some parameters have no gradient at all"


def pyro_particles(declaration: Any, params: Mapping, data: Inputs) -> tuple[dict, dict]:
    """Latents drawn in an outer plate of PARTICLES, and log p or log q of each site there."""
    bound = bind(declaration, "pyro", total=TOTAL)
    with exact("pyro"), torch.no_grad(), Parameters(arrays("pyro", params)):
        torch.manual_seed(0)
        given = tuple(map(shared("pyro").array, data))
        with pyro.plate("particles", PARTICLES, dim=-2):
            guide = poutine.trace(bound.guide).get_trace(*given)
            model = poutine.trace(poutine.replay(bound.model, trace=guide)).get_trace(*given)
        sites = {}
        for method, trace in zip(METHODS, (model, guide), strict=True):
            trace.compute_log_prob()
            found = {n: s for n, s in trace.nodes.items() if "log_prob" in s and not isinstance(s["fn"], _Subsample)}
            sites[method] = {n: s["log_prob"].numpy() for n, s in found.items()}
        return {n: guide.nodes[n]["value"].numpy() for n in sites["guide"]}, sites


def numpyro_particles(declaration: Any, params: Mapping, latents: Mapping, data: Inputs) -> dict:
    bound = bind(declaration, "numpyro", total=TOTAL)

    def run(values: Any, data: Any) -> Any:
        sites = {}
        for method in METHODS:
            with numpyro.plate("particles", PARTICLES, dim=-2):
                program = handlers.substitute(handlers.seed(getattr(bound, method), 0), data=values)
                trace = handlers.trace(program).get_trace(*data)
            found = {n: s for n, s in trace.items() if s["type"] == "sample"}
            sites[method] = {n: s["scale"] * s["fn"].log_prob(s["value"]) for n, s in found.items()}
        return sites

    with exact("numpyro"):
        values = arrays("numpyro", {**params, **latents})
        out = jax.jit(run, compiler_options=QUICK)(values, tuple(map(shared("numpyro").array, data)))
        return jax.tree.map(np.asarray, out)


@each_row
def test_particles_are_drawn_and_scored_as_each_alone(row: Row):
    """A further left dimension, as a plate of particles or an enumerated site gives, changes nothing but the shape."""
    rng = np.random.default_rng(7)
    data = row.data(rng)
    params = random_params(row.declaration, data, rng)
    latents, sites = pyro_particles(row.declaration, params, data)
    drawn = record(row.declaration, data)["guide"].draws
    assert {n: v.shape for n, v in latents.items()} == {
        n: (PARTICLES, *fn.batch_shape, *fn.event_shape) for n, fn in drawn.items()
    }
    other = numpyro_particles(row.declaration, params, latents, data)
    for i in range(PARTICLES):
        alone = pyro_densities(row.declaration, params, {n: v[i] for n, v in latents.items()}, data).sites
        for method in METHODS:
            assert sites[method].keys() == other[method].keys() == alone[method].keys()
            for name, value in alone[method].items():
                assert other[method][name].shape == (PARTICLES, len(data[0])), name
                close(sites[method][name][i], value, 1e-10)
                close(other[method][name][i], value, 1e-10)


# --- files ------------------------------------------------------------------------------------------------------------


@each_row
def test_a_file_of_one_engine_is_a_file_of_the_other(row: Row, tmp_path):
    """Initial values of each engine, saved under their names, give the other engine the same log p."""
    rng = np.random.default_rng(2)
    data = row.data(rng)
    latents = tails(row.declaration, data, rng)
    for engine in ENGINES:
        here = shared(engine)
        with exact(engine):
            made, shape = here.parameters(*bind(row.declaration, engine), tuple(map(here.array, data)), {}, here.key(3))
            # A step in the coordinates that training moves in.
            free = {n: v + here.array(rng.normal(0, 0.3, tuple(v.shape))) for n, v in shape.free(made).items()}
            save_params(tmp_path / engine, here.to_numpy(shape.constrain(free)))
        params = load_params(tmp_path / engine)
        assert {n: v.shape for n, v in params.items()} == {
            n: v.shape for n, v in random_params(row.declaration, data, rng).items()
        }
        a, b = (f(row.declaration, params, latents, data) for f in (numpyro_densities, pyro_densities))
        for name, value in a.sites["model"].items():
            close(value, b.sites["model"][name], 1e-10)


@each_engine
@each_row
def test_constrained_values_survive_training_coordinates(row: Row, engine: str):
    data = row.data(np.random.default_rng(0))
    params = random_params(row.declaration, data, np.random.default_rng(4))
    with exact(engine):
        here = shared(engine)
        shape = here.coordinates(*bind(row.declaration, engine), tuple(map(here.array, data)), {})
        free = shape.free(arrays(engine, params))
        back = here.to_numpy(shape.constrain(free))
        logs = {n for n, rule in record(row.declaration, data)["model"].rules.items() if rule == "positive"}
        for name, value in params.items():
            close(back[name], value, 1e-14)
            close(here.to_numpy(free)[name], np.log(value) if name in logs else value, 1e-14)


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
