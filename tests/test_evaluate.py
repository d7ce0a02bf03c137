"""Log-likelihoods and the use of latents against closed forms, sums over every state, and each other."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from scipy import stats

from inference.estimate import mean
from inference.evaluate import DRAWS, Evaluation, errors, evaluate, log_likelihood_rows, stream, usage
from inference.files import to_json
from inference.svi import Fit
from ppl_models import VAE, Bound, FactorAnalysis, GaussianMixture, InputError, NumericalError, SigmoidBeliefNet, bind
from ppl_models.datasets import from_arrays
from ppl_models.language import ENGINES
from ppl_models.likelihoods import Normal

from .catalogue import all_values, close, random_params, shared

each_engine = pytest.mark.parametrize("engine", ENGINES)
DOUBLE = {"dtype": "float64", "device": "cpu"}


def trained(model: Any, params: dict, heldout: np.ndarray, engine: str, **extra: Any) -> Fit:
    """A fit that says what it was handed."""
    blank: dict[str, Any] = {f.name: None for f in dataclasses.fields(Fit)}
    data = from_arrays(heldout, heldout=heldout, **extra)
    data = dataclasses.replace(data, heldout=np.asarray(heldout, np.float64))
    bound = model if isinstance(model, Bound) else bind(model, engine, total=len(heldout))
    return Fit(**blank | {
        "model": model, "bound": bound, "engine": engine, "data": data, "params": params,
        "manifest": {"dtype": "float64", "device": "cpu (cpu)"},
    })  # fmt: skip


def evidence(params: dict, x: np.ndarray) -> np.ndarray:
    covariance = params["loading"] @ params["loading"].T + np.diag(params["scale"] ** 2 + np.zeros(x.shape[1]))
    return stats.multivariate_normal(params["loc"], covariance).logpdf(x)


def posterior(params: dict, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of z given x."""
    whitened = params["loading"] / params["scale"][:, None] ** 2
    covariance = np.linalg.inv(np.eye(whitened.shape[1]) + params["loading"].T @ whitened)
    return (x - params["loc"]) @ whitened @ covariance, covariance


@dataclass(frozen=True)
class Wide(FactorAnalysis):
    """Factor analysis whose guide has the exact mean and 1.5 times the marginal scale of the posterior."""

    factor: float = 1.5

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        exact = self.posterior(ppl, x)
        scale = self.factor * ppl.xp.sqrt(exact.variance)  # type: ignore[attr-defined]
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.dist.Normal(exact.mean, scale).to_event(1))  # type: ignore[attr-defined]


def analysis(rows: int = 8, seed: int = 0) -> tuple[dict, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, (rows, 4))
    return random_params(FactorAnalysis(4, 2), x, rng), x


@each_engine
def test_one_sample_from_the_exact_posterior_is_enough(engine: str):
    params, x = analysis()
    known = evidence(params, x)
    fit = trained(FactorAnalysis(4, 2), params, x, engine)
    for num_samples in (1, 7):
        found = log_likelihood_rows(fit, num_samples=num_samples, **DOUBLE)
        close(found.log_likelihood, known, 1e-9)
        assert num_samples == 1 or (found.standard_error < 1e-6).all()
    whole = evaluate(fit, num_samples=7, **DOUBLE)
    assert (whole.kind, whole.bound, whole.standard_error_sampling) == ("exact", "log p(x)", 0.0)
    close(whole.log_likelihood.value, known.mean(), 1e-9)
    close(whole.gap.value, 0.0, 1e-9)
    close(whole.effective_samples, 7.0, 1e-6)


