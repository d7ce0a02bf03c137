"""Priors richer than a normal: the mixture against scipy and Bayes, Markov paths against dense Gaussians and Kalman."""

from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import jax
import numpy as np
import pytest
import torch
from jax import random
from numpyro import handlers
from pyro import poutine
from scipy import linalg, stats

from inference import probe
from inference._pyro import Parameters
from inference.gradients.blocks import Blocks
from ppl_models import VAE, LinearMarkov, MarkovVAE, MixtureVAE, bind
from ppl_models.language import ENGINES, Program
from ppl_models.networks import constant

from .catalogue import Recorder, arrays, close, exact, random_params, shared, words

each_engine = pytest.mark.parametrize("engine", ENGINES)
Params = dict[str, np.ndarray]
#: The linear case: steps of 3 columns from 2 latents, with a full sequence, a short one and one of a single step.
SPACE, LENGTHS = LinearMarkov(3, 2, 2), np.array([4, 2, 1])


@cache
def linear() -> tuple[Params, np.ndarray]:
    """Random parameters, and sequences whose padding is not zero but must not matter."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (3, 4, 3))
    return random_params(SPACE, (x, LENGTHS), rng), x


def given(engine: str, params: Params) -> Any:
    """Within it, `param` answers with these values."""
    values = arrays(engine, params)
    return handlers.substitute(data=values) if engine == "numpyro" else Parameters(values)


def call(engine: str, declaration: Any, method: str, params: Params, *args: np.ndarray) -> np.ndarray:
    """A method of a declaration, at these parameters."""
    program = Program(declaration, method, engine)  # type: ignore[arg-type]
    with exact(engine):
        inputs = [shared(engine).array(a) for a in args]
        if engine == "numpyro":
            return np.asarray(jax.jit(handlers.substitute(program, data=arrays(engine, params)))(*inputs))
        with torch.no_grad(), given(engine, params):
            return program(*inputs).numpy()


def log_joint(engine: str, declaration: Any, params: Params, args: tuple, z: Any) -> Any:
    """log p(x, z) of each row, from the engine's own z, within an exact session."""
    model = bind(declaration, engine).model
    if engine == "numpyro":
        program = handlers.substitute(handlers.seed(model, 0), data={**params, "z": z})
        sites = handlers.trace(program).get_trace(*args)
        return sum(s["fn"].log_prob(s["value"]) for s in sites.values() if s["type"] == "sample")
    args = tuple(map(shared(engine).array, args))
    with given(engine, params):
        trace = poutine.trace(poutine.condition(model, data={"z": z})).get_trace(*args)
    return sum(trace.nodes[name]["fn"].log_prob(trace.nodes[name]["value"]) for name in ("z", "x"))


def joint(engine: str, declaration: Any, params: Params, args: tuple, z: np.ndarray) -> np.ndarray:
    with exact(engine):
        run = jax.jit(log_joint, static_argnums=(0, 1)) if engine == "numpyro" else log_joint
        return np.asarray(run(engine, declaration, params, args, shared(engine).array(z)))


def elbo_rows(engine: str, declaration: Any, params: Params, args: tuple, seed: int = 0) -> np.ndarray:
    """One-sample ELBO of each row."""
    bound, rows = bind(declaration, engine), import_module(f"inference.estimators._{engine}").elbo_rows
    with exact(engine):
        params, args = arrays(engine, params), tuple(map(shared(engine).array, args))
        if engine == "numpyro":
            return np.asarray(jax.jit(lambda p, a: rows(random.key(seed), p, *bound, a, {}))(params, args))
        torch.manual_seed(seed)
        return rows(params, *bound, args, {}).numpy()