@each_engine
def test_a_wrong_guide_still_finds_log_evidence_within_its_own_error(engine: str):
    params, x = analysis(N := 300)
    known, K = evidence(params, x), 500
    fit = trained(bind(Wide(4, 2), engine), params, x, engine)
    found = log_likelihood_rows(fit, num_samples=K, chunk=6_000, **DOUBLE)
    z = (found.log_likelihood - known) / found.standard_error
    assert 1e-3 < found.standard_error.max() < 0.3
    # Draws of one program, standardised: mean 0 and variance 1, each to 4 of its standard deviations.
    assert abs(z.mean()) < 4 / np.sqrt(N)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / N)
    whole = evaluate(fit, num_samples=K, chunk=6_000, **DOUBLE)
    assert (whole.kind, whole.bound) == ("importance-sampled", f"L_{K}")
    close(whole.log_likelihood.value, known.mean(), 4 * whole.standard_error_sampling / abs(known.mean()))
    total = (whole.log_likelihood.high - whole.log_likelihood.value) / 1.96
    close(np.hypot(whole.standard_error_sampling, whole.standard_error_rows), total, 1e-9)
    # KL(q ‖ exact posterior) of two normals with one mean is the gap.
    _, covariance = posterior(params, x)
    s2 = 2.25 * np.diag(covariance)
    gap = 0.5 * (np.trace(np.linalg.solve(covariance, np.diag(s2))) - 2 + np.log(np.linalg.det(covariance)) - np.log(s2).sum())
    close(whole.gap.value, gap, 0.05)
    # E w = 1, E w² = ∫ p² / q: the effective share of samples in closed form.
    precision = 2 * np.linalg.inv(covariance) - np.diag(1 / s2)
    second = np.sqrt(s2.prod() / np.linalg.det(precision)) / np.linalg.det(covariance)
    close(whole.effective_samples / K, 1 / second, 0.1)


@each_engine
def test_bounds_rise_with_the_number_of_samples(engine: str):
    params, x = analysis(3, seed=3)
    known, copies = evidence(params, x).mean(), 400
    fit = trained(bind(Wide(4, 2, factor=2.0), engine), params, np.repeat(x, copies, 0), engine)  # type: ignore[arg-type]
    means, errors = [], []
    for K in (1, 5, 50):
        found = log_likelihood_rows(fit, num_samples=K, chunk=6_000, **DOUBLE).log_likelihood.reshape(3, copies)
        means.append(found.mean())
        errors.append(found.std(1).mean() / np.sqrt(3 * copies))
    assert (np.diff([*means, known]) > -4 * np.array(errors)).all()
    assert means[1] - means[0] > 5 * np.hypot(errors[0], errors[1])
    assert means[2] - means[1] > 5 * np.hypot(errors[1], errors[2])
    # The shortfall that one run reports is that of its bound.
    whole = evaluate(fit, num_samples=50, chunk=6_000, **DOUBLE)
    close((known - whole.log_likelihood.value) / whole.shortfall, 1.0, 0.35)


def sbn_log_p(params: dict, x: np.ndarray) -> np.ndarray:
    def bernoulli(logits: np.ndarray, value: np.ndarray) -> np.ndarray:
        return (value * -np.logaddexp(0, -logits) - (1 - value) * np.logaddexp(0, logits)).sum(-1)

    states = all_values(2, 3)
    logits = states @ params["decoder.0.weight"] + params["decoder.0.bias"]
    return np.logaddexp.reduce(bernoulli(params["prior.logits"], states) + bernoulli(logits, x[:, None]), -1)


@each_engine
def test_discrete_latents_against_the_sum_over_states(engine: str):
    rng = np.random.default_rng(4)
    x = rng.integers(0, 2, (12, 5)).astype(float)
    declaration = SigmoidBeliefNet(5, 3)
    params = random_params(declaration, x, rng)
    fit = trained(declaration, params, x, engine)
    found = log_likelihood_rows(fit, num_samples=2_000, **DOUBLE)
    z = (found.log_likelihood - sbn_log_p(params, x)) / found.standard_error
    assert abs(z).max() < 4.5
    assert abs(z.mean()) < 4 / np.sqrt(12)
    used = usage(engine_latents(engine, declaration, params, x))
    q = 1 / (1 + np.exp(-(x @ params["encoder.0.weight"] + params["encoder.0.bias"])))
    p = 1 / (1 + np.exp(-params["prior.logits"]))
    kl = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    close(used["kl"]["z1"], kl.mean(0), 1e-6)
    close(used["variances"]["z1"], q.var(0), 1e-6)


@each_engine
def test_a_plate_that_stands_for_more_data_changes_no_row(engine: str):
    params, x = analysis()
    work = import_module(f"inference.evaluate._{engine}")
    with shared(engine).session("float64", "cpu"):
        found = work.weigh(*bind(FactorAnalysis(4, 2), engine, total=80), params, (x,), 2, 0, None)
    close(found.log_p, evidence(params, x), 1e-9)