def draw(engine: str, fn: Any, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    return np.asarray(fn.sample(random.key(seed)) if engine == "numpyro" else fn.sample())


def moments_agree(draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> None:
    """Sample mean and covariance within 5 standard errors of a Gaussian's, or nearly one's."""
    n, variance = len(draws), np.diag(covariance)
    assert (np.abs(draws.mean(0) - mean) <= 5 * np.sqrt(variance / n)).all()
    error = np.sqrt((covariance**2 + np.outer(variance, variance)) / n)
    assert (np.abs(np.cov(draws.T) - covariance) <= 5 * error).all()


# --- mixture prior ----------------------------------------------------------------------------------------------------


@each_engine
def test_a_mixture_of_one_standard_normal_is_the_vae(engine: str):
    rng = np.random.default_rng(1)
    x, z = rng.integers(0, 2, (4, 5)).astype(float), rng.normal(0, 3, (4, 2))
    plain, mixture = VAE(5, 2, (3,)), MixtureVAE(5, 2, (3,), num_components=1)
    params = random_params(plain, (x,), rng)
    extra = {"prior.logits": np.array([0.7]), "prior.locs": np.zeros((1, 2)), "prior.scale": np.ones((1, 2))}
    close(joint(engine, mixture, params | extra, (x,), z), joint(engine, plain, params, (x,), z), 1e-14)
    close(elbo_rows(engine, mixture, params | extra, (x,)), elbo_rows(engine, plain, params, (x,)), 1e-14)


@each_engine
def test_the_mixture_prior_is_scipys_and_its_responsibilities_are_bayes(engine: str):
    rng = np.random.default_rng(2)
    x, z = rng.integers(0, 2, (4, 5)).astype(float), rng.uniform(-6, 6, (3, 4, 2))
    declaration = MixtureVAE(5, 2, (3,), num_components=3)
    params = random_params(declaration, (x,), rng)
    weights = np.exp(params["prior.logits"]) / np.exp(params["prior.logits"]).sum()
    placed = zip(params["prior.locs"], params["prior.scale"], strict=True)
    parts = [stats.multivariate_normal(loc, np.diag(scale**2)) for loc, scale in placed]
    each = np.stack([w * part.pdf(z) for w, part in zip(weights, parts, strict=True)], -1)
    found = call(engine, declaration, "responsibilities", params, z)
    close(found, each / each.sum(-1, keepdims=True), 1e-10)
    close(found.sum(-1), np.ones((3, 4)), 1e-12)
    with exact(engine), given(engine, params):
        prior = declaration.prior(words(engine))
        close(prior.log_prob(shared(engine).array(z)), np.log(each.sum(-1)), 1e-10)
        close(prior.expand((4,)).log_prob(shared(engine).array(z)), np.log(each.sum(-1)), 1e-10)
        draws = draw(engine, prior.expand((20_000,)), 0)
        mean = declaration.encoder(words(engine), shared(engine).array(x)).mean
    centre = weights @ params["prior.locs"]
    second = sum(w * (part.cov + np.outer(part.mean, part.mean)) for w, part in zip(weights, parts, strict=True))
    moments_agree(draws, centre, second - np.outer(centre, centre))
    at_mean = call(engine, declaration, "responsibilities", params, np.asarray(mean))
    close(call(engine, declaration, "classify", params, x), np.log(at_mean), 1e-10)


@each_engine
def test_components_start_apart(engine: str):
    here = shared(engine)
    with exact(engine):
        x = here.array(np.zeros((2, 5)))
        made, _ = here.parameters(*bind(MixtureVAE(5, 2, (3,), num_components=4), engine), (x,), {}, here.key(0))
        locs = here.to_numpy(made)["prior.locs"]
    gaps = np.linalg.norm(locs[:, None] - locs, axis=-1)
    assert gaps[~np.eye(4, dtype=bool)].min() > 0.05


# --- Markov prior: the linear-Gaussian case ---------------------------------------------------------------------------


def dense_prior(params: Params, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (z₁, …, z_T) end to end, from B z = b + noise with B bidiagonal."""
    A, d = params["transition.weight"], len(params["transition.bias"])
    B = np.eye(steps * d) - np.kron(np.eye(steps, k=-1), A)
    b = np.tile(params["transition.bias"], steps)
    b[:d] += A @ params["prior.initial"]
    inverse = np.linalg.inv(B)
    return inverse @ b, inverse @ np.diag(np.tile(params["transition.scale"] ** 2, steps)) @ inverse.T


def dense_evidence(params: Params, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """log p(x) of each row from the joint Gaussian of its real steps."""
    out = []
    for row, steps in zip(x, lengths, strict=True):
        mean, covariance = dense_prior(params, steps)
        C = np.kron(np.eye(steps), params["decoder.weight"])
        noise = np.diag(np.tile(params["decoder.scale"] ** 2, steps))
        peer = stats.multivariate_normal(C @ mean + np.tile(params["decoder.bias"], steps), C @ covariance @ C.T + noise)
        out.append(peer.logpdf(row[:steps].ravel()))
    return np.array(out)


@each_engine
def test_the_kalman_evidence_is_that_of_the_dense_gaussian(engine: str):
    params, x = linear()
    close(call(engine, SPACE, "log_evidence", params, x, LENGTHS), dense_evidence(params, x, LENGTHS), 1e-9)
    # Without memory the steps are independent draws of one Gaussian.
    params = params | {"transition.weight": np.zeros((2, 2))}
    C = params["decoder.weight"]
    peer = stats.multivariate_normal(
        C @ params["transition.bias"] + params["decoder.bias"],
        C @ np.diag(params["transition.scale"] ** 2) @ C.T + np.diag(params["decoder.scale"] ** 2),
    )
    known = np.where(np.arange(4) < LENGTHS[:, None], peer.logpdf(x), 0).sum(1)
    close(call(engine, SPACE, "log_evidence", params, x, LENGTHS), known, 1e-9)


@each_engine
def test_the_models_own_density_integrates_to_the_kalman_evidence(engine: str):
    """log p(x) = log p(x, z*) + n/2 log 2π − ½ log|−H|: exact, since log p(x, z) is quadratic in the n real numbers of z."""
    params, x = linear()
    known = call(engine, SPACE, "log_evidence", params, x, LENGTHS)
    for row, steps in enumerate(LENGTHS):
        args = (x[row : row + 1], LENGTHS[row : row + 1])

        def density(z: Any, args: tuple = args) -> Any:
            return log_joint(engine, SPACE, params, args, z.reshape(1, 4, 2)).sum()

        with exact(engine):
            start = shared(engine).array(np.random.default_rng(row).normal(size=8))
            if engine == "numpyro":
                value, slope, curvature = jax.jit(lambda z: (density(z), jax.grad(density)(z), jax.hessian(density)(z)))(start)
            else:
                value, slope = density(start), torch.autograd.functional.jacobian(density, start)
                curvature = torch.autograd.functional.hessian(density, start)
            value, slope, curvature = (np.asarray(v) for v in (value, slope, curvature))
        assert not slope[2 * steps :].any(), "padding carries density"
        H, g = -curvature[: 2 * steps, : 2 * steps], slope[: 2 * steps]
        peak = value + g @ np.linalg.solve(H, g) / 2
        close(peak + steps * np.log(2 * np.pi) - np.linalg.slogdet(H)[1] / 2, known[row], 1e-9)


@each_engine
@pytest.mark.parametrize("declaration", [SPACE, MarkovVAE(3, 2, 3, (4,), 3)], ids=["linear", "deep"])
def test_padding_changes_nothing(engine: str, declaration: Any):
    rng = np.random.default_rng(3)
    x, lengths = rng.integers(0, 2, (3, 4, 3)).astype(float), LENGTHS
    params, z = random_params(declaration, (x, lengths), rng), rng.normal(size=(3, 4, 2))
    mask = (np.arange(4) < lengths[:, None])[..., None]
    others = np.where(mask, x, 1 - x), np.where(mask, z, 50.0)
    longer = [np.concatenate([v, rng.integers(0, 2, (3, 3, v.shape[-1]))], 1) for v in (x, z)]
    known = joint(engine, declaration, params, (x, lengths), z)
    for values, path in ((x, others[1]), (others[0], z), longer):
        close(joint(engine, declaration, params, (values, lengths), path), known, 1e-14)
    reading = call(engine, declaration, "reader", params, x, mask[..., 0])
    close(call(engine, declaration, "reader", params, others[0], mask[..., 0]), reading, 1e-14)
    assert not np.where(mask, 0, reading).any()
    if declaration is SPACE:
        known = call(engine, declaration, "log_evidence", params, x, lengths)
        for values in (others[0], longer[0]):
            close(call(engine, declaration, "log_evidence", params, values, lengths), known, 1e-14)


@each_engine
def test_paths_are_drawn_from_the_dense_gaussian(engine: str):
    params, _ = linear()
    with exact(engine), given(engine, params):
        mask = shared(engine).array(np.broadcast_to(np.arange(4) < 3, (20_000, 4)))
        draws = draw(engine, SPACE.prior(words(engine), mask), 0)
    moments_agree(draws[:, :3].reshape(-1, 6), *dense_prior(params, 3))
    close(draws[:, 3], draws[:, 2], 0)


def initial_slope(engine: str, declaration: Any, params: Params, mask: np.ndarray, f: Any) -> np.ndarray:
    """The Jacobian in z₀ of `f(prior, one differentiable draw)`."""
    ppl, here = words(engine), shared(engine)
    real, start = here.array(mask), here.array(params["prior.initial"])

    def value(initial: Any) -> Any:
        with given(engine, params):
            prior = ppl.markov(declaration.transition(ppl), initial, None, real)
        return f(prior, prior.sample(random.key(0)) if engine == "numpyro" else prior.rsample())

    jacobian = jax.jit(jax.jacobian(value)) if engine == "numpyro" else partial(torch.autograd.functional.jacobian, value)
    return np.asarray(jacobian(start))


@each_engine
def test_draws_are_differentiable_through_every_step(engine: str):
    """Linear: ∂zₜ/∂z₀ = Aᵗ whatever the noise; padding repeats the last real step."""
    params, _ = linear()
    with exact(engine):
        slope = initial_slope(engine, SPACE, params, np.arange(4)[None] < 3, lambda _, z: z)
    close(slope[0], np.stack([np.linalg.matrix_power(params["transition.weight"], t) for t in (1, 2, 3, 3)]), 1e-12)


@each_engine
def test_gradients_stay_finite_where_the_chain_would_overflow(engine: str):
    """A transition of 50 over 60 padded steps leaves float32 behind; the padding does not follow it."""
    declaration, steps, lengths = LinearMarkov(2, 2, 3), 60, np.array([3, 1])
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, steps, 2)) * (np.arange(steps) < lengths[:, None])[..., None]
    params = random_params(declaration, (x, lengths), rng) | {"transition.weight": 50 * np.eye(2)}
    mask = np.arange(steps) < lengths[:, None]

    def total(prior: Any, z: Any) -> Any:
        return 1e-12 * (z**2).sum() + prior.log_prob(z).sum()

    with shared(engine).session("float32", "cpu"):
        slope = initial_slope(engine, declaration, params, mask, total)
    assert np.isfinite(slope).all()


# --- Markov guide: exact in the linear case ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ExactGuide(LinearMarkov):
    """q(zₜ | zₜ₋₁, uₜ) = N(Kₜ zₜ₋₁ + kₜ, Lₜ Lₜᵀ), with Kₜ, kₜ and Lₜ of each step read from one array uₜ."""

    num_rows: int = 3
    num_steps: int = 4

    def guide(self, ppl: Any, x: Any, lengths: Any, total: int | None = None) -> None:
        n = self.latent_dim
        u = ppl.param("guide.steps", constant(ppl, 0.0, self.num_rows, self.num_steps, n * (2 * n + 1)))

        def step(previous: Any, u: Any) -> Any:
            square = (*u.shape[:-1], n, n)
            loc = (u[..., : n * n].reshape(square) @ previous[..., None])[..., 0] + u[..., n * n : n * n + n]
            return ppl.dist.MultivariateNormal(loc, scale_tril=ppl.xp.tril(u[..., n * n + n :].reshape(square)))

        initial, mask = self.initial_state(ppl, "prior"), self.mask(ppl, x, lengths)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.markov(step, initial, u, mask))


def posterior_steps(params: Params, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """uₜ of p(zₜ | zₜ₋₁, xₜ … x_T) from messages exp(−½ zᵀ J z + jᵀ z) backward in time, by numpy."""
    A, a, Q = params["transition.weight"], params["transition.bias"], np.diag(params["transition.scale"] ** 2)
    C, c, R = params["decoder.weight"], params["decoder.bias"], np.diag(params["decoder.scale"] ** 2)
    d = len(a)
    out = np.zeros((*x.shape[:2], d * (2 * d + 1)))
    out[..., d * d + d :] = np.eye(d).ravel()  # padding: any distribution
    for row, steps in enumerate(lengths):
        J, j = np.zeros((d, d)), np.zeros(d)
        for t in reversed(range(steps)):
            J, j = J + C.T @ np.linalg.solve(R, C), j + C.T @ np.linalg.solve(R, x[row, t] - c)
            V = np.linalg.inv(np.linalg.inv(Q) + J)
            gain = V @ np.linalg.inv(Q)
            out[row, t] = np.concatenate([(gain @ A).ravel(), gain @ a + V @ j, linalg.cholesky(V, lower=True).ravel()])
            # Through the transition: p(x | z_t-1) = N(J⁻¹ j; A z + a, Q + J⁻¹) as a function of z.
            S = np.linalg.inv(Q + np.linalg.inv(J))
            J, j = A.T @ S @ A, A.T @ S @ (np.linalg.solve(J, j) - a)
    return out


def exact_guide() -> tuple[ExactGuide, Params, np.ndarray, np.ndarray]:
    """Three columns see both latents, so every message is proper; with its parameters, data and evidence."""
    params, x = linear()
    model = {n: v for n, v in params.items() if not n.startswith("encoder.")}
    declaration = ExactGuide(**{name: getattr(SPACE, name) for name in ("data_dim", "latent_dim", "recurrent")})
    return declaration, model | {"guide.steps": posterior_steps(params, x, LENGTHS)}, x, dense_evidence(params, x, LENGTHS)


@each_engine
def test_one_path_from_the_exact_posterior_gives_log_evidence(engine: str):
    declaration, params, x, known = exact_guide()
    close(elbo_rows(engine, declaration, params, (x, LENGTHS)), known, 1e-9)


@each_engine
@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_particles_of_paths_give_log_evidence(engine: str, bound: str):
    declaration, params, x, known = exact_guide()
    elbo = import_module(f"inference.estimators._{engine}").EstimatorELBO("pathwise", num_particles=3, bound=bound)
    pair = bind(declaration, engine)
    with exact(engine):
        values, args = arrays(engine, params), tuple(map(shared(engine).array, (x, LENGTHS)))
        if engine == "numpyro":
            loss = jax.jit(lambda p: elbo.evaluate(random.key(0), p, {}, *pair, args, {})[0])(values)
        else:
            torch.manual_seed(0)
            loss = elbo.evaluate(values, {}, *pair, args, {})[0]
        close(-np.asarray(loss), known.sum(), 1e-9)


@each_engine
def test_path_only_gradients_of_a_markov_guide_vanish_at_the_exact_posterior(engine: str):
    declaration, params, x, _ = exact_guide()
    own = Blocks.of({name: v.shape for name, v in params.items()}).slices["guide.steps"]
    where = {"engine": engine, "dtype": "float64", "device": "cpu"}
    pair = bind(declaration, engine)
    norms = {
        estimator: np.linalg.norm(probe(*pair, (x, LENGTHS), estimator, params, 20, 2, **where)[:, own], axis=1)
        for estimator in ("path-only", "pathwise")
    }
    assert norms["path-only"].max() < 1e-6
    assert norms["pathwise"].min() > 1e-2


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_the_loop_over_time(reverse: bool):
    rng = np.random.default_rng(5)
    x, y, start = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(2, 3, 5, 1)), rng.normal(size=(2, 3, 4))
    carry, known = start, np.zeros((2, 3, 5, 2))
    for t in reversed(range(5)) if reverse else range(5):
        carry = 0.5 * carry + x[..., t, :] * y[..., t, :]
        known[..., t, :] = carry[..., :2] - y[..., t, :]

    def step(carry: Any, x: Any, y: Any) -> tuple[Any, Any]:
        carry = 0.5 * carry + x * y
        return carry, carry[..., :2] - y

    close(Recorder().scan(step, start, x, y, reverse=reverse), known, 1e-14)
    for engine in ENGINES:
        with exact(engine):
            inputs = (shared(engine).array(v) for v in (start, x, y))
            close(words(engine).scan(step, *inputs, reverse=reverse), known, 1e-14)


# --- pushforward ------------------------------------------------------------------------------------------------------


@each_engine
def test_a_pushforward_is_the_law_of_the_image(engine: str):
    """u ~ N(0, I₂), z = (u₁, exp(u₁) u₂ + u₁²): density against its closed form, integrated to one, draws by their moments."""
    ppl = words(engine)

    def forward(u: Any) -> Any:
        first, second = u[..., :1], u[..., 1:]
        return ppl.xp.concat([first, ppl.xp.exp(first) * second + first**2], axis=-1)

    def inverse(z: Any) -> Any:
        first, second = z[..., :1], z[..., 1:]
        return ppl.xp.concat([first, (second - first**2) * ppl.xp.exp(-first)], axis=-1), -z[..., 0]

    with exact(engine):
        base = ppl.dist.Normal(ppl.xp.zeros(2), 1.0).to_event(1)
        law = ppl.pushforward(base, forward, inverse)
        one, two = np.meshgrid(np.linspace(-5, 5, 401), np.linspace(-60, 90, 6001), indexing="ij")
        z = np.stack([one, two], -1)
        log_p = np.asarray(law.log_prob(shared(engine).array(z)))
        known = stats.norm.logpdf(one) + stats.norm(one**2, np.exp(one)).logpdf(two)
        close(log_p, known, 1e-9)
        close(np.trapezoid(np.trapezoid(np.exp(log_p), two[0]), one[:, 0]), 1.0, 1e-3)
        torch.manual_seed(0)
        draws = law.sample(random.key(0), (20_000,)) if engine == "numpyro" else law.sample((20_000,))
        back, _ = inverse(draws)
        assert stats.kstest(np.asarray(back).ravel(), "norm").pvalue > 1e-6