def test_streaming_sums_are_the_sums():
    """Weights that rise by hundreds of nats, in uneven blocks, some not counted, the first block without any weight."""
    rng = np.random.default_rng(10)
    log_w = rng.normal(0, 3, (23, 4)) + np.linspace(-900, 900, 23)[:, None]
    log_w[:5] = -np.inf
    log_w[20:, 3] = -np.inf
    state = stream.start(4, np.zeros(()), np)
    for first in range(0, 25, 5):
        block = np.concatenate([log_w, np.full((2, 4), 1e6)])[first : first + 5]
        state = stream.fold(state, block, (np.arange(first, first + 5) < 23)[:, None], np)
    found = stream.weighed(state, 23)
    known = np.logaddexp.reduce(log_w) - np.log(23)
    close(found.log_p, known, 1e-12)
    w = np.exp(log_w - log_w.max(0))
    close(found.effective, w.sum(0) ** 2 / (w**2).sum(0), 1e-12)
    close(found.standard_error, w.std(0, ddof=1) / w.mean(0) / np.sqrt(23), 1e-9)
    assert (found.elbo == -np.inf).all()
    finite = rng.normal(size=(6, 2))
    state = stream.fold(stream.start(2, np.zeros(()), np), finite, np.ones((6, 1), bool), np)
    close(stream.weighed(state, 6).elbo, finite.mean(0), 1e-12)


@each_engine
def test_the_chunk_changes_no_distribution(engine: str):
    params, x = analysis(7, seed=5)
    fit = trained(bind(Wide(4, 2), engine), params, x, engine)
    runs = [log_likelihood_rows(fit, num_samples=400, chunk=chunk, seed=chunk, **DOUBLE) for chunk in (3, 70)]
    for run in runs[1:]:
        spread = np.hypot(run.standard_error, runs[0].standard_error)
        assert (abs(run.log_likelihood - runs[0].log_likelihood) < 5 * spread).all()
        close(run.standard_error / runs[0].standard_error, np.ones(7), 0.4)
    again = log_likelihood_rows(fit, num_samples=400, chunk=70, seed=70, **DOUBLE)
    assert (again.log_likelihood == runs[1].log_likelihood).all()


@each_engine
def test_kl_and_active_units_of_a_vae(engine: str):
    rng = np.random.default_rng(6)
    x, declaration = rng.normal(0, 2, (9, 5)), VAE(5, 3, (4,), Normal(0.7))
    params = random_params(declaration, x, rng)
    # The second dimension follows its prior, so that it says nothing of x.
    params["encoder.1.weight"][:, [1, 4]], params["encoder.1.bias"][[1, 4]] = 0.0, 0.0
    h = np.logaddexp(0, x @ params["encoder.0.weight"] + params["encoder.0.bias"])
    h = h @ params["encoder.1.weight"] + params["encoder.1.bias"]
    mean, log_variance = h[:, :3], h[:, 3:]
    found = evaluate(trained(declaration, params, x, engine), num_samples=2, **DOUBLE)
    close(found.kl["z"], 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).mean(0), 1e-9)
    close(found.variances["z"], mean.var(0), 1e-9)
    assert found.kl["z"][1] < 1e-12
    assert found.active_units == {"z": 2}
    text = json.loads(to_json(found))
    assert text["kl"]["z"][0] == found.kl["z"][0]
    assert set(text["log_likelihood"]) == {"value", "low", "high"}


@each_engine
def test_units_of_a_second_layer_are_not_active_by_noise_alone(engine: str):
    rng = np.random.default_rng(7)
    x = rng.integers(0, 2, (60, 5)).astype(float)
    declaration = SigmoidBeliefNet(5, 3, num_layers=2)
    params = random_params(declaration, x, rng)
    params["encoder.0.weight"][:] = 0  # z1 and z2 know nothing of x, but z2 follows z1 closely
    params["encoder.0.bias"][:] = 0
    params["encoder2.0.weight"] = 6 * np.eye(3)
    params["encoder2.0.bias"] = np.full(3, -3.0)
    latents = usage(engine_latents(engine, declaration, params, x))
    assert latents["active_units"] == {"z1": 0, "z2": 0}


def engine_latents(engine: str, declaration: Any, params: dict, x: np.ndarray) -> Any:
    work = import_module(f"inference.evaluate._{engine}")
    with shared(engine).session("float64", "cpu"):
        return work.latents(*bind(declaration, engine), params, (x,), 0, DRAWS)


@each_engine
def test_a_joint_kl_is_one_number(engine: str):
    params, x = analysis()
    found = usage(engine_latents(engine, FactorAnalysis(4, 2), params, x))
    mean, covariance = posterior(params, x)
    kl = 0.5 * (np.trace(covariance) + (mean**2).sum(1) - 2 - np.log(np.linalg.det(covariance)))
    close(found["kl"]["z"], kl.mean(), 1e-9)
    rng = np.random.default_rng(8)
    mixture = GaussianMixture(4, 3, "diagonal")
    weights = random_params(mixture, x, rng)
    whole = usage(engine_latents(engine, mixture, weights, x))
    joint = np.stack([
        stats.norm(loc, scale).logpdf(x).sum(1) for loc, scale in zip(weights["locs"], weights["scale"], strict=True)
    ], 1) + weights["logits"]  # fmt: skip
    log_q = joint - np.logaddexp.reduce(joint, 1)[:, None]
    log_p = weights["logits"] - np.logaddexp.reduce(weights["logits"])
    close(whole["kl"]["assignment"], (np.exp(log_q) * (log_q - log_p)).sum(1).mean(), 1e-9)
    assert "assignment" not in whole["active_units"]


def test_the_interval_covers_the_mean_over_rows():
    """Rows from a known model: 95 % intervals for E[log p(x)] cover it as often as they say, with sampling error inside."""
    params, _ = analysis(seed=9)
    rng = np.random.default_rng(9)
    covariance = params["loading"] @ params["loading"].T + np.diag(params["scale"] ** 2)
    truth = -0.5 * (4 * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + 4)  # minus the entropy
    covered, runs, rows = 0, 60, 50
    x = rng.multivariate_normal(params["loc"], covariance, size=runs * rows)
    fit = trained(bind(Wide(4, 2), "numpyro"), params, x, "numpyro")
    found = log_likelihood_rows(fit, num_samples=50, chunk=6_000, **DOUBLE)
    for log_p, error in zip(*(part.reshape(runs, rows) for part in found), strict=True):
        estimate = mean(log_p)
        covered += estimate.low <= truth <= estimate.high
        parts = errors(log_p, error)
        assert np.hypot(parts["standard_error_sampling"], parts["standard_error_rows"]) >= 0.99 * log_p.std() / np.sqrt(rows)
    assert stats.binom.cdf(covered, runs, 0.95) > 1e-3, covered


@each_engine
def test_an_auxiliary_loss_of_the_guide_is_no_part_of_the_density(engine: str):
    params, x = analysis()

    @dataclass(frozen=True)
    class Pushed(FactorAnalysis):
        def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
            with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
                ppl.sample("z", self.posterior(ppl, x))
                ppl.factor("auxiliary", 3.0 * x[..., 0])

    fit = trained(bind(Pushed(4, 2), engine), params, x, engine)
    close(log_likelihood_rows(fit, num_samples=3, **DOUBLE).log_likelihood, evidence(params, x), 1e-9)


@each_engine
def test_what_cannot_be_judged_is_refused_in_one_sentence(engine: str):
    params, x = analysis()
    fit = trained(FactorAnalysis(4, 2), params, x, engine)
    for wrong in ({"num_samples": 0}, {"rows": 0}, {"chunk": 1.5}, {"dtype": "float16"}, {"seed": -1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            evaluate(fit, **wrong)  # type: ignore[arg-type]
    broken = trained(FactorAnalysis(4, 2), params | {"loc": np.full(4, np.nan)}, x, engine)
    with pytest.raises(NumericalError, match="held-out row 0"):
        log_likelihood_rows(broken, num_samples=2, **DOUBLE)

    ppl = import_module(f"ppl_models._{engine}")

    def model(x: Any, total: int | None = None) -> None:
        mean = ppl.sample("mean", ppl.dist.Normal(ppl.xp.zeros(()), 1.0))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("x", ppl.dist.Normal(mean[..., None] + ppl.xp.zeros(4), 1.0).to_event(1), obs=x)

    def guide(x: Any, total: int | None = None) -> None:
        ppl.sample("mean", ppl.dist.Normal(ppl.xp.zeros(()), 1.0))

    with pytest.raises(InputError, match="'mean' outside it"):
        evaluate(trained(Bound(model, guide), {}, x, engine), num_samples=2, **DOUBLE)


def test_rows_and_card_are_stated():
    params, x = analysis()
    found = evaluate(trained(FactorAnalysis(4, 2), params, x, "pyro"), num_samples=2, rows=3, **DOUBLE)
    assert isinstance(found, Evaluation)
    assert found.rows == 3
    assert found.binarisation == "not binarised"
